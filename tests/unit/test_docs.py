"""What the docs say is what the code says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.docs import LINEAGE_FILE, TABLES_FILE, lineage_page, tables_page
from pipelines.engine.lineage import lineage
from pipelines.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_the_page_of_tables_is_fresh() -> None:
    assert TABLES_FILE.read_text(encoding="utf-8") == tables_page(), "run make docs"


def test_the_page_of_lineage_is_fresh(spark: SparkSession) -> None:
    assert LINEAGE_FILE.read_text(encoding="utf-8") == lineage_page(spark), "run make docs"


def test_lineage_follows_unions_windows_and_joins(spark: SparkSession) -> None:
    found = lineage(spark)
    assert found["gold.media_catalog"]["first_play_at"] == ["silver.user_actions.occurred_at"]
    watched = {source.rpartition(".")[2] for source in found["gold.media_daily"]["watch_seconds"]}
    assert {"action", "occurred_at", "position_seconds", "duration_seconds"} <= watched
    assert "silver.content_uploads.duration_seconds" in found["gold.playbacks"]["is_completed"]
    assert found["gold.playbacks"]["region"] == ["silver.user_actions.region"]
    assert found["gold.media_daily"]["plays"] == []


def test_tables_may_be_keys_of_mappings() -> None:
    assert len({table: table.full_name for table in TABLES}) == len(TABLES)


def test_every_table_and_column_has_a_comment() -> None:
    for table in TABLES:
        assert table.comment
        assert all(column.comment for column in table.columns), table.full_name
        assert set(table.keys) <= set(table.column_names)
