"""Where each layer's stream stands: how far behind its source it is, how fast, and whether it is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from delta.tables import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets, sources, started_at
from pipelines.engine.guard import input_topics
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import spark_options
from pipelines.tables import LAYERS
from pipelines.topics import end_offsets, oldest_time

UNHEALTHY_SECONDS = 300
"""A stream that is behind and has done nothing for this long is unhealthy."""
_COMMITS_ASKED = 1000


@dataclass(frozen=True)
class Lag:
    """What a stream has not taken of its source."""

    records: int
    seconds: int | None
    """Since the source got ahead of the stream: of bronze, the age of the oldest record it has not taken.

    None: unknown.
    """


@dataclass(frozen=True)
class StreamFacts:
    """Where a layer's stream stands; None: unknown."""

    layer: str
    health: str
    """`ok`, `behind` (working on it), `stalled`, `never started`, `source unreachable` or `source lost`."""
    lag: Lag | None = None
    last_batch: int | None = None
    last_batch_at: datetime | None = None
    last_batch_records: int | None = None
    last_batch_rate: float | None = None
    """Records a second of the last batch."""


_Source = tuple[DataFrame, int, int]
"""Rows `added` by commit of a source table, the batch's first version, and the one after its last."""


def stream_facts(lake: Lake, config: Config) -> list[StreamFacts]:
    """Every layer, in order of flow."""
    return [_stream(lake, config, layer) for layer in LAYERS]


def _stream(lake: Lake, config: Config, layer: str) -> StreamFacts:
    batch, at = last_batch(lake, layer)
    if batch is None or at is None:
        return StreamFacts(layer, "never started")
    began = started_at(lake, layer, batch)
    try:
        read = [] if layer == "bronze" else list(_sources(lake, layer, batch))
    except ReelhouseError:
        return StreamFacts(layer, "source lost", None, batch, at)
    records = _kafka_taken(lake, batch) if layer == "bronze" else _delta_taken(read)
    rate = records / max(0.001, (at - began).total_seconds()) if began else None
    try:
        lag = _kafka_lag(lake, config, batch) if layer == "bronze" else _delta_lag(read)
    except ReelhouseError:
        return StreamFacts(layer, "source unreachable", None, batch, at, records, rate)
    stale = datetime.now(timezone.utc) - at > timedelta(seconds=UNHEALTHY_SECONDS)
    # What comes after a quiet time has waited for seconds only.
    stale = stale and (lag.seconds is None or lag.seconds > UNHEALTHY_SECONDS)
    health = "ok" if not lag.records else "stalled" if stale else "behind"
    return StreamFacts(layer, health, lag, batch, at, records, rate)


def _kafka_lag(lake: Lake, config: Config, batch: int) -> Lag:
    """End offsets of the topics less what the last batch reached."""
    reached = offsets(lake, "bronze", batch)[0]
    topics = input_topics(config) or list(reached)
    ends = end_offsets(config, topics)
    behind: dict[tuple[str, int], int] = {}
    records = 0
    for topic in topics:
        for partition, end in ends.get(topic, {}).items():
            taken = int(reached.get(topic, {}).get(str(partition), 0))
            if end > taken:
                records += end - taken
                behind[topic, partition] = taken
    return Lag(records, _seconds_since(_oldest(lake, config, behind)) if records else 0)


def _oldest(lake: Lake, config: Config, offsets: dict[tuple[str, int], int]) -> float | None:
    """The earliest time (seconds since 1970) of the records at these offsets; None: unknown."""
    found = oldest_time(config, offsets)
    return _oldest_by_spark(lake, config, offsets) if found is None else found


def _oldest_by_spark(lake: Lake, config: Config, offsets: dict[tuple[str, int], int]) -> float | None:
    """The same by Spark's client, which takes seconds longer and reads every compression."""
    begin: dict[str, dict[str, int]] = {}
    end: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in offsets.items():
        begin.setdefault(topic, {})[str(partition)] = offset
        end.setdefault(topic, {})[str(partition)] = offset + 1
    kafka = lake.spark.read.format("kafka").options(**spark_options(config))
    kafka = kafka.option("assign", json.dumps({topic: [*map(int, of)] for topic, of in begin.items()}))
    kafka = kafka.option("startingOffsets", json.dumps(begin)).option("endingOffsets", json.dumps(end))
    # A record that has expired meanwhile has no time.
    records = kafka.option("failOnDataLoss", "false").load()
    row = records.agg(F.unix_millis(F.min("timestamp"))).first()
    return None if row is None or row[0] is None else row[0] / 1000


def _kafka_taken(lake: Lake, batch: int) -> int:
    """Records of a batch: how far its offsets went beyond those of the batch before."""
    reached = offsets(lake, "bronze", batch)[0]
    before = offsets(lake, "bronze", batch - 1)[0] if batch else {}
    return sum(
        int(end) - int(before.get(topic, {}).get(partition, 0))
        for topic, ends in reached.items()
        for partition, end in ends.items()
    )


def _delta_lag(read: list[_Source]) -> Lag:
    """Records in the commits of the source tables that the last batch did not reach to the end."""
    records, oldest = 0, None
    for commits, _, reached in read:
        later = commits.where((F.col("version") >= reached) & (F.col("added") > 0))
        row = later.agg(F.sum("added"), F.unix_seconds(F.min("timestamp"))).first()
        if row and row[0]:
            records, oldest = records + int(row[0]), min(oldest or row[1], row[1])
    return Lag(records, _seconds_since(oldest) if records else 0)


def _delta_taken(read: list[_Source]) -> int:
    """Records of a batch: those of the commits that it reached and the batch before it did not."""
    records = 0
    for commits, first, reached in read:
        row = commits.where(F.col("version").between(first, reached - 1)).agg(F.sum("added")).first()
        records += int(row[0] or 0) if row else 0
    return records


def _sources(lake: Lake, layer: str, batch: int) -> Iterator[_Source]:
    before = sources(lake, layer, batch - 1)
    for table, offset in sources(lake, layer, batch).items():
        history = DeltaTable.forPath(lake.spark, lake.path(table)).history(_COMMITS_ASKED)
        added = F.try_element_at("operationMetrics", F.lit("numOutputRows")).try_cast("bigint")
        rows = F.when(F.col("operation") == "OPTIMIZE", 0).otherwise(added).alias("added")
        commits = history.select("version", "timestamp", rows)
        yield commits, before[table].version if table in before else 0, offset.version


def _seconds_since(moment: float | None) -> int | None:
    return None if moment is None else max(0, int(datetime.now(timezone.utc).timestamp()) - int(moment))
