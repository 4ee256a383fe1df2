"""Recomputes gold tables from silver, from scratch, by the same pure functions as the stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.declare import Reads, Table
from pipelines.engine.lake import Lake
from pipelines.errors import UsageError
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, state
from pipelines.tables import GOLD, INTERNAL, READ_BY, table_named


class Begun(NamedTuple):
    """A rebuild that has begun to write, as a file beside the checkpoint tells it."""

    tables: list[str]
    since: str | None
    versions: dict[str, int]
    """Of silver's tables, by full name: what gold's stream had taken."""
    written: dict[str, int]
    """Versions of what it writes, by full name, before."""


def computed(read: Reads, config: Config, settled: datetime | None = None) -> dict[str, DataFrame]:
    """Every gold table and its state, computed from all of silver; by full name, nothing is written.

    `settled`: the horizon (UTC) where it is not the configured jitter before the clock.
    """
    actions, uploads = map(read, READ_BY["gold"])
    clock = playbacks.stream_clock(actions, config.stream.jitter_seconds)
    if settled is not None:
        clock = clock.withColumn("horizon", F.lit(settled))
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


def require_rebuildable(tables: Sequence[Table], since: date | None) -> None:
    """Raise UsageError (`not_rebuildable`, `no_dates`) for a table that `rebuild` does not take."""
    for table in tables:
        if table not in GOLD:
            message = (
                f"{table.full_name} cannot be rebuilt; the gold tables can: {', '.join(map(_name, GOLD))}"
            )
            raise UsageError(message, code="not_rebuildable")
        if since is not None and "event_date" not in table.column_names:
            message = f"{table.full_name} has no event_date for --from; leave --from out"
            raise UsageError(message, code="no_dates")


def rebuild(lake: Lake, config: Config, tables: Sequence[Table], since: date | None = None) -> None:
    """Replace the tables' rows, each in one commit: readers see the former table until the new one is whole.

    One that is cut off between them is finished by `finish`, before the stream goes on. Only rows with
    `event_date` from `since` on when it is given. The stream of gold must have taken all of silver and must
    not run. `tables` are such as `require_rebuildable` lets pass.
    """
    versions = {table.full_name: lake.version(table) for table in READ_BY["gold"]}
    written = {table.full_name: lake.version(table) for table in (*tables, *INTERNAL)}
    begun = Begun(list(map(_name, tables)), None if since is None else str(since), versions, written)
    lake.write_text(_begun_file(lake), json.dumps(begun._asdict()))
    _write(lake, config, begun)


def finish(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Do again what a rebuild that was cut off had begun: its tables go together, or not at all."""
    begun = unfinished(lake)
    if begun is None:
        return
    targets = [table for table in (*GOLD, *INTERNAL) if table.full_name in begun.written]
    if all(lake.version(table) == begun.written[table.full_name] for table in targets):
        lake.remove(_begun_file(lake))  # it had not come to write anything
    else:
        report(f"finishing the rebuild of {', '.join(begun.tables)}, which was cut off")
        _write(lake, config, begun)


def unfinished(lake: Lake) -> Begun | None:
    """The rebuild that was cut off; None: there is none."""
    text = lake.read_text(_begun_file(lake))
    return Begun(**json.loads(text)) if text else None


def _write(lake: Lake, config: Config, begun: Begun) -> None:
    # Rows of playbacks that stay were settled by the horizon before: the stream must go on from that one.
    is_whole = playbacks.TABLE.full_name in begun.tables and begun.since is None
    settled = None if is_whole else horizon(lake.read(state.RECENT_ACTIONS))
    frames = computed(lambda table: lake.read(table, begun.versions[table.full_name]), config, settled)
    for table in map(table_named, begun.tables):
        rows = frames[table.full_name]
        if begun.since is None:
            lake.overwrite(table, rows)
        else:
            predicate = f"event_date >= DATE'{begun.since}'"
            lake.replace_where(table, rows.where(predicate), predicate)
    # What the stream remembers goes on from the same events.
    for table in INTERNAL:
        lake.overwrite(table, frames[table.full_name])
    lake.remove(_begun_file(lake))
    frames[playbacks.TABLE.full_name].unpersist()


def horizon(recent: DataFrame) -> datetime | None:
    """The horizon that the rows of `ops.recent_actions` remember (UTC); None: none."""
    row = recent.agg(F.max("horizon")).first()
    return None if row is None else row[0]


def _begun_file(lake: Lake) -> str:
    return f"{lake.checkpoint('gold')}-rebuild.json"


def _name(table: Table) -> str:
    return table.full_name
