"""What the tables hold: rows, freshness, what is in quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from delta.tables import DeltaTable
from pyspark.sql import functions as F

from pipelines.contracts.decode import record_time
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.silver import quarantine


@dataclass(frozen=True)
class TableFacts:
    """How much a table holds, and how fresh it is; None where there is no table yet."""

    table: Table
    rows: int | None
    fresh_until: datetime | None
    """Greatest value of the table's freshness column, or the time of its last commit (UTC)."""


def table_facts(lake: Lake, table: Table) -> TableFacts:
    """Rows and freshness, mostly from the files' statistics."""
    if not lake.exists(table):
        return TableFacts(table, None, None)
    frame = lake.read(table)
    if table.freshness:
        row = frame.agg(F.count("*"), F.max(record_time(table.freshness))).first()
        return TableFacts(table, row[0] if row else 0, row[1] if row else None)
    last = DeltaTable.forPath(lake.spark, lake.path(table)).history(1).select("timestamp").first()
    return TableFacts(table, frame.count(), last[0] if last else None)


def quarantined(lake: Lake) -> int:
    """Records in quarantine that are not released."""
    if not lake.exists(quarantine.TABLE):
        return 0
    return lake.read(quarantine.TABLE).where("released_at IS NULL").count()
