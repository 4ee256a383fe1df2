"""`gold.media_daily`: what was watched of a media on a UTC day."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Rule, Table
from pipelines.gold.additive import beyond, count, part, seconds, sum_up
from pipelines.gold.playbacks import TABLE as PLAYBACKS

EARLY_SKIP_SECONDS = 30


TABLE = Table(
    layer="gold",
    name="media_daily",
    grain="media × UTC day with a play or a skip",
    comment="Plays, viewers, watch time and skips of each media by day.",
    columns=(
        Column("media_id", "string", "The media.", required=True),
        Column("event_date", "date", "UTC date: of the plays' start; for skips, of the skip.", required=True),
        count("plays", "Playbacks that started (count)."),
        count("counted_plays", "Of these, watched long enough to count (count)."),
        count("unique_viewers", "Distinct users who started a playback (count)."),
        seconds("watch_seconds", "Watch time of the playbacks (seconds)."),
        count("skips", "Skips of the media (count)."),
        count("early_skips", "Skips that ended a playback of less than 30 s (count)."),
        count("completions", "Playbacks that were completed (count)."),
    ),
    keys=("media_id", "event_date"),
    partition_cols=("event_date",),
    rules=(
        Rule("counted_were_plays", "counted_plays <= plays", "Only plays count."),
        Rule("completions_were_plays", "completions <= plays", "Only plays are completed."),
        Rule("viewers_played", "unique_viewers <= plays", "Every viewer played."),
        Rule("plays_have_viewers", "plays = 0 OR unique_viewers > 0", "Every play has a viewer."),
        Rule("early_skips_were_skips", "early_skips <= skips", "An early skip is a skip."),
        Rule("something_happened", "plays > 0 OR skips > 0", "There is a row where something was played."),
    ),
    measures=(
        beyond("plays", PLAYBACKS, "1", "playbacks"),
        beyond("counted_plays", PLAYBACKS, "int(is_counted)", "playbacks"),
        beyond("watch_seconds", PLAYBACKS, "coalesce(watch_seconds, 0)", "playbacks"),
        beyond("completions", PLAYBACKS, "int(is_completed)", "playbacks"),
    ),
)


def media_daily(actions: DataFrame, playbacks: DataFrame) -> DataFrame:
    """The table from every user action and every playback."""
    parts = of_playbacks(playbacks).unionByName(of_skips(actions)).unionByName(of_viewers(playbacks))
    return sum_up(TABLE, parts)


def _part(rows: DataFrame, day: SparkColumn, **measures: SparkColumn) -> DataFrame:
    return part(TABLE, rows, (F.col("media_id"), day), **measures)


def of_playbacks(playbacks: DataFrame, sign: int = 1) -> DataFrame:
    """Each playback's part of its day, and of the day of its early skip; `sign` -1 takes it back."""
    one = F.lit(sign)
    started = _part(
        playbacks,
        F.col("event_date"),
        plays=one,
        counted_plays=F.when(F.col("is_counted"), one),
        watch_seconds=F.col("watch_seconds") * sign,
        completions=F.when(F.col("is_completed"), one),
    )
    is_early = (F.col("end_reason") == "skipped") & (F.col("watch_seconds") < EARLY_SKIP_SECONDS)
    skipped = _part(playbacks.where(is_early), F.to_date("ended_at"), early_skips=one)
    return started.unionByName(skipped)


def of_skips(actions: DataFrame) -> DataFrame:
    """Each skip's part of its day."""
    return _part(actions.where(F.col("action") == "skip"), F.to_date("occurred_at"), skips=F.lit(1))


def of_viewers(playbacks: DataFrame) -> DataFrame:
    """Each viewer's part of a media's day, once."""
    pairs = playbacks.select("media_id", "event_date", "user_id").distinct()
    return _part(pairs, F.col("event_date"), unique_viewers=F.lit(1))
