"""`gold.media_daily`: what was watched of a media on a UTC day."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Table

EARLY_SKIP_SECONDS = 30
TABLE = Table(
    layer="gold",
    name="media_daily",
    grain="media × UTC day with a play or a skip",
    comment="Plays, viewers, watch time and skips of each media by day.",
    columns=(
        Column("media_id", "string", "The media."),
        Column("event_date", "date", "UTC date: of the plays' start; for skips, of the skip."),
        Column("plays", "bigint", "Playbacks that started (count)."),
        Column("counted_plays", "bigint", "Of these, watched long enough to count (count)."),
        Column("unique_viewers", "bigint", "Distinct users who started a playback (count)."),
        Column("watch_seconds", "decimal(28,6)", "Watch time of the playbacks (seconds)."),
        Column("skips", "bigint", "Skips of the media (count)."),
        Column("early_skips", "bigint", "Skips that ended a playback of less than 30 s (count)."),
        Column("completions", "bigint", "Playbacks that were completed (count)."),
    ),
    keys=("media_id", "event_date"),
    partition_cols=("event_date",),
)
MEASURES = tuple(c.name for c in TABLE.columns if c.name not in TABLE.keys)


def media_daily(actions: DataFrame, playbacks: DataFrame) -> DataFrame:
    """The table from every user action and every playback."""
    parts = of_playbacks(playbacks).unionByName(of_skips(actions)).unionByName(of_viewers(playbacks))
    return sum_up(parts)


def sum_up(parts: DataFrame) -> DataFrame:
    """Adds up partial rows (any measures, or differences of them) into the table's rows."""
    sums = [F.sum(m).cast(_type(m)).alias(m) for m in MEASURES]
    return parts.groupBy("media_id", "event_date").agg(*sums).select(*TABLE.column_names)


def _type(measure: str) -> str:
    return next(c.type for c in TABLE.columns if c.name == measure)


def _part(rows: DataFrame, day: SparkColumn, **measures: SparkColumn) -> DataFrame:
    given = [F.coalesce(measures.get(m, F.lit(0)), F.lit(0)).cast(_type(m)).alias(m) for m in MEASURES]
    return rows.select("media_id", day.alias("event_date"), *given)


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
