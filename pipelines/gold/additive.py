"""What tables of daily measures share: parts that add up to rows, and sums that agree with another table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Measure, Reads, Table


def count(name: str, comment: str) -> Column:
    """A measure that counts."""
    return Column(name, "bigint", comment, required=True, minimum=0)


def seconds(name: str, comment: str) -> Column:
    """A measure of time (seconds)."""
    return Column(name, "decimal(28,6)", comment, required=True, minimum=0)


def measures_of(table: Table) -> tuple[Column, ...]:
    """The columns that add up: all but the keys."""
    return tuple(column for column in table.columns if column.name not in table.keys)


def sum_up(table: Table, parts: DataFrame) -> DataFrame:
    """Adds up partial rows (any measures, or differences of them) into the table's rows, its keys first."""
    return parts.groupBy(*table.keys).agg(*map(_sum, measures_of(table)))


# Made once in a process: each expression is some calls of Java, and a batch adds up four times.
@cache
def _sum(measure: Column) -> SparkColumn:
    return F.sum(measure.name).cast(measure.type).alias(measure.name)


def part(table: Table, rows: DataFrame, keys: Sequence[SparkColumn], **measures: SparkColumn) -> DataFrame:
    """Partial rows: `keys` in the table's order, and the measures given; the others are 0."""
    told = {name: F.coalesce(measure, F.lit(0)) for name, measure in measures.items()}
    given = [
        told[m.name].cast(m.type).alias(m.name) if m.name in told else _nothing(m) for m in measures_of(table)
    ]
    named = [key.alias(name) for key, name in zip(keys, table.keys, strict=True)]
    return rows.select(*named, *given)


@cache
def _nothing(measure: Column) -> SparkColumn:
    return F.lit(0).cast(measure.type).alias(measure.name)


def beyond(measure: str, other: Table, counted: str, name: str) -> Measure:
    """How much more, or less, a day's measure is than the sum of `counted`: SQL over rows of `other`."""

    def figures(rows: DataFrame, read: Reads) -> DataFrame:
        held = rows.select("event_date", F.col(measure).alias("part"))
        counts = read(other).select("event_date", F.expr(f"-({counted}) AS part"))
        by_day = held.unionByName(counts).groupBy(F.col("event_date").cast("string").alias("subject"))
        return by_day.agg(F.coalesce(F.sum("part"), F.lit(0)).cast("double").alias("value"))

    comment = f"{measure} of a day, less those of its rows in {other.full_name}."
    return Measure(f"{measure}_beyond_{name}", comment, figures, 0, 0)
