"""Looks after a table between batches: merges the small files of many, and cuts its log.

Delta finds a table's newest version by listing its whole log, some thirty times in a round: on a disk a day
of rounds made each listing half a second longer, and Delta by itself begins to cut it after thirty days.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from pipelines.declare import Table
from pipelines.engine import rebuild
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import last_batch, last_planned, sources
from pipelines.engine.lake import Lake
from pipelines.engine.locks import in_turn
from pipelines.errors import ReelhouseError
from pipelines.tables import READ_BY


def maintain(lake: Lake, table: Table, history: timedelta) -> None:
    """Merge the table's small files, and cut from its log the versions that were replaced before `history`.

    No version goes that a stream has yet to read, or goes by when it takes a batch again: however long the
    layer, a process of its own, has been down.
    """
    with in_turn(lake, table):
        lake.compact(table)
    since = datetime.now(timezone.utc) - history
    try:
        written = [at for version in _needed(lake, table) if (at := lake.written_at(table, version))]
    except ReelhouseError:
        return  # a stream's source was made anew, which its own process will tell
    lake.cut_log(table, min([since, *written]))


def _needed(lake: Lake, table: Table) -> Iterator[int]:
    """The versions of the table that the layers' streams start from."""
    for layer, tables in READ_BY.items():
        batch, _ = last_batch(lake, layer)
        if table in tables and batch is None and last_planned(lake, layer) is not None:
            yield 0  # its first batch is under way
        if table in tables and batch is not None:
            # Spark asks for the last batch once more when it starts: from where the batch before it ended,
            # which is the version before the next one to read.
            reached = sources(lake, layer, batch - 1).get(table) if batch else None
            yield max(0, reached.version - 1) if reached else 0
        begun = pins(lake, layer)
        if begun is not None and table.full_name in begun.versions:
            yield begun.versions[table.full_name]
    unfinished = rebuild.unfinished(lake)
    if unfinished is not None and table.full_name in unfinished.versions:
        yield unfinished.versions[table.full_name]
