"""Figures that many tables are checked by: repeated keys, freshness, volume, shares of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.declare import Measure, Reads, Table
from pipelines.quality.rules import key_text

FRESH_HOURS = 24
USUAL_DAYS = 7
"""The last complete day is compared with so many days before it."""
LEAST_VOLUME, MOST_VOLUME = 0.5, 2.0
MOST_DRIFT = 0.2


def measures_of(table: Table) -> tuple[Measure, ...]:
    """Every figure of a table: that of its keys, and those declared."""
    return (unique(table.keys), *table.measures)


def unique(keys: Sequence[str]) -> Measure:
    """No two rows share their keys. The figure: rows beyond the first; subject: the least such key."""

    def figures(rows: DataFrame, _: Reads) -> DataFrame:
        # Of millions of keys only hashes are moved; the keys themselves are compared where hashes meet.
        hashed = rows.select(F.xxhash64(*map(_quoted, keys)).alias("hash"), *map(_quoted, keys))
        meeting = hashed.groupBy("hash").count().where("count > 1").select("hash")
        repeated = (
            hashed.join(F.broadcast(meeting), "hash")
            .groupBy(*map(_quoted, keys))
            .count()
            .where("count > 1")
            .select(key_text(keys).alias("subject"), (F.col("count") - 1).alias("surplus"))
        )
        surplus = F.coalesce(F.sum("surplus"), F.lit(0)).cast("double")
        return repeated.agg(F.min("subject").alias("subject"), surplus.alias("value"))

    named = ", ".join(keys)
    return Measure("rows_with_a_repeated_key", f"{named}: no two rows share them.", figures, 0, 0)


def fresh(column: str) -> Measure:
    """The newest value of a time is not older than a day. The figure: its age (hours)."""

    def figures(rows: DataFrame, _: Reads) -> DataFrame:
        newest = F.max(column)
        age = (F.unix_timestamp(F.current_timestamp()) - F.unix_timestamp(newest)) / 3600
        return rows.agg(newest.cast("string").alias("subject"), age.cast("double").alias("value"))

    comment = f"The newest {column} is at most {FRESH_HOURS} hours old."
    return Measure(f"hours_since_{column}", comment, figures, maximum=FRESH_HOURS, severity="warn")


def usual_volume() -> Measure:
    """The last complete day has about as many rows as the days before it. The figure: their ratio.

    A day without rows is one of 0 rows, since the first of the days before: what fails may fail whole.
    """

    def figures(rows: DataFrame, _: Reads) -> DataFrame:
        days = _with_last_day(rows, "event_date")
        last, before = _sum(_is_last), _sum(_is_before)
        first = F.min(F.when(_is_before(), F.col("event_date")))
        # Without a day before there is none to compare with: null.
        mean = F.try_divide(before, F.date_diff(F.max("last"), first))
        return days.agg(
            F.max("last").cast("string").alias("subject"), F.try_divide(last, mean).alias("value")
        )

    comment = f"Rows of the last complete day, to the mean of the {USUAL_DAYS} days before it."
    return Measure("daily_volume", comment, figures, LEAST_VOLUME, MOST_VOLUME, "warn")


def usual_shares(column: str) -> Measure:
    """The last complete day's values are shared out as on the days before. The figure: 0 alike to 1 apart."""

    def figures(rows: DataFrame, _: Reads) -> DataFrame:
        days = _with_last_day(rows, "event_date", column)
        counts = days.groupBy(column).agg(
            F.max("last").alias("last"), *[_sum(c).alias(n) for n, c in _PARTS.items()]
        )
        shares = [F.try_divide(name, F.sum(name).over(Window.partitionBy())) for name in _PARTS]
        distance = counts.withColumn("distance", F.abs(shares[0] - shares[1]) / 2)
        return distance.agg(
            F.max("last").cast("string").alias("subject"), F.sum("distance").cast("double").alias("value")
        )

    comment = (
        f"How far the shares of {column} on the last complete day are from the {USUAL_DAYS} days before."
    )
    return Measure(f"drift_of_{column}", comment, figures, maximum=MOST_DRIFT, severity="warn")


def _with_last_day(rows: DataFrame, *by: str) -> DataFrame:
    """`count` of rows by these columns, with `last`, the last complete day: the one before the newest.

    An event is of no day after that of its record, nor after that of its reading: a producer's clock that is
    ahead, by which some producers also set the record's time, ends no day.
    """
    day = F.least("event_date", F.to_date("record_timestamp"), F.to_date("ingested_at"))
    counts = rows.groupBy(*by).agg(F.count("*").alias("count"), F.max(day).alias("newest"))
    newest = F.max("newest").over(Window.partitionBy())
    return counts.withColumn("last", F.date_sub(newest, 1)).drop("newest")


def _is_last() -> SparkColumn:
    return F.col("event_date") == F.col("last")


def _is_before() -> SparkColumn:
    return F.col("event_date").between(F.date_sub("last", USUAL_DAYS), F.date_sub("last", 1))


_PARTS: dict[str, Callable[[], SparkColumn]] = {"on_last": _is_last, "before": _is_before}


def _sum(condition: Callable[[], SparkColumn]) -> SparkColumn:
    return F.sum(F.when(condition(), F.col("count")).otherwise(0))


def _quoted(name: str) -> str:
    return f"`{name}`"
