"""One silver batch: sort the records out, drop copies, append to the tables and the ledger.

Exactly once: every write carries the batch's id, and a replayed batch computes the same rows. Nothing is
lost: a record is in its silver table, is a copy of one that is, or is in quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from pyspark.sql import DataFrame

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.batch import Batch, together
from pipelines.engine.lake import Lake
from pipelines.engine.sorting import EVENTS, Place, Sorted, first_ones, reuse_window, sort_out
from pipelines.silver import ledger, quarantine


@dataclass(frozen=True)
class SilverStep:
    """Processes batches of bronze rows into the silver tables of one lake."""

    config: Config
    app_id: str

    def __call__(self, batch: DataFrame, batch_id: int, lake: Lake) -> None:
        """Process one batch; running it again for the same id changes nothing."""
        mine = Batch.pinned("silver", self.app_id, batch_id, lake)
        found = sort_out(batch, self.config)
        events, copies = first_ones(found, reuse_window(self.config), mine.read)
        writes: list[tuple[Table, DataFrame]] = [(EVENTS[t][0], EVENTS[t][1](events)) for t in found.hours]
        if found.refused is not None:
            writes.append((quarantine.TABLE, found.refused))
        entries = _entries(found, copies, batch_id)
        if entries:
            writes.append((ledger.TABLE, lake.spark.createDataFrame(entries, ledger.TABLE.schema())))
        together(*[partial(lake.append, table, rows, mine.txn(table)) for table, rows in writes])


def _entries(found: Sorted, copies: dict[Place, int], batch_id: int) -> list[tuple[Any, ...]]:
    """The ledger's rows, in the order of its columns."""
    now = datetime.now(timezone.utc)
    rows = []
    for place, n in found.places.items():
        removed = copies.get(place, 0)
        counts = (n.records, n.accepted - removed, removed, n.records - n.accepted, 0)
        rows.append((*place, batch_id, n.first_offset, n.last_offset, *counts, now))
    return rows
