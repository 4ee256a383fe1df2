"""Recomputes gold tables from silver, from scratch, by the same pure functions as the stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.errors import UsageError
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, state
from pipelines.silver import content_uploads, user_actions
from pipelines.tables import GOLD, INTERNAL


def computed(lake: Lake, config: Config, horizon: datetime | None = None) -> dict[str, DataFrame]:
    """Every gold table and its state, computed from all of silver; by full name, nothing is written.

    `horizon`: what is older is settled (UTC), where it is not the configured jitter before the clock.
    """
    actions, uploads = lake.read(user_actions.TABLE), lake.read(content_uploads.TABLE)
    clock = playbacks.stream_clock(actions, config.stream.jitter_seconds)
    if horizon is not None:
        clock = clock.withColumn("horizon", F.lit(horizon))
    clock = clock.localCheckpoint()
    plays = playbacks.playbacks(actions, media_catalog.durations(uploads), clock).persist()
    return from_silver(actions, uploads, clock, plays)


def from_silver(
    actions: DataFrame, uploads: DataFrame, clock: DataFrame, plays: DataFrame
) -> dict[str, DataFrame]:
    """Every gold table and its state, by full name; `plays` are the rows of `gold.playbacks`."""
    return {
        playbacks.TABLE.full_name: plays,
        media_daily.TABLE.full_name: media_daily.media_daily(actions, plays),
        audience_daily.TABLE.full_name: audience_daily.audience_daily(actions, plays),
        media_catalog.TABLE.full_name: media_catalog.media_catalog(uploads, media_catalog.first_plays(plays)),
        state.RECENT_ACTIONS.full_name: state.recent_actions(actions, plays, clock),
        state.COUNTED_ONCE.full_name: state.counted_once(actions),
    }


def rebuild(lake: Lake, config: Config, tables: Sequence[Table], since: date | None = None) -> None:
    """Replace the tables' rows, each in one commit: readers see the former table until the new one is whole.

    Only rows with `event_date` from `since` on when it is given. The stream of gold must have taken all of
    silver and must not run. Raises UsageError (`not_rebuildable`, `no_dates`).
    """
    for table in tables:
        if table not in GOLD:
            message = (
                f"{table.full_name} cannot be rebuilt; the gold tables can: {', '.join(map(_name, GOLD))}"
            )
            raise UsageError(message, code="not_rebuildable")
        if since is not None and "event_date" not in table.column_names:
            message = f"{table.full_name} has no event_date for --from; leave --from out"
            raise UsageError(message, code="no_dates")
    # Rows of playbacks that stay were settled by the horizon before: the stream must go on from that one.
    is_whole = playbacks.TABLE in tables and since is None
    frames = computed(lake, config, None if is_whole else state.horizon(lake.read(state.RECENT_ACTIONS)))
    for table in tables:
        rows = frames[table.full_name]
        if since is None:
            lake.overwrite(table, rows)
        else:
            predicate = f"event_date >= DATE'{since}'"
            lake.replace_where(table, rows.where(predicate), predicate)
    # What the stream remembers goes on from the same events.
    for table in INTERNAL:
        lake.overwrite(table, frames[table.full_name])
    frames[playbacks.TABLE.full_name].unpersist()


def _name(table: Table) -> str:
    return table.full_name
