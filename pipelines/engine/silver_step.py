"""One silver batch: sort the records out, drop copies, append to the tables and the ledger.

Exactly once, also when contracts are deployed or the registry comes back between two attempts at a batch:
what an attempt that was cut off has written stays, and the next takes only the records that are nowhere yet.
Nothing is lost: a record is in its silver table, is a copy of one that is, or is in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.bronze import events as bronze
from pipelines.config import Config
from pipelines.contracts.schema_ids import SchemaIds
from pipelines.declare import Table
from pipelines.engine.batch import Batch, hold, together
from pipelines.engine.lake import Lake
from pipelines.engine.sorting import (
    EVENTS,
    Place,
    Sorted,
    counts_by_place,
    first_ones,
    reuse_window,
    silver_places,
    sort_out,
)
from pipelines.silver import ledger, quarantine
from pipelines.silver.deduplicate import PLACE, without


@dataclass(frozen=True)
class SilverStep:
    """Processes batches of bronze rows into the silver tables of one lake."""

    config: Config
    app_id: str
    ids: SchemaIds

    def __call__(self, batch: DataFrame, batch_id: int, lake: Lake) -> int:
        """Process one batch and return its records; running it again for the same id changes nothing."""
        mine = Batch.pinned("silver", self.app_id, batch_id, lake)
        if mine.is_repeat:
            return self._repeat(batch, batch_id, lake)
        with closing(self._sorted(batch)) as found:
            events, copies = first_ones(found, reuse_window(self.config), mine.read)
            writes = [*_writes(found, events, lake)]
            entries = _entries(found, copies, batch_id)
            if entries:
                writes.append(partial(lake.append, ledger.TABLE, lake.frame(ledger.TABLE, entries)))
            together(*writes)
            return sum(place.records for place in found.places.values())

    def _repeat(self, batch: DataFrame, batch_id: int, lake: Lake) -> int:
        """What an attempt that was cut off left to do; the ledger then tells what the tables hold."""
        with closing(self._sorted(batch)) as whole:
            there = _settled(batch, lake)
            refused = None if whole.refused is None else without(whole.refused, there)
            found = replace(whole, events=without(whole.events, there), refused=refused)
            # Also what was written of this batch may be what the rest are copies of, at any distance.
            events, _ = first_ones(found, reuse_window(self.config), lake.read)
            together(*_writes(found, events, lake))
        entries = _recounted(batch, batch_id, lake)
        lake.replace_where(ledger.TABLE, lake.frame(ledger.TABLE, entries), f"batch = {batch_id}")
        return sum(entry.records for entry in entries)

    def _sorted(self, records: DataFrame) -> Sorted:
        # A table of another release may have more columns: what is decoded has only these.
        return sort_out(records.select(*bronze.TABLE.column_names), self.config, self.ids)


def _writes(found: Sorted, events: DataFrame, lake: Lake) -> Iterator[Callable[[], None]]:
    for event_type in found.hours:
        table, select = EVENTS[event_type]
        yield partial(lake.append, table, select(events))
    if found.refused is not None:
        yield partial(lake.append, quarantine.TABLE, found.refused)


def _entries(found: Sorted, copies: dict[Place, int], batch_id: int) -> list[ledger.Entry]:
    """The ledger's rows."""
    now = datetime.now(timezone.utc)
    rows = []
    for place, n in found.places.items():
        removed = copies.get(place, 0)
        counts = (n.records, n.accepted - removed, removed, n.records - n.accepted, 0)
        rows.append(ledger.Entry(*place, batch_id, n.first_offset, n.last_offset, *counts, now))
    return rows


def _settled(batch: DataFrame, lake: Lake) -> DataFrame:
    """The records of a batch that are in a table already."""
    in_silver, in_quarantine = _written(batch, lake)
    return hold(in_silver.unionByName(in_quarantine))


def _written(batch: DataFrame, lake: Lake) -> tuple[DataFrame, DataFrame]:
    """Of a batch's records those that are in silver, and those that are in quarantine."""
    span = batch.agg(F.min("ingested_at"), F.max("ingested_at")).first()
    assert span is not None  # an aggregate has a row
    own, of_then = batch.select(*PLACE), F.col("ingested_at").between(F.lit(span[0]), F.lit(span[1]))

    def read(table: Table) -> DataFrame:
        return lake.read(table).where(of_then)

    tables = silver_places(read), read(quarantine.TABLE).select(*PLACE)
    in_silver, in_quarantine = (places.join(own, list(PLACE), "left_semi") for places in tables)
    return in_silver, in_quarantine


def _recounted(batch: DataFrame, batch_id: int, lake: Lake) -> list[ledger.Entry]:
    """The ledger's rows by what the tables hold: a record that is in none is a copy.

    One that is in both was released, which is told by a row of its own.
    """
    events, refused = _written(batch, lake)
    in_silver, in_quarantine = map(counts_by_place, (without(events, refused), refused))
    read = batch.groupBy("topic", "partition").agg(F.count("*"), F.min("offset"), F.max("offset"))
    now = datetime.now(timezone.utc)
    rows = []
    for topic, partition, records, first, last in read.collect():
        place = Place(topic, partition)
        kept, held = in_silver.get(place, 0), in_quarantine.get(place, 0)
        counts = (records, kept, records - kept - held, held, 0)
        rows.append(ledger.Entry(*place, batch_id, first, last, *counts, now))
    return rows
