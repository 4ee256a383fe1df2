"""The time of a batch through silver and gold on many days of history, as a ratio to that on one day."""

from __future__ import annotations

import os
import statistics
import time
from datetime import timedelta
from pathlib import Path

from pyspark.sql import functions as F

from benchmarks.setup import START, running_broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.gold import media_catalog, playbacks
from pipelines.produce import produce
from pipelines.session import open_session
from pipelines.silver import user_actions
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS

_BATCHES, _BATCH = 8, 2000


def measure(folder: Path) -> None:
    """Print the median seconds of a round for both, and the ratio; the first rounds warm up."""
    days = int(os.environ.get("REELHOUSE_BENCH_DAYS", "30"))
    _round_seconds(folder / "warm", 1)
    few, many = _round_seconds(folder / "few", 1), _round_seconds(folder / "many", days)
    print(f"a round after 1 day: {few:.2f} s; after {days} days: {many:.2f} s; ratio {many / few:.2f}")


def _affected_users_seconds(lake: Lake, config: Config) -> float:
    """The way not taken: the playbacks of a batch's users from silver's last two days, unwritten."""
    began = time.monotonic()
    actions = lake.read(user_actions.TABLE)
    newest = actions.agg(F.max("event_date").alias("day"), F.max("ingested_at").alias("batch")).first()
    assert newest is not None
    near = actions.where(F.col("event_date") >= newest["day"] - timedelta(days=1))
    users = near.where(F.col("ingested_at") == newest["batch"]).select("user_id").distinct()
    touched = near.join(F.broadcast(users), "user_id", "left_semi")
    durations = lake.read(media_catalog.TABLE).where("duration_seconds IS NOT NULL")
    clock = playbacks.stream_clock(actions, config.stream.jitter_seconds)
    rows = playbacks.playbacks(touched, durations, clock)
    rows.write.format("noop").mode("overwrite").save()
    return time.monotonic() - began


def _round_seconds(folder: Path, days: int) -> float:
    folder.mkdir()
    write_simulation(folder, users=400, days=days + 1, seed=1, start=START - timedelta(days=days))
    lines = (folder / "events.ndjson").read_text().splitlines(keepends=True)
    history = len(lines) - _BATCHES * _BATCH
    with running_broker(folder) as config:
        spark = open_session(config, "growth")
        times = []
        for start in (0, *range(history, len(lines), _BATCH)):
            end = history if start == 0 else start + _BATCH
            (folder / "part.ndjson").write_text("".join(lines[start:end]))
            produce(config, [folder / "part.ndjson"])
            began = time.monotonic()
            Streams(spark, config, LAYERS, lambda _: None).run(available_now=True)
            times.append(time.monotonic() - began)
        other = statistics.median(_affected_users_seconds(Lake.of(spark, config), config) for _ in range(5))
        print(f"{history:,} records of history in {times[0]:.0f} s; the other way reads {other:.2f} s")
        return statistics.median(times[2:])
