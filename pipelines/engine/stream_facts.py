"""Where each layer's stream stands: how far behind its source it is, how fast, and whether it is well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.checkpoint import last_batch, offsets, sources, started_at
from pipelines.engine.lake import Lake
from pipelines.engine.locks import holder
from pipelines.engine.source_topics import topics_of_bronze
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import spark_options
from pipelines.tables import LAYERS
from pipelines.topics import end_offsets, first_offsets, oldest_time

UNHEALTHY_SECONDS = 300
"""A stream that is behind and whose process has done nothing for this long is unhealthy."""
_MOST_COMMITS = 1000
"""Of a source table's log that are read (count): each is a file."""
_NEWEST_COMMITS = 10
"""Of bronze's log, among which its last batch is (count): little else writes there."""


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
    """`ok`, `behind` (its process is at work), `stalled`, `never started`, `source unreachable` or
    `source lost`."""
    lag: Lag | None = None
    last_batch: int | None = None
    last_batch_at: datetime | None = None
    last_batch_records: int | None = None
    last_batch_rate: float | None = None
    """Records a second of the last batch."""


class _Source(NamedTuple):
    """A table that a stream reads, and what of it the last batch read."""

    table: Table
    first: int
    """The batch's first version."""
    reached: int
    """The version after the batch's last."""
    commits: DataFrame
    """Of the newest commits each one's `version`, `timestamp`, and rows `added`."""
    begin: int
    """The first version among them."""


def stream_facts(lake: Lake, config: Config) -> list[StreamFacts]:
    """Every layer, in order of flow."""
    idle = _idle_layers(lake)
    return [_stream(lake, config, layer, layer in idle) for layer in LAYERS]


def _idle_layers(lake: Lake) -> set[str]:
    """Those whose process has begun and ended no batch for long, of any layer: its layers take turns."""
    since = datetime.now(timezone.utc) - timedelta(seconds=UNHEALTHY_SECONDS)
    # Where there is no lock nobody is known: each layer then is its own.
    holders = {layer: holder(lake, layer) or layer for layer in LAYERS}
    at_work = {holders[layer] for layer in LAYERS if any(at > since for at in _activity(lake, layer))}
    return {layer for layer in LAYERS if holders[layer] not in at_work}


def _activity(lake: Lake, layer: str) -> Iterator[datetime]:
    """When batches of the layer began and ended (UTC)."""
    for folder in ("offsets", "commits"):
        yield from lake.files_of(f"{lake.checkpoint(layer)}/{folder}").values()


def _stream(lake: Lake, config: Config, layer: str, is_idle: bool) -> StreamFacts:
    batch, at = last_batch(lake, layer)
    if batch is None or at is None:
        return StreamFacts(layer, "never started" if is_idle else "behind")
    began = started_at(lake, layer, batch)
    try:
        read = [] if layer == "bronze" else list(_sources(lake, layer, batch))
        records = _written(lake, batch) if layer == "bronze" else _delta_taken(lake, read)
    except ReelhouseError:
        return StreamFacts(layer, "source lost", None, batch, at)
    rate = records / max(0.001, (at - began).total_seconds()) if began and records is not None else None
    try:
        lag = _kafka_lag(lake, config, batch) if layer == "bronze" else _delta_lag(lake, read)
    except ReelhouseError:
        return StreamFacts(layer, "source unreachable", None, batch, at, records, rate)
    # What comes after a quiet time has waited for seconds only.
    stale = is_idle and (lag.seconds is None or lag.seconds > UNHEALTHY_SECONDS)
    health = "ok" if not lag.records else "stalled" if stale else "behind"
    return StreamFacts(layer, health, lag, batch, at, records, rate)


def _kafka_lag(lake: Lake, config: Config, batch: int) -> Lag:
    """End offsets of the topics less what the last batch reached."""
    reached = offsets(lake, "bronze", batch)[0]
    topics = topics_of_bronze(lake, config)
    ends, firsts = end_offsets(config, topics), first_offsets(config, topics)
    behind: dict[tuple[str, int], int] = {}
    records = 0
    for topic in topics:
        for partition, end in ends.get(topic, {}).items():
            # What has expired, also before bronze began, can no longer be taken.
            taken = max(int(reached.get(topic, {}).get(str(partition), 0)), firsts[topic][partition])
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


