"""What the docs say is what the code says."""

from __future__ import annotations

from pipelines.docs import FILE, tables_page
from pipelines.tables import TABLES


def test_the_page_of_tables_is_fresh() -> None:
    assert FILE.read_text(encoding="utf-8") == tables_page(), "run make docs"


def test_every_table_and_column_has_a_comment() -> None:
    for table in TABLES:
        assert table.comment
        assert all(column.comment for column in table.columns), table.full_name
        assert set(table.keys) <= set(table.column_names)
