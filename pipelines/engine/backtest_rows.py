"""Compares the rows that a table holds with rows computed anew: which columns differ, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

_NUMBERS = ("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
_NEW, _TYPE = "new column", "other type"
_ONE_SIDED = "held IS NULL OR anew IS NULL"


@dataclass(frozen=True)
class Compared:
    """How many rows (or records) were compared, and how many of them differ."""

    where: str
    rows: int
    differ: int

    @property
    def percent(self) -> float:
        """The share that differs."""
        return share(self.differ, self.rows)


@dataclass(frozen=True)
class Difference:
    """One way in which rows differ."""

    what: str
    where: str
    """The table, or the event type."""
    name: str
    """The column, or the reason's code."""
    rows: int
    percent: float
    """Share of the compared rows."""
    before: Any
    after: Any
    example: str
    """The key of one of the rows."""


@dataclass(frozen=True)
class Comparison:
    """Rows of one table as it holds them, and as they are computed now; `keys` are unique on both sides.

    With `sums`, numbers are told by their sums, and a row that one side lacks is a difference of them too.
    """

    where: str
    held: DataFrame
    anew: DataFrame
    keys: Sequence[str]
    sums: bool

    def differences(self) -> tuple[Compared, list[Difference]]:
        """How many rows differ, and how; a column that the table has not yet is told, and does not count."""
        columns = self._columns()
        one_sided = F.expr(_ONE_SIDED)
        differ = [column.differs() for column in columns if column.what != _NEW]
        found = self._both().agg(
            F.count("*").alias("n"),
            F.count_if(reduce(Column.__or__, differ, one_sided)).alias("differ"),
            F.count_if(one_sided).alias("one_sided"),
            F.min(F.when(one_sided, F.struct(*self.keys))).alias("example"),
            F.count("held").alias("before"),
            F.count("anew").alias("after"),
            *[aggregate for column in columns for aggregate in column.aggregates(self.keys)],
        )
        row = found.collect()[0]
        differences = [
            self._difference(column, row)
            for column in columns
            if row[f"rows of {column.name}"] or column.what == _NEW
        ]
        if row["one_sided"]:
            counts = (row["one_sided"], share(row["one_sided"], row["n"]), row["before"], row["after"])
            example = key_text(self.keys, row["example"])
            differences.insert(0, Difference("new or missing rows", self.where, "", *counts, example))
        return Compared(self.where, row["n"], row["differ"]), differences

    def touched(self) -> DataFrame:
        """The keys of all rows that are not the same, those with a value in a new column among them."""
        differ = [column.differs() for column in self._columns()]
        return self._both().where(reduce(Column.__or__, differ, F.expr(_ONE_SIDED))).select(*self.keys)

    def _difference(self, column: _Column, row: Row) -> Difference:
        rows, example = row[f"rows of {column.name}"], row[f"example of {column.name}"]
        before, after = (example["before"], example["after"]) if example else (None, None)
        if column.what == _TYPE:
            before, after = column.held, column.anew
        elif column.is_sum:
            before, after = row[f"before of {column.name}"], row[f"after of {column.name}"]
        counts = (rows, share(rows, row["n"]), before, after)
        return Difference(column.what, self.where, column.name, *counts, key_text(self.keys, example))

    def _columns(self) -> list[_Column]:
        held, anew = dict(self.held.dtypes), dict(self.anew.dtypes)
        names = [name for name in {**anew, **held} if name not in self.keys]
        return [_Column(name, held.get(name), anew.get(name), self.sums) for name in names]

    def _both(self) -> DataFrame:
        columns = self._columns()
        held = self.held.select(*self.keys, F.struct(*[c.value(c.held) for c in columns]).alias("held"))
        anew = self.anew.select(*self.keys, F.struct(*[c.value(c.anew) for c in columns]).alias("anew"))
        return held.join(anew, list(self.keys), "full")


@dataclass(frozen=True)
class _Column:
    """A column of the two sides, with its type on each; None: that side has no such column."""

    name: str
    held: str | None
    anew: str | None
    sums: bool

    @property
    def what(self) -> str:
        if self.held is None:
            return _NEW
        if self.anew is None:
            return "column gone"
        return "changed column" if self.held == self.anew else _TYPE

    @property
    def is_sum(self) -> bool:
        types = [kind for kind in (self.held, self.anew) if kind is not None]
        return self.sums and all(kind.startswith(_NUMBERS) for kind in types)

    def value(self, kind: str | None) -> Column:
        """The value on a side where its type is `kind`."""
        missing = F.lit(None).cast(self.held or self.anew or "string")
        return (missing if kind is None else F.col(self.name)).alias(self.name)

    def differs(self) -> Column:
        """Whether a row's values are not the same."""
        both = ~F.expr(_ONE_SIDED)
        if self.what == _TYPE:
            return both
        differs = ~F.col("held")[self.name].eqNullSafe(F.col("anew")[self.name])
        return differs if self.is_sum else differs & both

    def aggregates(self, keys: Sequence[str]) -> list[Column]:
        """How many rows differ, an example, and the sums: named after the column."""
        held, anew, differs = F.col("held")[self.name], F.col("anew")[self.name], self.differs()
        texts = held.cast("string").alias("before"), anew.cast("string").alias("after")
        found = [
            F.count_if(differs).alias(f"rows of {self.name}"),
            F.min(F.when(differs, F.struct(*keys, *texts))).alias(f"example of {self.name}"),
        ]
        if self.is_sum:
            found.append(F.sum(_number(held, self.held)).alias(f"before of {self.name}"))
            found.append(F.sum(_number(anew, self.anew)).alias(f"after of {self.name}"))
        return found


def share(part: int, whole: int) -> float:
    """Percent."""
    return 100 * part / whole if whole else 0.0


def key_text(keys: Sequence[str], row: Row | None) -> str:
    """A key for people: `topic media.user-actions partition 0 offset 12`; empty when there is no row."""
    return " ".join(f"{key} {row[key]}" for key in keys) if row else ""


def _number(value: Column, kind: str | None) -> Column:
    """What is added up: flags count as one."""
    return value.cast("int") if kind == "boolean" else value