def _written(lake: Lake, batch: int) -> int | None:
    """Records of a batch of bronze, by its commit; None: it is not among the newest."""
    if not lake.exists(events.TABLE):
        return None
    commits = _commits(lake, events.TABLE, _NEWEST_COMMITS).where(F.col("epoch") == batch)
    row = commits.orderBy(F.desc("version")).first()
    return None if row is None else int(row["added"] or 0)


def _delta_lag(lake: Lake, read: list[_Source]) -> Lag:
    """Records in the commits of the source tables that the last batch did not reach to the end."""
    behind = [(source, n) for source in read if (n := _added(lake, source, source.reached))]
    oldest = min((_ahead_since(lake, source) for source, _ in behind), default=None)
    return Lag(sum(n for _, n in behind), _seconds_since(oldest) if behind else 0)


def _delta_taken(lake: Lake, read: list[_Source]) -> int:
    """Records of a batch: those of the commits that it reached and the batch before it did not."""
    return sum(_added(lake, source, source.first, source.reached) for source in read)


def _added(lake: Lake, source: _Source, first: int, end: int | None = None) -> int:
    """Rows that commits have added, from a version to before another, or to the newest (count)."""
    if first < source.begin:
        return _held(lake, source.table, end) - _held(lake, source.table, first)
    versions = F.col("version") >= first
    wanted = versions if end is None else versions & (F.col("version") < end)
    row = source.commits.where(wanted).agg(F.sum("added")).first()
    return int(row[0] or 0) if row else 0


def _held(lake: Lake, table: Table, before: int | None) -> int:
    """Rows of a table before a version of it, or now (count), from the statistics of its files.

    Raises ReelhouseError (`source_lost`) when its log does not go back so far.
    """
    if before == 0:
        return 0
    try:
        return lake.read(table, None if before is None else before - 1).count()
    except AnalysisException as error:
        message = f"the log of {table.full_name} no longer has version {before}"
        raise ReelhouseError(message, code="source_lost") from error


def _ahead_since(lake: Lake, source: _Source) -> float:
    """The time (seconds since 1970) of the first commit that the stream has not reached to the end."""
    if source.reached < source.begin:
        # Far behind it may as well be one without rows.
        written = lake.written_at(source.table, source.reached)
        assert written is not None  # the log keeps what a stream has yet to read
        return written.timestamp()
    later = source.commits.where((F.col("version") >= source.reached) & (F.col("added") > 0))
    row = later.agg(F.unix_seconds(F.min("timestamp"))).first()
    assert row is not None  # an aggregate has a row
    return row[0]


def _sources(lake: Lake, layer: str, batch: int) -> Iterator[_Source]:
    before = sources(lake, layer, batch - 1)
    for table, offset in sources(lake, layer, batch).items():
        first = before[table].version if table in before else 0
        newest = lake.version(table)
        begin = max(first, newest + 1 - _MOST_COMMITS)
        yield _Source(table, first, offset.version, _commits(lake, table, max(1, newest + 1 - begin)), begin)


def _commits(lake: Lake, table: Table, count: int) -> DataFrame:
    """Of the newest commits each one's `version`, `timestamp`, rows `added`, and `epoch`: bronze's batch."""
    added = F.try_element_at("operationMetrics", F.lit("numOutputRows")).try_cast("bigint")
    rows = F.when(F.col("operation") == "OPTIMIZE", 0).otherwise(added).alias("added")
    epoch = F.try_element_at("operationParameters", F.lit("epochId")).try_cast("bigint").alias("epoch")
    history = DeltaTable.forPath(lake.spark, lake.path(table)).history(count)
    return history.select("version", "timestamp", rows, epoch)


def _seconds_since(moment: float | None) -> int | None:
    return None if moment is None else max(0, int(datetime.now(timezone.utc).timestamp()) - int(moment))
