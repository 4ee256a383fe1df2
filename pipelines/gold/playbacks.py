"""`gold.playbacks`: one row per play; docs/definitions.md defines it."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.declare import Column, Measure, Reads, Rule, Table
from pipelines.gold import media_catalog
from pipelines.quality.measures import fresh

OPENING = ("play", "resume")
UNKNOWN_LIMIT_SECONDS = 4 * 3600
"""How long a playback may last when the media's duration is unknown (seconds)."""
COUNTED_SECONDS = 30
SHORT_MEDIA_SECONDS = 60
COMPLETED_SHARE = "0.95"
SECONDS = "decimal(18,6)"

MOST_UNKNOWN_MEDIA = 0.05


def _unknown_media(rows: DataFrame, read: Reads) -> DataFrame:
    known = read(media_catalog.TABLE).select("media_id", F.lit(1).alias("known"))
    joined = rows.groupBy("media_id").count().join(known, "media_id", "left")
    is_unknown = F.col("known").isNull()
    share = F.try_divide(F.sum(F.when(is_unknown, F.col("count")).otherwise(0)), F.sum("count"))
    return joined.agg(F.min(F.when(is_unknown, F.col("media_id"))).alias("subject"), share.alias("value"))


TABLE = Table(
    layer="gold",
    name="playbacks",
    grain="one play",
    comment="Every play or resume, with how it ended and how long it was watched.",
    columns=(
        Column("playback_id", "string", "event_id of the event that opened it.", required=True),
        Column("user_id", "string", "The viewer.", required=True),
        Column("media_id", "string", "The media.", required=True),
        Column("started_at", "timestamp", "When it began (UTC).", required=True),
        Column("ended_at", "timestamp", "When it ended (UTC); null: open or abandoned."),
        Column(
            "end_reason",
            "string",
            "paused, skipped, completed, restarted, switched, abandoned (no end known) or open.",
            required=True,
            values=("paused", "skipped", "completed", "restarted", "switched", "abandoned", "open"),
        ),
        Column(
            "watch_seconds", SECONDS, "ended_at - started_at (seconds); null: open or abandoned.", minimum=0
        ),
        Column("start_position_seconds", SECONDS, "Position in the media at the start (seconds).", minimum=0),
        Column("is_counted", "boolean", "Watched 30 s, or half of a media shorter than 60 s.", required=True),
        Column(
            "is_completed", "boolean", "Ended as completed, or reached 95 % of the duration.", required=True
        ),
        Column("platform", "string", "Platform of the player."),
        Column("region", "string", "Region of the viewer."),
        Column("server_id", "string", "Server that streamed the media."),
        Column(
            "event_date", "date", "UTC date of started_at; the table is partitioned by it.", required=True
        ),
        Column(
            "is_final",
            "boolean",
            "false: still open, or ended so lately that events in normal disorder may change it.",
            required=True,
        ),
    ),
    keys=("playback_id",),
    partition_cols=("is_final", "event_date"),
    freshness="started_at",
    rules=(
        Rule(
            "ended_unless_open",
            "(ended_at IS NULL) = (end_reason IN ('open', 'abandoned'))",
            "Only a playback that is open or abandoned has no end.",
        ),
        Rule(
            "watched_from_start_to_end",
            "watch_seconds * 1000000 <=> (unix_micros(ended_at) - unix_micros(started_at))",
            "watch_seconds is ended_at - started_at.",
        ),
        Rule(
            "date_of_start", "event_date = to_date(started_at)", "event_date is the UTC date of started_at."
        ),
        Rule("open_is_not_final", "NOT (is_final AND end_reason = 'open')", "What is open is not final."),
        Rule(
            "completed_is_completed",
            "is_completed OR end_reason <> 'completed'",
            "What ended as completed is completed.",
        ),
        Rule("counted_has_ended", "NOT is_counted OR ended_at IS NOT NULL", "What counts has an end."),
    ),
    measures=(
        fresh("started_at"),
        Measure(
            "plays_of_unknown_media",
            "Share of playbacks whose media has no upload in gold.media_catalog.",
            _unknown_media,
            maximum=MOST_UNKNOWN_MEDIA,
            severity="warn",
        ),
    ),
)

ACTION_COLUMNS = (
    *("event_id", "user_id", "action", "occurred_at", "media_id", "record_timestamp"),
    *("position_seconds", "platform", "region", "server_id"),
)
"""What this definition reads of `silver.user_actions`."""
EVENT_KEY = ("event_id", "occurred_at")
PLAYBACK_KEY = ("playback_id", "started_at")
"""What tells events, and playbacks, apart: an id that a faulty producer gives to several events does not."""


