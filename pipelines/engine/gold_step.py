"""One gold batch: recompute what the new events touch, and add the differences to the daily tables.

The way: `ops.recent_actions` holds the few events that may still decide a playback. In-order events and
normal disorder are settled from it and the batch alone, so a batch costs what is being watched, not what was
watched. Events later than that, and changed durations, pull the touched users' time out of silver and
restate it. Everything that is read is pinned to the versions that stood when the batch began, so a replay
after a crash computes the same differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine import gold_writes
from pipelines.engine.batch import Batch, hold, together
from pipelines.engine.lake import Lake
from pipelines.gold import media_catalog, playbacks, state
from pipelines.gold.playbacks import EVENT_KEY, PLAYBACK_KEY
from pipelines.silver import content_uploads, user_actions

ACTION, UPLOAD, RECENT = "action", "upload", "recent"


def changes(actions: DataFrame, uploads: DataFrame) -> DataFrame:
    """What the gold stream reads: new user actions, and the media of new uploads."""
    names = playbacks.ACTION_COLUMNS
    told = actions.select(F.lit(ACTION).alias("change"), *names)
    media = uploads.select(
        F.lit(UPLOAD).alias("change"),
        *[(F.col(n) if n == "media_id" else F.lit(None).cast(t)).alias(n) for n, t in told.dtypes[1:]],
    )
    return told.unionByName(media)


@dataclass(frozen=True)
class GoldStep:
    """Processes batches of `changes` into the gold tables of one lake."""

    config: Config
    app_id: str

    def __call__(self, batch: DataFrame, batch_id: int, lake: Lake) -> None:
        """Process one batch; running it again for the same id changes nothing."""
        jitter = self.config.stream.jitter_seconds
        pinned = Batch.pinned("gold", self.app_id, batch_id, lake, jitter_seconds=jitter)
        _Computation(pinned, pinned.pins.settings["jitter_seconds"]).run(batch)


@dataclass(frozen=True)
class _Computation:
    batch: Batch
    jitter_seconds: int

    def run(self, batch: DataFrame) -> None:
        names = state.RECENT_ACTIONS.column_names
        recent_rows = self._read(state.RECENT_ACTIONS).selectExpr(f"'{RECENT}' AS change", *names)
        taken = batch.withColumn("horizon", F.lit(None).cast("timestamp"))
        # By user, as the playbacks need them: nothing is moved again. The batch is read only here: each time
        # Spark would read all of its files.
        read = hold(taken.unionByName(recent_rows).repartition("user_id"))
        facts = self._facts(read)
        new = read.where(F.col("change") == ACTION).drop("change", "horizon")
        catalog = self._catalog(read.where(F.col("change") == UPLOAD), facts)
        touched = self._touched(new, facts, catalog)
        at_hand = read.where(F.col("change") != UPLOAD).drop("change", "horizon")
        actions, outside, old_finals = self._context(at_hand, touched, facts.horizon_before)
        clock = self._one(clock=facts.clock, horizon=facts.horizon)

        def compute() -> DataFrame:
            rows = playbacks.playbacks(actions, catalog.durations, clock)
            return hold(rows if outside is None else rows.join(outside, [*PLAYBACK_KEY], "left_anti"))

        old = self._read(playbacks.TABLE).where("NOT is_final")
        if old_finals is not None:
            old = old.unionByName(old_finals)
        computed, news, less = together(
            compute, lambda: self._news(new, facts), lambda: gold_writes.taken_back(old)
        )
        differences = gold_writes.differences(new, less, computed, news)
        writes = gold_writes.GoldWrites(self.batch)
        # What people wait for comes first. Of the others the order does not matter: a replay reads what was
        # pinned, and writes no table twice.
        writes.media_daily(differences)
        together(
            lambda: writes.recent_actions(state.recent_actions(actions, computed, clock)),
            lambda: writes.playbacks(computed, old_finals),
            lambda: writes.audience_daily(differences, news),
            lambda: writes.catalog(catalog.held, catalog.rows, news),
            lambda: writes.counted_once(news),
        )

    def _read(self, table: Table) -> DataFrame:
        return self.batch.read(table)

    def _one(self, **values: datetime | None) -> DataFrame:
        columns = [F.lit(value).cast("timestamp").alias(name) for name, value in values.items()]
        return self.batch.lake.spark.range(1).select(*columns)

    def _facts(self, all_rows: DataFrame) -> _Facts:
        """What decides the rest, in one pass over the batch and the state."""
        moment = F.least("occurred_at", "record_timestamp")
        rows = (
            all_rows.groupBy("change")
            .agg(
                F.max(moment).alias("clock"),
                F.max("horizon").alias("horizon"),
                F.min("occurred_at").alias("earliest"),
                F.collect_set(F.to_date("occurred_at")).alias("days"),
            )
            .collect()
        )
        by = {row["change"]: row for row in rows}
        before = by[RECENT]["clock"] if RECENT in by else None
        now = by[ACTION]["clock"] if ACTION in by else None
        clock = max((c for c in (before, now) if c is not None), default=None)
        jitter = timedelta(seconds=self.jitter_seconds)
        horizon_before = by[RECENT]["horizon"] if RECENT in by else None
        # What is settled stays so, also when the jitter is raised.
        reached = [h for h in (horizon_before, clock and clock - jitter) if h is not None]
        return _Facts(
            clock=clock,
            horizon=max(reached, default=None),
            horizon_before=horizon_before,
            earliest=by[ACTION]["earliest"] if ACTION in by else None,
            days=sorted(by[ACTION]["days"]) if ACTION in by else [],
            has_uploads=UPLOAD in by,
        )

    def _catalog(self, new_uploads: DataFrame, facts: _Facts) -> _Catalog:
        """The catalogue's rows of media with new uploads, and every known duration."""
        held = self._read(media_catalog.TABLE)
        durations = held.where("duration_seconds IS NOT NULL").select("media_id", "duration_seconds")
        if not facts.has_uploads:
            return _Catalog(held, None, durations, None)
        media = new_uploads.select("media_id").distinct()
        uploads = self._read(content_uploads.TABLE).join(F.broadcast(media), "media_id", "left_semi")
        firsts = (
            self._read(state.COUNTED_ONCE)
            .where("kind = 'media'")
            .groupBy("media_id")
            .agg(F.min("first_at").alias("first_play_at"))
        )
        rows = hold(media_catalog.media_catalog(uploads, firsts))
        fresh = rows.where("duration_seconds IS NOT NULL").select("media_id", "duration_seconds")
        before = durations.withColumnRenamed("duration_seconds", "before")
        changed = (
            fresh.join(before, "media_id", "left")
            .where(~F.col("duration_seconds").eqNullSafe(F.col("before")))
            .select("media_id")
        )
        durations = durations.join(fresh, "media_id", "left_anti").unionByName(fresh)
        return _Catalog(held, rows, durations, changed)

    def _touched(self, new: DataFrame, facts: _Facts, catalog: _Catalog) -> _Touched | None:
        """The users whose settled past must be restated, with the span of it; None: nobody's."""
        touches: list[DataFrame] = []
        before = facts.horizon_before
        if before is not None and facts.earliest is not None and facts.earliest < before:
            touches.append(new.where(F.col("occurred_at") < F.lit(before)).select("user_id", "occurred_at"))
        if catalog.changed is not None:
            plays = self._read(playbacks.TABLE).where("is_final")
            hit = plays.join(F.broadcast(catalog.changed), "media_id", "left_semi")
            touches.append(hit.select("user_id", F.col("started_at").alias("occurred_at")))
        if not touches:
            return None
        points = touches[0] if len(touches) == 1 else touches[0].unionByName(touches[1])
        span = hold(
            points.groupBy("user_id").agg(
                F.min("occurred_at").alias("low"), F.max("occurred_at").alias("high")
            )
        )
        bounds = span.agg(F.min("low").alias("low"), F.max("high").alias("high")).first()
        if bounds is None or bounds["low"] is None:
            return None
        longest = catalog.durations.agg(F.max("duration_seconds")).first()
        known = float(longest[0]) if longest is not None and longest[0] is not None else 0.0
        reach = timedelta(seconds=max(known, float(playbacks.UNKNOWN_LIMIT_SECONDS)))
        return _Touched(span, reach, _days(bounds["low"], bounds["high"], reach))

    def _context(
        self, at_hand: DataFrame, touched: _Touched | None, horizon_before: datetime | None
    ) -> tuple[DataFrame, DataFrame | None, DataFrame | None]:
        """The events to compute from; the openings among them to leave out; the final rows to restate."""
        if touched is None:
            return at_hand, None, None
        span = F.broadcast(touched.span.withColumnRenamed("user_id", "touched_user"))
        reach = F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(touched.reach.total_seconds()))
        in_days = F.col("event_date").between(*map(F.lit, touched.days))
        same_user = F.col("user_id") == F.col("touched_user")
        at = F.col("occurred_at")
        # Silver may be ahead of this batch. What was taken since the horizon before is at hand; the rest that
        # is in silver comes with a batch of its own, and would be there twice if it was remembered now.
        settled = at < F.lit(horizon_before)
        near = same_user & settled & (at >= F.col("low") - reach) & (at <= F.col("high") + reach)
        pulled = hold(
            self._read(user_actions.TABLE)
            .where(in_days)
            .join(span, near)
            .select(*playbacks.ACTION_COLUMNS, "high")
            .join(at_hand.select(*EVENT_KEY), [*EVENT_KEY], "left_anti")
        )
        start = F.col("started_at")
        restated = same_user & (start >= F.col("low") - reach) & (start <= F.col("high"))
        old_finals = hold(
            self._read(playbacks.TABLE)
            .where(F.col("is_final") & in_days)
            .join(span, restated)
            .select(*playbacks.TABLE.column_names)
        )
        # What follows the last touch only serves as the next event: its own end may lie beyond the span.
        is_after = at > F.col("high")
        outside = pulled.where(is_after).select(*EVENT_KEY).toDF(*PLAYBACK_KEY)
        # An opening that gold has taken and that is settled has its row.
        to_come = (
            pulled.where(~is_after & F.col("action").isin(*playbacks.OPENING))
            .select(*EVENT_KEY)
            .join(old_finals.select(*PLAYBACK_KEY).toDF(*EVENT_KEY), [*EVENT_KEY], "left_anti")
        )
        taken = pulled.join(to_come, [*EVENT_KEY], "left_anti").select(*playbacks.ACTION_COLUMNS)
        return hold(at_hand.unionByName(taken)), outside, old_finals

    def _news(self, new: DataFrame, facts: _Facts) -> DataFrame:
        """What is counted once and was not yet."""
        known = self._read(state.COUNTED_ONCE)
        on_days = F.col("event_date").isin(facts.days) if facts.days else F.lit(False)
        known = known.where(F.col("kind").isin("user", "media") | on_days)
        return hold(state.news(state.counted_once(new), known))


@dataclass(frozen=True)
class _Facts:
    clock: datetime | None
    horizon: datetime | None
    horizon_before: datetime | None
    earliest: datetime | None
    days: list[date]
    has_uploads: bool


@dataclass(frozen=True)
class _Catalog:
    held: DataFrame
    rows: DataFrame | None
    durations: DataFrame
    changed: DataFrame | None


@dataclass(frozen=True)
class _Touched:
    span: DataFrame
    reach: timedelta
    days: tuple[date, date]


def _days(low: datetime, high: datetime, reach: timedelta) -> tuple[date, date]:
    try:
        return (low - reach).date(), (high + reach).date()
    except OverflowError:
        return date.min, date.max
