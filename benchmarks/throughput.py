"""A backlog through bronze and silver, as a share of Spark's own Kafka → noop rate in the same run, warm."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.setup import running_broker, with_root, write_actions
from pipelines.config import Config
from pipelines.engine.stream import Streams
from pipelines.kafka_clients import spark_options
from pipelines.produce import produce
from pipelines.session import open_session


def measure(folder: Path) -> None:
    """Print the rates (records/s) and their ratio."""
    count = int(os.environ.get("REELHOUSE_BENCH_EVENTS", "3000000"))
    with running_broker(folder) as config:
        write_actions(folder / "events.ndjson", count)
        print(f"{produce(config, [folder / 'events.ndjson']).count:,} records published")
        spark = open_session(config, "throughput")
        reader = spark.read.format("kafka").options(**spark_options(config))
        records = reader.option("subscribe", config.kafka.topics.user_actions).load()

        def noop() -> float:
            began = time.monotonic()
            records.write.format("noop").mode("overwrite").save()
            return count / (time.monotonic() - began)

        noop()
        _drain(with_root(config, folder / "warm"), count)
        plain = noop()
        rounds = _drain(with_root(config, folder / "lake"), count)
        both = count / sum(rounds.values())
        for layer, seconds in rounds.items():
            print(f"{layer}: {count / seconds:,.0f} records/s")
        print(f"Kafka to noop: {plain:,.0f}/s; bronze and silver: {both:,.0f}/s; ratio {both / plain:.2f}")


def _drain(config: Config, count: int) -> dict[str, float]:
    spark = open_session(config, "throughput")
    seconds = {}
    for layer in ("bronze", "silver"):
        began = time.monotonic()
        Streams(spark, config, [layer], lambda _: None).run(available_now=True)
        seconds[layer] = time.monotonic() - began
    return seconds
