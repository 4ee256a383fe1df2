"""What the lake and the broker say of the state of things: rows, freshness, lag, health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from delta.tables import DeltaTable
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.guard import input_topics
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError
from pipelines.silver import quarantine
from pipelines.tables import LAYERS, TABLES
from pipelines.topics import end_offsets

UNHEALTHY_SECONDS = 300
"""A stream that is behind and has done nothing for this long is unhealthy."""


@dataclass(frozen=True)
class TableFacts:
    """How much a table holds, and how fresh it is; None where there is no table yet."""

    table: Table
    rows: int | None
    fresh_until: datetime | None
    """Greatest value of the table's freshness column, or the time of its last commit (UTC)."""


@dataclass(frozen=True)
class StreamFacts:
    """Where a layer's stream stands."""

    layer: str
    lag_records: int | None
    """Records of the source that it has not taken; None: unknown."""
    last_batch: int | None
    last_batch_at: datetime | None
    health: str
    """`ok`, `behind` (working on it), `stalled`, `never started` or `source unreachable`."""


def table_facts(lake: Lake, table: Table) -> TableFacts:
    """Rows and freshness, mostly from the files' statistics."""
    if not lake.exists(table):
        return TableFacts(table, None, None)
    frame = lake.read(table)
    if table.freshness:
        row = frame.agg(F.count("*"), F.max(table.freshness)).first()
        return TableFacts(table, row[0] if row else 0, row[1] if row else None)
    last = DeltaTable.forPath(lake.spark, lake.path(table)).history(1).select("timestamp").first()
    return TableFacts(table, frame.count(), last[0] if last else None)


def stream_facts(lake: Lake, config: Config) -> list[StreamFacts]:
    """Every layer, in order of flow."""
    return [_stream(lake, config, layer) for layer in LAYERS]


def _stream(lake: Lake, config: Config, layer: str) -> StreamFacts:
    batch, at = last_batch(lake, layer)
    if batch is None:
        return StreamFacts(layer, None, None, None, "never started")
    try:
        lag = _kafka_lag(lake, config, batch) if layer == "bronze" else _delta_lag(lake, layer, batch)
    except ReelhouseError:
        return StreamFacts(layer, None, batch, at, "source unreachable")
    stale = at is not None and datetime.now(timezone.utc) - at > timedelta(seconds=UNHEALTHY_SECONDS)
    health = "ok" if not lag else "stalled" if stale else "behind"
    return StreamFacts(layer, lag, batch, at, health)


def _kafka_lag(lake: Lake, config: Config, batch: int) -> int:
    """End offsets of the topics less what the last batch reached."""
    reached = offsets(lake, "bronze", batch)[0]
    ends = end_offsets(config)
    topics = input_topics(config) or list(reached)
    taken = {topic: reached.get(topic, {}) for topic in topics}
    return sum(
        max(0, end - int(taken[topic].get(str(partition), 0)))
        for topic in topics
        for partition, end in ends.get(topic, {}).items()
    )


def _delta_lag(lake: Lake, layer: str, batch: int) -> int:
    """Records in the commits of the source tables that the last batch did not reach."""
    lag = 0
    for offset in offsets(lake, layer, batch):
        table = next(t for t in TABLES if _table_id(lake, t) == offset["reservoirId"])
        history = DeltaTable.forPath(lake.spark, lake.path(table)).history(200)
        # The offset names the next version to read, from its first file (-100) on.
        later = history.where(
            (F.col("version") >= offset["reservoirVersion"]) & (F.col("operation") != "OPTIMIZE")
        )
        added = F.try_element_at("operationMetrics", F.lit("numOutputRows")).try_cast("bigint")
        row = later.agg(F.sum(added)).first()
        lag += int(row[0] or 0) if row and offset["index"] < 0 else 0
    return lag


def _table_id(lake: Lake, table: Table) -> str | None:
    if not lake.exists(table):
        return None
    row = DeltaTable.forPath(lake.spark, lake.path(table)).detail().select("id").first()
    return str(row[0]) if row else None


def quarantined(lake: Lake) -> int:
    """Records in quarantine that are not released."""
    if not lake.exists(quarantine.TABLE):
        return 0
    return lake.read(quarantine.TABLE).where("released_at IS NULL").count()
