"""Writes `docs/tables.md` from the tables' declarations; a test keeps it fresh."""

from __future__ import annotations

from pathlib import Path

from pipelines.tables import TABLES

FILE = Path(__file__).resolve().parent.parent / "docs" / "tables.md"


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
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(tables_page(), encoding="utf-8")
