"""Writes `docs/tables.md` and `docs/lineage.md` from declarations and definitions; tests keep them fresh."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import Config
from pipelines.declare import Measure, Rule, Table
from pipelines.engine.lineage import lineage
from pipelines.quality.measures import measures_of
from pipelines.quality.rules import row_rules
from pipelines.session import open_session
from pipelines.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLES_FILE, LINEAGE_FILE = _DOCS / "tables.md", _DOCS / "lineage.md"


def tables_page() -> str:
    """The page: every table with its grain, keys, and columns."""
    parts = ["# Tables\n\nWritten by `make docs`. Times are UTC. Paths: `<root>/<layer>/<table>`.\n"]
    for table in TABLES:
        keys = ", ".join(f"`{key}`" for key in table.keys)
        split = ", ".join(f"`{name}`" for name in table.partition_cols)
        parts.append(f"## {table.full_name}\n\n{table.comment}\n")
        parts.append(
            f"One row: {table.grain}. Unique by {keys}.{f' Partitioned by {split}.' if split else ''}\n"
        )
        rows = [f"| `{c.name}` | `{c.type}` | {c.comment} |" for c in table.columns]
        parts.append("\n".join(["| column | type | meaning |", "| --- | --- | --- |", *rows]) + "\n")
        checks = [f"| `{c.name}` | {c.severity} | {c.comment} |" for c in _checks(table)]
        parts.append("\n".join(["| check | severity | holds when |", "| --- | --- | --- |", *checks]) + "\n")
    return "\n".join(parts)


def _checks(table: Table) -> tuple[Rule | Measure, ...]:
    return (*row_rules(table), *measures_of(table))


def lineage_page(spark: SparkSession) -> str:
    """The page: every gold column with the silver columns that its values come from."""
    parts = [
        "# Lineage\n\nWritten by `make docs` from Spark's plans of the definitions: the silver columns that "
        "a value of gold is computed from. Columns that choose rows (filters, keys of joins) are left out.\n"
    ]
    for name, columns in lineage(spark).items():
        rows = [f"| `{column}` | {_grouped(sources)} |" for column, sources in columns.items()]
        parts.append(f"## {name}\n")
        parts.append("\n".join(["| column | from |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _grouped(sources: Sequence[str]) -> str:
    by_table = groupby(sources, lambda source: source.rpartition(".")[0])
    told = [f"`{table}`: {', '.join(s.rpartition('.')[2] for s in found)}" for table, found in by_table]
    return "; ".join(told) or "rows, counted"


def main() -> None:
    """Write both pages."""
    TABLES_FILE.write_text(tables_page(), encoding="utf-8")
    LINEAGE_FILE.write_text(lineage_page(open_session(Config(), "docs")), encoding="utf-8")


if __name__ == "__main__":
    main()