def playbacks(actions: DataFrame, durations: DataFrame, clock: DataFrame) -> DataFrame:
    """Every playback that `actions` open.

    `actions` are user actions, each once (`ACTION_COLUMNS`); `durations` holds `media_id` and
    `duration_seconds` of media whose duration is known; `clock` is one row, as of `stream_clock`.
    A row is final when what decided its end lies before the horizon.
    """
    known = durations.select("media_id", "duration_seconds")
    opened = _with_next(actions).where(F.col("action").isin(*OPENING))
    joined = opened.join(known, "media_id", "left").crossJoin(F.broadcast(clock))
    ended = _with_end(joined)
    watched = F.col("watch_seconds")
    duration, position = F.col("duration_seconds"), F.coalesce("position_seconds", F.lit(0))
    is_short = duration < SHORT_MEDIA_SECONDS
    counted = (watched >= COUNTED_SECONDS) | (is_short & (watched * 2 >= duration))
    reached = position + watched >= duration * F.lit(COMPLETED_SHARE).cast("decimal(3,2)")
    return ended.select(
        F.col("event_id").alias("playback_id"),
        "user_id",
        "media_id",
        F.col("occurred_at").alias("started_at"),
        "ended_at",
        "end_reason",
        "watch_seconds",
        F.col("position_seconds").alias("start_position_seconds"),
        F.coalesce(counted, F.lit(False)).alias("is_counted"),
        ((F.col("end_reason") == "completed") | F.coalesce(reached, F.lit(False))).alias("is_completed"),
        "platform",
        "region",
        "server_id",
        F.to_date("occurred_at").alias("event_date"),
        F.coalesce(
            (F.col("end_reason") != "open") & (F.col("settled_at") < F.col("horizon")), F.lit(False)
        ).alias("is_final"),
    )


def _with_next(actions: DataFrame) -> DataFrame:
    """Each event with `next`: the user's next event, seeks of the event's own media passed over.

    Backwards in time, so that each step looks at rows already passed: linear, whatever a user's history.
    The next event is the nearer of two: the next that is no seek, and the next about other media.
    """
    backwards = Window.partitionBy("user_id").orderBy(F.desc("occurred_at"), F.desc("event_id"))
    passed = backwards.rowsBetween(Window.unboundedPreceding, -1)
    here = backwards.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    event = F.struct("occurred_at", "event_id", "action", "media_id")
    following = F.lag(event).over(backwards)
    of_other_media = F.when(following["media_id"] != F.col("media_id"), following)
    return (
        actions.select(*ACTION_COLUMNS)
        .withColumn("no_seek", F.last(F.when(F.col("action") != "seek", event), True).over(passed))
        .withColumn("of_other_media", of_other_media)
        .withColumn("other", F.last("of_other_media", True).over(here))
        .withColumn("next", F.least("no_seek", "other"))
    )


def _with_end(opened: DataFrame) -> DataFrame:
    """Adds `end_reason`, `ended_at`, `watch_seconds` and `settled_at`, when the end was decided."""
    started = F.unix_micros("occurred_at")
    duration, position = F.col("duration_seconds"), F.coalesce("position_seconds", F.lit(0))
    remaining = F.greatest(F.lit(0).cast(SECONDS), (duration - position).cast(SECONDS))
    is_known = duration.isNotNull()
    limit = F.when(is_known, (remaining * 1_000_000).cast("bigint")).otherwise(
        F.lit(UNKNOWN_LIMIT_SECONDS * 1_000_000)
    )
    following = F.col("next")
    last_moment = F.timestamp_micros(started + limit)
    in_time = F.coalesce(following["occurred_at"] <= F.col("last_moment"), F.lit(False))
    passed = following.isNotNull() | F.coalesce(F.col("clock") > F.col("last_moment"), F.lit(False))
    reason = (
        F.when(in_time & (following["media_id"] != F.col("media_id")), "switched")
        .when(in_time, _reason_of(following["action"]))
        .when(passed & is_known, "completed")
        .when(passed, "abandoned")
        .otherwise("open")
    )
    ended_at = F.when(in_time, following["occurred_at"]).when(passed & is_known, F.col("last_moment"))
    settled_at = F.when(in_time, following["occurred_at"]).otherwise(F.col("last_moment"))
    watched = ((F.unix_micros("ended_at") - started) / F.lit(1_000_000).cast("decimal(7,0)")).cast(SECONDS)
    return (
        opened.withColumn("last_moment", last_moment)
        .withColumn("end_reason", reason)
        .withColumn("ended_at", ended_at)
        .withColumn("settled_at", settled_at)
        .withColumn("watch_seconds", watched)
    )


def _reason_of(action: SparkColumn) -> SparkColumn:
    return (
        F.when(action == "pause", "paused")
        .when(action == "skip", "skipped")
        .when(action == "complete", "completed")
        .otherwise("restarted")
    )


def stream_clock(actions: DataFrame, jitter_seconds: int) -> DataFrame:
    """One row: the stream's `clock`, the greatest min(occurred_at, record_timestamp), and its `horizon`.

    The horizon lies `jitter_seconds` before the clock: what is older is settled. Both are null when
    there are no events.
    """
    clock = actions.agg(F.max(F.least("occurred_at", "record_timestamp")).alias("clock"))
    return clock.select(
        "clock", F.expr(f"clock - make_dt_interval(0, 0, 0, {jitter_seconds})").alias("horizon")
    )
