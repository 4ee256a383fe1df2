"""How a table is declared: facts about it, apart from the engine that reads and writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """Spark SQL type, as in DDL: `string`, `decimal(18,6)`, `array<string>`."""
    comment: str
    """What it means, with its unit."""


@dataclass(frozen=True)
class Table:
    """One Delta table at `<root>/<layer>/<name>`."""

    layer: str
    name: str
    grain: str
    """What one row is."""
    comment: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    """Columns that together are unique."""
    partition_cols: tuple[str, ...] = ()
    stats_cols: tuple[str, ...] = ()
    """Columns whose least and greatest value each file tells, so that readers skip files; empty: all."""
    order_by: tuple[str, ...] = ()
    """Order of rows for people and comparisons; empty: the keys."""
    freshness: str | None = None
    """Column whose greatest value tells how fresh the table is; None: the time of the last commit."""
    internal: bool = False
    """State of the engine: no promise to users, not in the catalogue."""

    @property
    def full_name(self) -> str:
        """`layer.name`, as in SQL."""
        return f"{self.layer}.{self.name}"

    @property
    def column_names(self) -> list[str]:
        """Names in the table's order."""
        return [column.name for column in self.columns]

    def schema(self) -> StructType:
        """Spark's schema, with comments; every column nullable, as Delta readers see appended files."""
        from pyspark.sql.types import StructType, _parse_datatype_string

        fields = StructType()
        for column in self.columns:
            kind = _parse_datatype_string(column.type)
            fields = fields.add(column.name, kind, True, {"comment": column.comment})
        return fields
