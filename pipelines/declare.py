"""How a table is declared: facts about it, apart from the engine that reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """Spark SQL type, as in DDL: `string`, `decimal(18,6)`, `array<string>`."""
    comment: str
    """What it means, with its unit."""
    required: bool = False
    """Whether every row has a value: checked, not enforced."""
    values: tuple[str, ...] = ()
    """The values that it may have; empty: any."""
    minimum: float | None = None
    """The least value that it may have; None: any."""


@dataclass(frozen=True)
class Rule:
    """What every row of a table fulfils."""

    name: str
    condition: str
    """Spark SQL over the table's columns; null where the rule does not look at a row."""
    comment: str
    """The same in words."""
    severity: Severity = "error"


@dataclass(frozen=True)
class Measure:
    """A figure of a table as a whole, or of each part of it, that stays within bounds."""

    name: str
    comment: str
    figures: Callable[[DataFrame, Reads], DataFrame]
    """From the table's rows, and others': `subject` (string, the part) and `value` (double; null: none)."""
    minimum: float | None = None
    maximum: float | None = None
    severity: Severity = "error"


@dataclass(frozen=True)
class Contracted:
    """Which contract a table's columns come from."""

    event_type: str
    fields: Mapping[str, str] = field(hash=False)  # tables are keys of mappings
    """Column: path of the field in the contract (`device.platform`)."""


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
    freshness: str | None = None
    """Column whose greatest value tells how fresh the table is; None: the time of the last commit."""
    contract: Contracted | None = None
    """The contract of the events; its required fields, values and least values are checked."""
    rules: tuple[Rule, ...] = ()
    """What every row fulfils, beyond what columns, keys and contract say."""
    measures: tuple[Measure, ...] = ()
    """Figures that stay within bounds."""

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
        from pyspark.sql.types import DataType, StructType

        fields = StructType()
        for column in self.columns:
            kind = DataType.fromDDL(column.type)
            fields = fields.add(column.name, kind, True, {"comment": column.comment})
        return fields


Reads = Callable[[Table], "DataFrame"]
"""Reads a table as it stands at a moment that the caller has chosen."""
