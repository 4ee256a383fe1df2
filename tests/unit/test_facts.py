"""How fresh a table is, whichever rows are the newest, without reading its history."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.bronze import events
from pipelines.declare import Table
from pipelines.engine import facts
from pipelines.engine.lake import Lake
from pipelines.silver import user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LONG_AGO, NOW = datetime(2026, 1, 1), datetime.now(timezone.utc)
OLD, NEW, NEWEST = (datetime(2026, 1, day, 12) for day in (3, 4, 5))


def _append(lake: Lake, table: Table, recorded: datetime, ingested: datetime, day: datetime) -> None:
    given = {"timestamp": recorded, "record_timestamp": recorded, "ingested_at": ingested}
    given |= {"occurred_at": day, "event_date": day.date()}
    row = tuple(given.get(name) for name in table.column_names)
    lake.append(table, lake.spark.createDataFrame([row], table.schema()))


@pytest.mark.parametrize("table", [events.TABLE, user_actions.TABLE], ids=lambda t: t.full_name)
@pytest.mark.parametrize("newest_is", ["where it is likely", "elsewhere"])
def test_freshness_is_told_without_the_files_of_old_rows(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table, newest_is: str
) -> None:
    monkeypatch.setattr(facts, "_FEW_ROWS", 0)
    lake = Lake(spark, str(tmp_path))
    lake.create([table])
    _append(lake, table, OLD, LONG_AGO, OLD)
    for file in Path(lake.path(table)).rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            file.unlink()  # whoever reads it fails
    likely, elsewhere = (NEWEST, NEW) if newest_is == "where it is likely" else (NEW, NEWEST)
    _append(lake, table, elsewhere, LONG_AGO, OLD)
    _append(lake, table, likely, NOW, NEW)
    assert facts.table_facts(lake, table) == facts.TableFacts(table, 3, NEWEST)


def test_freshness_is_told_where_no_row_was_written_lately(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_FEW_ROWS", 0)
    lake, table = Lake(spark, str(tmp_path)), events.TABLE
    lake.create([table])
    assert facts.table_facts(lake, table) == facts.TableFacts(table, 0, None)
    for recorded in (NEWEST, NEW):
        _append(lake, table, recorded, NOW - timedelta(days=1), NEW)
    assert facts.table_facts(lake, table) == facts.TableFacts(table, 2, NEWEST)
