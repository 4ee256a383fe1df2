"""Rules that playing keeps when players and clocks are right: what breaks one is counted, and flows on.

A rule is a column: null for a row that it does not look at, else whether the row breaks it. No rule looks
further back than `LOOKBACK_DAYS`, so a day's counts are the same whether a user's whole history is given or
only that much of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines.declare import Table
from pipelines.gold.playbacks import EVENT_KEY, OPENING, PLAYBACK_KEY, SECONDS
from pipelines.gold.playbacks import TABLE as PLAYBACKS
from pipelines.silver import user_actions

LOOKBACK_DAYS = 1
"""Days to be given before the first one asked; what began longer ago is as if it were not there."""
ROUNDING_SECONDS = 1
"""How far a position may lie beyond the duration: players and catalogues round differently (seconds)."""
SPARE_SECONDS = 5
SPARE_SHARE = "0.10"
"""A player may claim more than the wall clock by the greater of these: clocks are cut to whole seconds."""

ACTION_COLUMNS = (
    *("event_id", "user_id", "action", "occurred_at"),
    *("media_id", "session_id", "position_seconds"),
)
"""What the rules read of `silver.user_actions`."""
COLUMNS = ("table_name", "rule", "event_date", "checked", "violations", "example")


def playback_rules(actions: DataFrame, playbacks: DataFrame, catalog: DataFrame) -> DataFrame:
    """Every rule's counts: one row (`COLUMNS`) for each rule and UTC day on which it looked at something.

    `actions` are user actions, each once (`ACTION_COLUMNS`); `playbacks` are rows of `gold.playbacks` that
    `actions` opened; `catalog` is `gold.media_catalog`. `checked` is what the rule looked at, `violations`
    what broke it, `example` the least id of these, null when there is none.
    """
    return of_actions(actions, catalog).unionByName(of_playbacks(playbacks, actions))


def of_actions(actions: DataFrame, catalog: DataFrame) -> DataFrame:
    """The counts of the rules about events; days and examples are those of the events."""
    known = catalog.select("media_id", "duration_seconds")
    rows = _with_previous(actions).join(known, "media_id", "left")
    rules = {
        "pause_without_play": pause_without_play(),
        "position_beyond_duration": position_beyond_duration(),
        "watch_time_above_wall_clock": watch_time_above_wall_clock(),
    }
    return _counts(rows, user_actions.TABLE, "occurred_at", rules)


def of_playbacks(playbacks: DataFrame, actions: DataFrame) -> DataFrame:
    """The counts of the rule about playbacks; days and examples are those of the playbacks."""
    openings = actions.where(F.col("action").isin(*OPENING) & F.col("session_id").isNotNull())
    sessions = openings.select(*EVENT_KEY, "session_id").toDF(*PLAYBACK_KEY, "session_id")
    # What has no end, or no length, overlaps nothing.
    watched = playbacks.where("started_at < ended_at").select("playback_id", "started_at", "ended_at")
    rows = watched.join(sessions, [*PLAYBACK_KEY])
    rules = {"overlapping_playbacks": overlapping_playbacks()}
    return _counts(rows, PLAYBACKS, "started_at", rules)


def pause_without_play() -> SparkColumn:
    """Looks at each `pause` of a media m; broken unless m was playing.

    m was playing when the user's previous event by (`occurred_at`, `event_id`), seeks of m passed over, is a
    `play` or `resume` of m at most `LOOKBACK_DAYS` before. A play that was over by its limit counts: whoever
    waits for a slow network watches longer than the media lasts. Other actions may come without a play:
    `skip` refuses what is recommended, `seek` moves what is paused, and browsers tell `complete` after a
    `pause` of their own.
    """
    previous = F.col("previous")
    was_playing = _is_play_of_same_media(previous) & _is_near(previous)
    return F.when(F.col("action") == "pause", ~F.coalesce(was_playing, F.lit(False)))


def position_beyond_duration() -> SparkColumn:
    """Looks at each event that tells a position in a media of known duration; broken when the position lies
    more than `ROUNDING_SECONDS` beyond the duration.

    The duration is the catalogue's, by the latest upload: a media that was cut shorter shows here.
    """
    return F.col("position_seconds") > F.col("duration_seconds") + ROUNDING_SECONDS


def watch_time_above_wall_clock() -> SparkColumn:
    """Looks at each `pause`, `skip` or `complete` that follows a `play` or `resume` of its media directly, at
    most `LOOKBACK_DAYS` later, where both tell a position; broken when the media went further than the wall
    clock did, by more than `SPARE_SECONDS` and more than `SPARE_SHARE` of the time between the two.

    That is faster playback, a jump that was not told, or a broken clock. The sum of `watch_seconds` would
    show none: a user's playbacks end at the user's next event at the latest, so together they never exceed
    the wall clock. After a seek nothing is said: players tell its position before or after the jump.
    """
    opening = F.col("just_before")
    is_end = F.col("action").isin("pause", "skip", "complete") & _is_play_of_same_media(opening)
    micros = F.unix_micros("occurred_at") - F.unix_micros(opening["occurred_at"])
    elapsed = (micros / F.lit(1_000_000).cast("decimal(7,0)")).cast(SECONDS)
    claimed = F.col("position_seconds") - opening["position_seconds"]
    spare = F.greatest(F.lit(SPARE_SECONDS).cast(SECONDS), elapsed * F.lit(SPARE_SHARE).cast("decimal(3,2)"))
    return F.when(is_end & _is_near(opening), claimed - elapsed > spare)


def overlapping_playbacks() -> SparkColumn:
    """Looks at each playback with a session that is told and an end after its start; broken when an earlier
    one of the session, by (`started_at`, `playback_id`), had not ended when it started.

    A session is one player, which plays one media at a time. One user's playbacks never overlap, so a broken
    rule means several users: a player that keeps its session when another user signs in, or a session
    id that is not one. A playback longer than `LOOKBACK_DAYS` counts as that long.
    """
    # A session id that is not one may hold a day's playbacks: they are sorted in one task, but passed once.
    earlier = Window.partitionBy("session_id").orderBy("started_at", "playback_id")
    passed = earlier.rowsBetween(Window.unboundedPreceding, -1)
    end = F.least(F.col("ended_at"), F.col("started_at") + _lookback())
    return F.coalesce(F.max(end).over(passed) > F.col("started_at"), F.lit(False))


def _with_previous(actions: DataFrame) -> DataFrame:
    """Each event with `just_before`, the user's event right before it, and `previous`, the last one
    before it that is no seek of its media.

    The mirror of the playbacks' next event, and as linear: one sort by user, each step looks at rows passed.
    """
    forwards = Window.partitionBy("user_id").orderBy("occurred_at", "event_id")
    passed = forwards.rowsBetween(Window.unboundedPreceding, -1)
    here = forwards.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    event = F.struct("occurred_at", "event_id", "action", "media_id", "position_seconds")
    of_other_media = F.when(F.col("just_before.media_id") != F.col("media_id"), F.col("just_before"))
    return (
        actions.select(*ACTION_COLUMNS)
        .withColumn("just_before", F.lag(event).over(forwards))
        .withColumn("no_seek", F.last(F.when(F.col("action") != "seek", event), True).over(passed))
        .withColumn("of_other_media", of_other_media)
        .withColumn("other", F.last("of_other_media", True).over(here))
        .withColumn("previous", F.greatest("no_seek", "other"))
    )


def _is_play_of_same_media(event: SparkColumn) -> SparkColumn:
    return event["action"].isin(*OPENING) & (event["media_id"] == F.col("media_id"))


def _is_near(event: SparkColumn) -> SparkColumn:
    return F.col("occurred_at") - event["occurred_at"] <= _lookback()


def _lookback() -> SparkColumn:
    return F.make_dt_interval(F.lit(LOOKBACK_DAYS))


def _counts(rows: DataFrame, table: Table, time: str, rules: Mapping[str, SparkColumn]) -> DataFrame:
    """Rows counted by rule and day of `time`; all rules in one pass."""
    judged = rows.select(
        F.to_date(time).alias("event_date"),
        F.col(table.keys[0]).alias("id"),
        *[broken.alias(rule) for rule, broken in rules.items()],
    )
    counts = [
        F.struct(
            F.lit(table.full_name).alias("table_name"),
            F.lit(rule).alias("rule"),
            F.count(rule).alias("checked"),
            F.count_if(F.col(rule)).alias("violations"),
            F.min(F.when(F.col(rule), F.col("id"))).alias("example"),
        )
        for rule in rules
    ]
    by_day = judged.groupBy("event_date").agg(F.array(*counts).alias("counts"))
    return by_day.select("event_date", F.inline("counts")).where("checked > 0").select(*COLUMNS)
