"""`gold.media_catalog`: the current state of each media."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Rule, Table

TABLE = Table(
    layer="gold",
    name="media_catalog",
    grain="media, current state",
    comment="What is known of each media by its latest uploads, and when it reached each step first.",
    columns=(
        Column("media_id", "string", "The media.", required=True),
        Column("creator_id", "string", "Who uploaded it, by its latest event.", required=True),
        Column("title", "string", "Title, by its latest event.", required=True),
        Column("genres", "array<string>", "Genres, by the latest event that tells any."),
        Column("language", "string", "Language (BCP 47), by the latest event that tells it."),
        Column(
            "duration_seconds",
            "decimal(18,6)",
            "Length (seconds), by the latest event that tells it.",
            minimum=0,
        ),
        Column(
            "status",
            "string",
            "uploaded, processed, published or removed: by its latest event.",
            required=True,
            values=("uploaded", "processed", "published", "removed"),
        ),
        Column("uploaded_at", "timestamp", "First upload (UTC)."),
        Column("processed_at", "timestamp", "When it was first processed (UTC)."),
        Column("published_at", "timestamp", "When it was first published (UTC)."),
        Column("removed_at", "timestamp", "When it was first removed (UTC)."),
        Column("first_play_at", "timestamp", "Start of its first playback ever (UTC)."),
    ),
    keys=("media_id",),
    rules=(
        Rule(
            "status_has_its_time",
            "CASE status WHEN 'uploaded' THEN uploaded_at WHEN 'processed' THEN processed_at"
            " WHEN 'published' THEN published_at ELSE removed_at END IS NOT NULL",
            "When the media reached its status is told.",
        ),
        Rule(
            "published_after_upload",
            "published_at >= uploaded_at",
            "Published no sooner than uploaded.",
            "warn",
        ),
        Rule(
            "played_after_upload", "first_play_at >= uploaded_at", "Played no sooner than uploaded.", "warn"
        ),
    ),
)
_DATED = {s: f"{s}_at" for s in ("uploaded", "processed", "published", "removed")}


def media_catalog(uploads: DataFrame, first_plays: DataFrame) -> DataFrame:
    """The rows of every media in `uploads` (all events of it); `first_plays`: `media_id`, `first_play_at`."""
    state = uploads.groupBy("media_id").agg(
        *[
            _latest(name)
            for name in ("creator_id", "title", "genres", "language", "duration_seconds", "status")
        ],
        *[F.min(F.when(F.col("status") == s, F.col("occurred_at"))).alias(at) for s, at in _DATED.items()],
    )
    joined = state.join(first_plays.select("media_id", "first_play_at"), "media_id", "left")
    return joined.select(*TABLE.column_names)


def first_plays(playbacks: DataFrame) -> DataFrame:
    """`media_id` and `first_play_at` of every media that was played."""
    return playbacks.groupBy("media_id").agg(F.min("started_at").alias("first_play_at"))


def durations(uploads: DataFrame) -> DataFrame:
    """`media_id` and `duration_seconds` of every media whose duration is known."""
    latest = uploads.groupBy("media_id").agg(_latest("duration_seconds"))
    return latest.where(F.col("duration_seconds").isNotNull())


def _latest(name: str) -> SparkColumn:
    """The value of the latest event, by (time, event id), that tells it."""
    order = F.when(F.col(name).isNotNull(), F.struct("occurred_at", "event_id"))
    return F.max_by(name, order).alias(name)
