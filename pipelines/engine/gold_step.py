"""One gold batch: recompute what the new events touch, and add the differences to the daily tables.

The way: `ops.recent_actions` holds the few events that may still decide a playback. In-order events and
normal disorder are settled from it and the batch alone, so a batch costs what is being watched, not what was
watched. Events later than that, and changed durations, pull the touched users' time out of silver and
restate it. Everything that is read is pinned to the versions that stood when the batch began, so a replay
after a crash computes the same differences.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, state
from pipelines.silver import content_uploads, user_actions
from pipelines.tables import OF_LAYER

ACTION, UPLOAD = "action", "upload"
_PINNED: tuple[Table, ...] = (*OF_LAYER["gold"], user_actions.TABLE, content_uploads.TABLE)
_FEW_ROWS = 2_000


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
        _Batch(self.config, self.app_id, batch_id, lake, _pins(lake, batch_id)).run(batch)


def _pins(lake: Lake, batch_id: int) -> dict[str, int]:
    """The versions that the batch reads: those of its first attempt, when it is replayed."""
    path = f"{lake.checkpoint('gold')}-pins.json"
    text = lake.read_text(path)
    held = json.loads(text) if text else {}
    if held.get("batch_id") != batch_id:
        held = {"batch_id": batch_id, "versions": {t.full_name: lake.version(t) for t in _PINNED}}
        lake.write_text(path, json.dumps(held))
    versions: dict[str, int] = held["versions"]
    return versions


@dataclass
class _Batch:
    config: Config
    app_id: str
    batch_id: int
    lake: Lake
    versions: dict[str, int]

    def run(self, batch: DataFrame) -> None:
        batch = self._hold(batch)
        new = batch.where(F.col("change") == ACTION).select(*playbacks.ACTION_COLUMNS)
        recent = self._hold(self._read(state.RECENT_ACTIONS))
        facts = self._facts(batch, recent)
        catalog = self._catalog(batch, facts)
        touched = self._touched(new, facts, catalog)
        actions, outside, old_finals = self._context(new, recent, touched, catalog)
        clock = self._one(clock=facts.clock)
        jitter = self.config.stream.jitter_seconds
        computed = playbacks.playbacks(actions, catalog.durations, clock, jitter)
        if outside is not None:
            computed = computed.join(outside, "playback_id", "left_anti")
        computed = self._hold(computed)
        old = self._read(playbacks.TABLE).where("NOT is_final")
        if old_finals is not None:
            old = old.unionByName(old_finals)
        news = self._news(new, facts)
        horizon = self._one(horizon=facts.horizon)
        # The state comes last: until then a replay finds what this attempt found.
        self._parallel(
            lambda: self._write_playbacks(computed, old_finals),
            lambda: self._write_media_daily(new, old, computed, news),
            lambda: self._write_audience_daily(old, computed, news),
            lambda: self._write_catalog(catalog, news),
            lambda: self.lake.append(state.COUNTED_ONCE, news, self._txn(state.COUNTED_ONCE)),
        )
        kept = state.recent_actions(actions, computed, horizon)
        self.lake.overwrite(state.RECENT_ACTIONS, kept, self._txn(state.RECENT_ACTIONS))

    def _read(self, table: Table) -> DataFrame:
        return self.lake.read(table, self.versions[table.full_name])

    def _hold(self, frame: DataFrame) -> DataFrame:
        """The frame computed and kept, without its plan: each step upon a long plan would analyse it all."""
        return frame.localCheckpoint(eager=True)

    def _txn(self, table: Table) -> Txn:
        return Txn(f"{self.app_id}/{table.full_name}", self.batch_id)

    def _one(self, **values: datetime | None) -> DataFrame:
        columns = [F.lit(value).cast("timestamp").alias(name) for name, value in values.items()]
        return self.lake.spark.range(1).select(*columns)

    def _parallel(self, *writes: Callable[[], None]) -> None:
        with ThreadPoolExecutor(len(writes)) as pool:
            for done in [pool.submit(write) for write in writes]:
                done.result()

    def _facts(self, batch: DataFrame, recent: DataFrame) -> _Facts:
        """What decides the rest, in one pass over the batch and the state."""
        names = playbacks.ACTION_COLUMNS
        all_rows = batch.unionByName(recent.select(F.lit("recent").alias("change"), *names))
        moment = F.least("occurred_at", "record_timestamp")
        rows = (
            all_rows.groupBy("change")
            .agg(
                F.max(moment).alias("clock"),
                F.min("occurred_at").alias("earliest"),
                F.collect_set(F.to_date("occurred_at")).alias("days"),
            )
            .collect()
        )
        by = {row["change"]: row for row in rows}
        before = by["recent"]["clock"] if "recent" in by else None
        now = by[ACTION]["clock"] if ACTION in by else None
        clock = max((c for c in (before, now) if c is not None), default=None)
        jitter = timedelta(seconds=self.config.stream.jitter_seconds)
        return _Facts(
            clock=clock,
            horizon=None if clock is None else clock - jitter,
            horizon_before=None if before is None else before - jitter,
            earliest=by[ACTION]["earliest"] if ACTION in by else None,
            days=sorted(by[ACTION]["days"]) if ACTION in by else [],
            has_uploads=UPLOAD in by,
        )

    def _catalog(self, batch: DataFrame, facts: _Facts) -> _Catalog:
        """The catalogue's rows of media with new uploads, and every known duration."""
        held = self._read(media_catalog.TABLE)
        durations = held.where("duration_seconds IS NOT NULL").select("media_id", "duration_seconds")
        if not facts.has_uploads:
            return _Catalog(held, None, durations, None)
        media = batch.where(F.col("change") == UPLOAD).select("media_id").distinct()
        uploads = self._read(content_uploads.TABLE).join(F.broadcast(media), "media_id", "left_semi")
        firsts = (
            self._read(state.COUNTED_ONCE)
            .where("kind = 'media'")
            .groupBy("media_id")
            .agg(F.min("first_at").alias("first_play_at"))
        )
        rows = self._hold(media_catalog.media_catalog(uploads, firsts))
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
        span = self._hold(
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
        self, new: DataFrame, recent: DataFrame, touched: _Touched | None, catalog: _Catalog
    ) -> tuple[DataFrame, DataFrame | None, DataFrame | None]:
        """The events to compute from; the openings among them to leave out; the final rows to restate."""
        at_hand = recent.unionByName(new).repartition("user_id").dropDuplicates(["user_id", "event_id"])
        if touched is None:
            return self._hold(at_hand), None, None
        at_hand = self._hold(at_hand)
        span = F.broadcast(touched.span.withColumnRenamed("user_id", "touched_user"))
        reach = F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(touched.reach.total_seconds()))
        in_days = F.col("event_date").between(*map(F.lit, touched.days))
        same_user = F.col("user_id") == F.col("touched_user")
        at = F.col("occurred_at")
        near = same_user & (at >= F.col("low") - reach) & (at <= F.col("high") + reach)
        pulled = self._hold(
            self._read(user_actions.TABLE)
            .where(in_days)
            .join(span, near)
            .select(*playbacks.ACTION_COLUMNS, "high")
            .join(at_hand.select("event_id"), "event_id", "left_anti")
        )
        # What follows the last touch only serves as the next event: its own end may lie beyond the span.
        outside = pulled.where(at > F.col("high")).select(F.col("event_id").alias("playback_id"))
        start = F.col("started_at")
        restated = same_user & (start >= F.col("low") - reach) & (start <= F.col("high"))
        old_finals = self._hold(
            self._read(playbacks.TABLE)
            .where(F.col("is_final") & in_days)
            .join(span, restated)
            .select(*playbacks.TABLE.column_names)
        )
        actions = at_hand.unionByName(pulled.select(*playbacks.ACTION_COLUMNS))
        return self._hold(actions), outside, old_finals

    def _news(self, new: DataFrame, facts: _Facts) -> DataFrame:
        """What is counted once and was not yet."""
        known = self._read(state.COUNTED_ONCE)
        on_days = F.col("event_date").isin(facts.days) if facts.days else F.lit(False)
        known = known.where(F.col("kind").isin("user", "media") | on_days)
        return self._hold(state.news(state.counted_once(new), known))

    def _write_playbacks(self, computed: DataFrame, old_finals: DataFrame | None) -> None:
        """Replace the rows that are not final, add the final ones, and restate those that changed."""
        table = playbacks.TABLE
        if old_finals is None:
            self.lake.replace_where(table, computed, "NOT is_final", self._txn(table))
            return
        before = old_finals.withColumnRenamed("playback_id", "old_id")
        same = [F.col(f"n.{c}").eqNullSafe(F.col(f"o.{c}")) for c in table.column_names if c != "playback_id"]
        unchanged = [F.col("n.playback_id") == F.col("o.old_id"), *same]
        changed = self._hold(computed.alias("n").join(before.alias("o"), unchanged, "left_anti"))
        replaced = old_finals.join(changed, "playback_id", "left_semi").select("playback_id", "event_date")
        found = replaced.limit(_FEW_ROWS + 1).collect()
        if len(found) <= _FEW_ROWS:
            predicate = _predicate(
                [row["playback_id"] for row in found], {row["event_date"] for row in found}
            )
            self.lake.replace_where(table, changed, predicate, self._txn(table))
            return
        days = sorted(row[0] for row in replaced.select("event_date").distinct().collect())
        kept = self._read(table).where(F.col("is_final") & F.col("event_date").isin(days))
        kept = kept.join(changed.select("playback_id"), "playback_id", "left_anti")
        rows = changed.unionByName(kept.select(*table.column_names))
        listed = ", ".join(f"DATE'{day}'" for day in days)
        self.lake.replace_where(table, rows, f"NOT is_final OR event_date IN ({listed})", self._txn(table))

    def _write_media_daily(
        self, new: DataFrame, old: DataFrame, computed: DataFrame, news: DataFrame
    ) -> None:
        table = media_daily.TABLE
        viewers = news.where("kind = 'viewer'").select("media_id", "event_date", "user_id")
        parts = (
            media_daily.of_playbacks(computed)
            .unionByName(media_daily.of_playbacks(old, -1))
            .unionByName(media_daily.of_skips(new))
            .unionByName(media_daily.of_viewers(viewers))
        )
        differences = self._hold(_not_zero(media_daily.sum_up(parts), media_daily.MEASURES))
        days = [row[0] for row in differences.select("event_date").distinct().collect()]
        if days:
            before = self._read(table).where(F.col("event_date").isin(days))
            self.lake.overwrite_partitions(
                table, media_daily.sum_up(before.unionByName(differences)), self._txn(table)
            )

    def _write_audience_daily(self, old: DataFrame, computed: DataFrame, news: DataFrame) -> None:
        table = audience_daily.TABLE
        users = news.where("kind = 'user'")
        replaced = users.where("previous_date IS NOT NULL").select(F.col("previous_date").alias("event_date"))
        parts = (
            audience_daily.of_playbacks(computed)
            .unionByName(audience_daily.of_playbacks(old, -1))
            .unionByName(audience_daily.of_active(news.where("kind = 'user_day'")))
            .unionByName(audience_daily.of_new(users))
            .unionByName(audience_daily.of_new(replaced, -1))
        )
        before = self._read(table)
        self.lake.overwrite(table, audience_daily.sum_up(before.unionByName(parts)), self._txn(table))

    def _write_catalog(self, catalog: _Catalog, news: DataFrame) -> None:
        table = media_catalog.TABLE
        firsts = news.where("kind = 'media'").select("media_id", F.col("first_at").alias("earlier"))
        if catalog.rows is None and firsts.isEmpty():
            return
        rows = catalog.held
        if catalog.rows is not None:
            rows = rows.join(catalog.rows, "media_id", "left_anti").unionByName(catalog.rows)
        first = F.least("first_play_at", "earlier").alias("first_play_at")
        others = [c for c in table.column_names if c != "first_play_at"]
        updated = rows.join(firsts, "media_id", "left").select(*others, first)
        self.lake.overwrite(table, updated.select(*table.column_names), self._txn(table))


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


def _not_zero(rows: DataFrame, measures: tuple[str, ...]) -> DataFrame:
    return rows.where(" OR ".join(f"{measure} <> 0" for measure in measures))


def _predicate(ids: list[str], days: set[date]) -> str:
    if not ids:
        return "NOT is_final"
    listed = ", ".join("'" + i.replace("\\", "\\\\").replace("'", "\\'") + "'" for i in ids)
    on = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return f"NOT is_final OR (event_date IN ({on}) AND playback_id IN ({listed}))"
