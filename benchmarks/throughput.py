"""A backlog through bronze and silver, as a share of Spark's own Kafka → noop rate in the same run, warm.

Beside it what Spark itself needs in silver's place, when nothing is checked and no copy is looked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.setup import running_broker, with_root, write_actions
from pipelines.bronze import events
from pipelines.config import Config
from pipelines.contracts.decode import struct_name, struct_type
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.kafka_clients import spark_options
from pipelines.produce import produce
from pipelines.session import open_session
from pipelines.silver import user_actions


def measure(folder: Path) -> None:
    """Print the rates (records/s) and their ratios."""
    count = int(os.environ.get("REELHOUSE_BENCH_EVENTS", "3000000"))
    with running_broker(folder) as config:
        write_actions(folder / "events.ndjson", count)
        print(f"{produce(config, [folder / 'events.ndjson']).count:,} records published")
        spark = open_session(config, "throughput")
        reader = spark.read.format("kafka").options(**spark_options(config))
        records = reader.option("subscribe", config.kafka.topics.user_actions).load()
        steps: dict[str, Callable[[Config], None]] = {
            "Kafka to noop": lambda _: records.write.format("noop").mode("overwrite").save(),
            "bronze": lambda lake: Streams(spark, lake, ["bronze"], lambda _: None).run(available_now=True),
            "silver": lambda lake: Streams(spark, lake, ["silver"], lambda _: None).run(available_now=True),
            "from_json and Delta": lambda lake: _unchecked(spark, lake),
        }
        for root in ("warm", "lake"):
            seconds = {name: _timed(step, with_root(config, folder / root)) for name, step in steps.items()}
    for name, taken in seconds.items():
        print(f"{name}: {count / taken:,.0f} records/s")
    noop, bronze, silver, unchecked = seconds.values()
    print(f"bronze and silver: {noop / (bronze + silver):.2f} of Kafka to noop")
    print(f"bronze, and from_json and Delta for silver: {noop / (bronze + unchecked):.2f} of Kafka to noop")


def _timed(step: Callable[[Config], None], config: Config) -> float:
    began = time.monotonic()
    step(config)
    return time.monotonic() - began


def _unchecked(spark: SparkSession, config: Config) -> None:
    """The rows of `silver.user_actions` by Spark's own parser, into a table of another lake."""
    event_type = user_actions.EVENT_TYPE
    event = F.from_json(F.col("value").cast("string"), struct_type(event_type))
    parsed = Lake.of(spark, config).read(events.TABLE).withColumn(struct_name(event_type), event)
    read = F.col(struct_name(event_type))
    given = {
        "event_type": F.lit(event_type),
        "schema_version": read["schemaVersion"].cast("int"),
        "event_id": read["eventId"],
        "occurred_at": read["timestamp"],
    }
    other = Lake(spark, f"{config.storage.location}-unchecked")
    other.create([user_actions.TABLE])
    other.append(user_actions.TABLE, user_actions.user_actions(parsed.withColumns(given)))
