"""`gold.audience_daily`: how many watched on a UTC day, and how much."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Rule, Table
from pipelines.gold import media_daily
from pipelines.gold.additive import beyond, count, part, seconds, sum_up

TABLE = Table(
    layer="gold",
    name="audience_daily",
    grain="UTC day with a user action",
    comment="Users, plays and watch time by day.",
    columns=(
        Column("event_date", "date", "UTC date.", required=True),
        count("active_users", "Distinct users with an event on the day (count)."),
        count("new_users", "Users whose first event ever was on the day (count)."),
        count("plays", "Playbacks that started (count)."),
        count("counted_plays", "Of these, watched long enough to count (count)."),
        seconds("watch_seconds", "Watch time of the playbacks (seconds)."),
    ),
    keys=("event_date",),
    rules=(
        Rule("new_users_were_active", "new_users <= active_users", "A new user is active."),
        Rule("someone_was_active", "active_users > 0", "There is a row where someone was active."),
        Rule("counted_were_plays", "counted_plays <= plays", "Only plays count."),
    ),
    measures=tuple(
        beyond(measure, media_daily.TABLE, measure, "media")
        for measure in ("plays", "counted_plays", "watch_seconds")
    ),
)


def audience_daily(actions: DataFrame, playbacks: DataFrame) -> DataFrame:
    """The table from every user action and every playback."""
    days = actions.select("user_id", F.to_date("occurred_at").alias("event_date"))
    firsts = days.groupBy("user_id").agg(F.min("event_date").alias("event_date"))
    parts = (
        of_media(media_daily.of_playbacks(playbacks))
        .unionByName(of_active(days.distinct()))
        .unionByName(of_new(firsts))
    )
    return sum_up(TABLE, parts)


def _part(rows: DataFrame, **measures: SparkColumn) -> DataFrame:
    return part(TABLE, rows, (F.col("event_date"),), **measures)


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
