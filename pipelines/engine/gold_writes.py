"""What a gold batch writes: each table in one commit, from what the batch has computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from pipelines.declare import Column
from pipelines.engine.batch import Batch, hold
from pipelines.engine.lake import literal
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, state
from pipelines.gold.additive import measures_of, sum_up
from pipelines.gold.playbacks import PLAYBACK_KEY

_FEW_ROWS = 2_000


def taken_back(old: DataFrame) -> DataFrame:
    """What former rows of playbacks have added to `gold.media_daily`, to take it back."""
    return hold(sum_up(media_daily.TABLE, media_daily.of_playbacks(old, -1)))


def differences(new: DataFrame, less: DataFrame, computed: DataFrame, news: DataFrame) -> DataFrame:
    """What to add to `gold.media_daily`: new rows and `less`, without those that stay the same."""
    viewers = news.where("kind = 'viewer'").select("media_id", "event_date", "user_id")
    parts = (
        media_daily.of_playbacks(computed)
        .unionByName(less)
        .unionByName(media_daily.of_skips(new))
        .unionByName(media_daily.of_viewers(viewers))
    )
    return hold(_not_zero(sum_up(media_daily.TABLE, parts), measures_of(media_daily.TABLE)))


@dataclass(frozen=True)
class GoldWrites:
    """The writes of one batch; they may run side by side."""

    batch: Batch

    def playbacks(self, computed: DataFrame, old_finals: DataFrame | None) -> None:
        """Replace the rows that are not final, add the final ones, and restate those that changed."""
        table = playbacks.TABLE
        if old_finals is None:
            self.batch.lake.replace_where(table, computed, "NOT is_final", self.batch.txn(table))
            return
        before = old_finals.withColumnRenamed("playback_id", "old_id")
        same = [F.col(f"n.{c}").eqNullSafe(F.col(f"o.{c}")) for c in table.column_names if c != "playback_id"]
        unchanged = [F.col("n.playback_id") == F.col("o.old_id"), *same]
        changed = hold(computed.alias("n").join(before.alias("o"), unchanged, "left_anti"))
        changed_keys = changed.select(*PLAYBACK_KEY)
        replaced = old_finals.join(changed_keys, [*PLAYBACK_KEY], "left_semi")
        micros = F.unix_micros("started_at").alias("micros")
        found = replaced.select("playback_id", micros, "event_date").limit(_FEW_ROWS + 1).collect()
        if len(found) <= _FEW_ROWS:
            self.batch.lake.replace_where(table, changed, _predicate(found), self.batch.txn(table))
            return
        days = [row[0] for row in replaced.select("event_date").distinct().collect()]
        kept = self.batch.read(table).where(F.col("is_final") & F.col("event_date").isin(days))
        kept = kept.join(changed_keys, [*PLAYBACK_KEY], "left_anti")
        rows = changed.unionByName(kept.select(*table.column_names))
        predicate = f"NOT is_final OR event_date IN ({_listed(days)})"
        self.batch.lake.replace_where(table, rows, predicate, self.batch.txn(table))

    def media_daily(self, differences: DataFrame) -> None:
        """Add the differences to their days."""
        table = media_daily.TABLE
        days = [row[0] for row in differences.select("event_date").distinct().collect()]
        if days:
            before = self.batch.read(table).where(F.col("event_date").isin(days))
            rows = sum_up(table, before.unionByName(differences))
            self.batch.lake.overwrite_partitions(table, rows, self.batch.txn(table))

    def audience_daily(self, differences: DataFrame, news: DataFrame) -> None:
        """Add what the media of a day add up to, and the users that are news."""
        table = audience_daily.TABLE
        users = news.where("kind = 'user'")
        replaced = users.where("previous_date IS NOT NULL").select(F.col("previous_date").alias("event_date"))
        parts = (
            audience_daily.of_media(differences)
            .unionByName(audience_daily.of_active(news.where("kind = 'user_day'")))
            .unionByName(audience_daily.of_new(users))
            .unionByName(audience_daily.of_new(replaced, -1))
        )
        rows = sum_up(table, self.batch.read(table).unionByName(parts))
        self.batch.lake.overwrite(table, rows, self.batch.txn(table))

    def catalog(self, held: DataFrame, changed: DataFrame | None, news: DataFrame) -> None:
        """Replace the rows of media with new uploads, and tell first plays; nothing when there are none."""
        table = media_catalog.TABLE
        firsts = news.where("kind = 'media'").select("media_id", F.col("first_at").alias("earlier"))
        rows = held
        if changed is not None:
            rows = rows.join(changed, "media_id", "left_anti").unionByName(changed)
        # Also media without an upload are played: they have no row.
        elif firsts.join(held, "media_id", "left_semi").isEmpty():
            return
        told = rows.join(firsts, "media_id", "left").withColumn(
            "first_play_at", F.least("first_play_at", "earlier")
        )
        self.batch.lake.overwrite(table, told, self.batch.txn(table))

    def counted_once(self, news: DataFrame) -> None:
        """Remember what has been counted."""
        self.batch.lake.append(state.COUNTED_ONCE, news, self.batch.txn(state.COUNTED_ONCE))

    def recent_actions(self, kept: DataFrame) -> None:
        """Remember the actions that may still decide a playback."""
        self.batch.lake.overwrite(state.RECENT_ACTIONS, kept, self.batch.txn(state.RECENT_ACTIONS))


def _not_zero(rows: DataFrame, measures: Sequence[Column]) -> DataFrame:
    return rows.where(" OR ".join(f"{measure.name} <> 0" for measure in measures))


def _predicate(replaced: Sequence[Row]) -> str:
    """What is not final, and the rows `replaced` (`playback_id`, `micros` of its start, `event_date`)."""
    if not replaced:
        return "NOT is_final"
    keys = ", ".join(
        f"({literal(row['playback_id'])}, timestamp_micros({row['micros']}))" for row in replaced
    )
    days = _listed({row["event_date"] for row in replaced})
    return f"NOT is_final OR (event_date IN ({days}) AND ({', '.join(PLAYBACK_KEY)}) IN ({keys}))"


def _listed(days: Iterable[date]) -> str:
    return ", ".join(f"DATE'{day}'" for day in sorted(days))
