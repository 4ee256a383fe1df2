"""What the incremental gold tables remember between batches: bounded by what is being watched, and by keys.

Internal: no promise to users. Both are pure functions of silver, so `rebuild` makes them anew.
"""

from __future__ import annotations

from functools import cache

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Table
from pipelines.gold.playbacks import ACTION_COLUMNS, EVENT_KEY, OPENING, PLAYBACK_KEY

_TYPES = {"occurred_at": "timestamp", "record_timestamp": "timestamp", "position_seconds": "decimal(18,6)"}

RECENT_ACTIONS = Table(
    layer="ops",
    name="recent_actions",
    grain="one event",
    comment="User actions that may still decide a playback: recent ones, and openers of those not final.",
    columns=(
        *(Column(name, _TYPES.get(name, "string"), "As in silver.user_actions.") for name in ACTION_COLUMNS),
        Column("horizon", "timestamp", "Before it gold.playbacks was settled (UTC), the same in all rows."),
    ),
    keys=("event_id",),
)
COUNTED_ONCE = Table(
    layer="ops",
    name="counted_once",
    grain="one thing that is counted once",
    comment="Viewers by media and day, users by day, first days of users, first plays of media.",
    columns=(
        Column("kind", "string", "viewer, user_day, user or media."),
        Column("event_date", "date", "UTC date; for kind user the first one; null for media."),
        Column("user_id", "string", "The user; null for media."),
        Column("media_id", "string", "The media, for kinds viewer and media."),
        Column("first_at", "timestamp", "Start of the media's first playback (UTC), for kind media."),
    ),
    keys=("kind", "event_date", "user_id", "media_id", "first_at"),
    partition_cols=("kind",),
)


def recent_actions(actions: DataFrame, playbacks: DataFrame, clock: DataFrame) -> DataFrame:
    """Of `actions`, those at or after the horizon of `clock`, and those whose playback is not final."""
    unsettled = playbacks.where("NOT is_final").select(*PLAYBACK_KEY).toDF(*EVENT_KEY)
    marked = actions.join(unsettled.withColumn("unsettled", F.lit(True)), list(EVENT_KEY), "left")
    kept = marked.crossJoin(F.broadcast(clock)).where(
        F.col("unsettled") | F.coalesce(F.col("occurred_at") >= F.col("horizon"), F.lit(False))
    )
    return kept.select(*RECENT_ACTIONS.column_names)


def counted_once(actions: DataFrame) -> DataFrame:
    """Everything in `actions` that is counted once, each once."""
    # One pass and one exchange for all kinds.
    found = actions.select(F.explode(_things()).alias("thing")).select("thing.*")
    firsts = found.groupBy("kind", "day", "user_id", "media_id").agg(
        F.min("first_date").alias("first_date"), F.min("first_at").alias("first_at")
    )
    event_date = F.coalesce("day", "first_date").alias("event_date")
    return firsts.select("kind", event_date, "user_id", "media_id", "first_at")


@cache
def _things() -> SparkColumn:
    """What an action is counted once for, as a list; made once in a process."""
    day, is_play = F.to_date("occurred_at"), F.col("action").isin(*OPENING)
    user, media, at = F.col("user_id"), F.col("media_id"), F.col("occurred_at")
    things = F.array(
        F.when(is_play, _thing("viewer", day=day, user=user, media=media)),
        _thing("user_day", day=day, user=user),
        _thing("user", user=user, first_date=day),
        F.when(is_play, _thing("media", media=media, first_at=at)),
    )
    return F.array_compact(things)


def _thing(
    kind: str,
    day: SparkColumn | None = None,
    user: SparkColumn | None = None,
    media: SparkColumn | None = None,
    first_date: SparkColumn | None = None,
    first_at: SparkColumn | None = None,
) -> SparkColumn:
    """One thing that is counted once: what tells it apart, and its first date or time."""
    given = {
        "day": (day, "date"),
        "user_id": (user, "string"),
        "media_id": (media, "string"),
        "first_date": (first_date, "date"),
        "first_at": (first_at, "timestamp"),
    }
    fields = [(F.lit(None) if c is None else c).cast(type_).alias(name) for name, (c, type_) in given.items()]
    return F.struct(F.lit(kind).alias("kind"), *fields)


def news(candidates: DataFrame, known: DataFrame) -> DataFrame:
    """Of `candidates`, what `known` does not hold; a first that is earlier than the known one is news.

    Adds `previous_date`, the first day of a user that the news replaces.
    """
    by = ["kind", "user_id", "media_id", "day"]
    earliest = (
        known.withColumn("day", _day_of_pairs())
        .groupBy(*by)
        .agg(F.min("event_date").alias("known_date"), F.min("first_at").alias("known_at"))
    )
    asked = candidates.withColumn("day", _day_of_pairs()).alias("asked")
    same = [F.col(f"asked.{c}").eqNullSafe(F.col(f"known.{c}")) for c in by]
    joined = asked.join(earliest.alias("known"), same, "left")
    is_news = (
        F.col("known.kind").isNull()
        | ((F.col("asked.kind") == "user") & (F.col("event_date") < F.col("known_date")))
        | ((F.col("asked.kind") == "media") & (F.col("first_at") < F.col("known_at")))
    )
    columns = [F.col(f"asked.{name}") for name in COUNTED_ONCE.column_names]
    return joined.where(is_news).select(*columns, F.col("known_date").alias("previous_date"))


def _day_of_pairs() -> SparkColumn:
    """Pairs are counted once a day, firsts once ever."""
    return F.when(F.col("kind").isin("viewer", "user_day"), F.col("event_date"))
