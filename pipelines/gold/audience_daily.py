"""`gold.audience_daily`: how many watched on a UTC day, and how much."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Table
from pipelines.gold import media_daily

TABLE = Table(
    layer="gold",
    name="audience_daily",
    grain="UTC day with a user action",
    comment="Users, plays and watch time by day.",
    columns=(
        Column("event_date", "date", "UTC date."),
        Column("active_users", "bigint", "Distinct users with an event on the day (count)."),
        Column("new_users", "bigint", "Users whose first event ever was on the day (count)."),
        Column("plays", "bigint", "Playbacks that started (count)."),
        Column("counted_plays", "bigint", "Of these, watched long enough to count (count)."),
        Column("watch_seconds", "decimal(28,6)", "Watch time of the playbacks (seconds)."),
    ),
    keys=("event_date",),
)
MEASURES = tuple(c.name for c in TABLE.columns if c.name not in TABLE.keys)


def audience_daily(actions: DataFrame, playbacks: DataFrame) -> DataFrame:
    """The table from every user action and every playback."""
    days = actions.select("user_id", F.to_date("occurred_at").alias("event_date"))
    firsts = days.groupBy("user_id").agg(F.min("event_date").alias("event_date"))
    parts = (
        of_media(media_daily.of_playbacks(playbacks))
        .unionByName(of_active(days.distinct()))
        .unionByName(of_new(firsts))
    )
    return sum_up(parts)


def sum_up(parts: DataFrame) -> DataFrame:
    """Adds up partial rows (any measures, or differences of them) into the table's rows."""
    sums = [F.sum(m).cast(_type(m)).alias(m) for m in MEASURES]
    return parts.groupBy("event_date").agg(*sums).select(*TABLE.column_names)


def _type(measure: str) -> str:
    return next(c.type for c in TABLE.columns if c.name == measure)


def _part(rows: DataFrame, **measures: SparkColumn) -> DataFrame:
    given = [F.coalesce(measures.get(m, F.lit(0)), F.lit(0)).cast(_type(m)).alias(m) for m in MEASURES]
    return rows.select("event_date", *given)


def of_media(media_days: DataFrame) -> DataFrame:
    """What rows of `gold.media_daily`, or differences of them, add to their days."""
    names = ("plays", "counted_plays", "watch_seconds")
    return _part(media_days, **{name: F.col(name) for name in names})


def of_active(user_days: DataFrame) -> DataFrame:
    """The part of users (`user_id`, `event_date`), each once a day."""
    return _part(user_days, active_users=F.lit(1))


def of_new(firsts: DataFrame, sign: int = 1) -> DataFrame:
    """The part of users on the day (`event_date`) of their first event; `sign` -1 takes it back."""
    return _part(firsts, new_users=F.lit(sign))
