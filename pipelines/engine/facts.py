"""What the tables hold: rows, freshness, what is in quarantine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.contracts.decode import record_time
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.silver import quarantine

_FEW_ROWS = 100_000
"""Up to so many rows (count) reading all of a table is sooner done than finding out where to look."""
_LATELY = "INTERVAL 1 HOUR"
"""Before the last commit: what was written since is likely to be the newest."""


@dataclass(frozen=True)
class TableFacts:
    """How much a table holds, and how fresh it is; None where there is no table yet."""

    table: Table
    rows: int | None
    fresh_until: datetime | None
    """Greatest value of the table's freshness column, or the time of its last commit (UTC)."""


def table_facts(lake: Lake, table: Table) -> TableFacts:
    """Rows by the files' statistics, and freshness, for which few files of a large table are read."""
    if not lake.exists(table):
        return TableFacts(table, None, None)
    frame = lake.read(table)
    rows = frame.count()  # alone: with a time beside it every file would be read
    if not table.freshness:
        return TableFacts(table, rows, _last_commit(lake, table))
    if rows <= _FEW_ROWS:
        return TableFacts(table, rows, _greatest(frame, table.freshness))
    return TableFacts(table, rows, _newest(frame, table.freshness, _is_likely(lake, table, frame)))


def _newest(frame: DataFrame, time: str, is_likely: Column) -> datetime | None:
    """The greatest value of a time: by the rows that are likely to have it, then by files that tell more.

    Those are few, for times grow with the table; all are read where none of the rows is likely.
    """
    found = _greatest(frame.where(is_likely), time)
    later = frame if found is None else frame.where(F.col(time) > F.lit(found))
    return _greatest(later, time) or found


def _is_likely(lake: Lake, table: Table, frame: DataFrame) -> Column:
    """The rows of the newest day; of a table that is not split into days, what was written last."""
    if "event_date" in table.partition_cols:
        newest = frame.agg(F.max("event_date")).first()
        return F.col("event_date") == F.lit(newest[0] if newest else None)
    written = "ingested_at" if "ingested_at" in table.column_names else table.freshness
    return F.col(str(written)) >= F.lit(_last_commit(lake, table)) - F.expr(_LATELY)


def _greatest(frame: DataFrame, time: str) -> datetime | None:
    row = frame.agg(F.max(record_time(time))).first()
    return row[0] if row else None


def _last_commit(lake: Lake, table: Table) -> datetime | None:
    at = lake.written_at(table, lake.version(table))
    return at and at.replace(tzinfo=None)  # as Spark's rows have times


def quarantined(lake: Lake) -> int:
    """Records in quarantine that are not released."""
    if not lake.exists(quarantine.TABLE):
        return 0
    return lake.read(quarantine.TABLE).where("released_at IS NULL").count()
