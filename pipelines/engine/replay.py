"""Judges what is in quarantine anew, by the contracts of now, and releases what passes, each record once.

No step depends on an earlier attempt having been recorded: what silver and quarantine hold decides, so a
replay that was killed at any moment is made whole by the next one.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.bronze import events as bronze
from pipelines.config import Config
from pipelines.contracts.binary import framed_id
from pipelines.contracts.schema_ids import KnownSchema, SchemaIds
from pipelines.engine.batch import hold
from pipelines.engine.lake import Lake
from pipelines.engine.locks import only_writer
from pipelines.engine.sorting import EVENTS, Sorted, first_ones, reuse_window, silver_places, sort_out
from pipelines.silver import ledger, quarantine
from pipelines.silver.deduplicate import PLACE, without

_ROW, _COPY = "row", "copy"
_OF_REGISTRY = ("registry_unavailable", "unknown_schema_id")
_MOST_IDS = 200


@dataclass(frozen=True)
class Wanted:
    """Which of the held records to judge; None: whatever it is."""

    reasons: tuple[str, ...] = ()
    """One of these codes is among the record's reasons; empty: any."""
    event_type: str | None = None
    since: datetime | None = None
    """Held at this time (UTC) or later."""

    def condition(self) -> Column:
        """The same on rows of quarantine."""
        found = F.col("released_at").isNull()
        if self.reasons:
            found = found & F.arrays_overlap("reasons.code", F.array(*map(F.lit, self.reasons)))
        if self.event_type is not None:
            found = found & (F.col("event_type") == self.event_type)
        if self.since is not None:
            found = found & (F.col("quarantined_at") >= F.lit(self.since))
        return found


@dataclass(frozen=True)
class Judged:
    """What a replay would do, or did, for the records with one first reason."""

    event_type: str | None
    code: str
    held: int
    """Records asked for (count)."""
    passing: int
    """Of these, the ones that the contracts of now accept (count)."""


def replay(lake: Lake, config: Config, wanted: Wanted, dry_run: bool) -> list[Judged]:
    """Release the held records that pass now; with `dry_run` only say how many would.

    Released events are new rows of silver, as if they had come late: gold takes them at its next round. The
    stream of silver must not run. Raises ReelhouseError (`already_running`, `table_missing`).
    """
    ids = SchemaIds(config)
    if dry_run:
        return _judged(*_sorted(lake, config, wanted, ids))
    with only_writer(lake, ["silver"]):
        return _replayed(lake, config, wanted, ids)


def release_known(lake: Lake, config: Config, ids: SchemaIds) -> int:
    """Release the records that waited for a schema that the registry knows by now; returns how many.

    For the stream of silver, between its batches.
    """
    waiting = lake.read(quarantine.TABLE).where(Wanted(_OF_REGISTRY).condition())
    counts = waiting.groupBy(framed_id().alias("id")).count()
    asked = [row["id"] for row in counts.orderBy(F.desc("count"), "id").limit(_MOST_IDS).collect()]
    if not any(isinstance(found, KnownSchema) for found in ids.meanings(asked).values()):
        return 0
    return sum(one.passing for one in _replayed(lake, config, Wanted(_OF_REGISTRY), ids))


def _replayed(lake: Lake, config: Config, wanted: Wanted, ids: SchemaIds) -> list[Judged]:
    held, sorted_out = _sorted(lake, config, wanted, ids)
    with closing(sorted_out) as found:
        told = _judged(held, found)
        if any(one.held for one in told):
            _release(lake, config, found)
    settle(lake)
    return told


def _sorted(lake: Lake, config: Config, wanted: Wanted, ids: SchemaIds) -> tuple[DataFrame, Sorted]:
    held = hold(lake.read(quarantine.TABLE).where(wanted.condition()))
    return held, sort_out(held.select(*bronze.TABLE.column_names), config, ids)


def _judged(held: DataFrame, found: Sorted) -> list[Judged]:
    passing = found.events.select(*PLACE, F.lit(1).alias("passes"))
    code = F.try_element_at("reasons", F.lit(1))["code"].alias("code")
    rows = (
        held.join(passing, list(PLACE), "left")
        .groupBy("event_type", code)
        .agg(F.count("*").alias("held"), F.count("passes").alias("passing"))
        .orderBy(F.desc("held"), "code")
    )
    return [Judged(r["event_type"], r["code"], r["held"], r["passing"]) for r in rows.collect()]


def _release(lake: Lake, config: Config, found: Sorted) -> None:
    places = found.events.select(*PLACE)
    days = {event_type: {hour.date() for hour in hours} for event_type, hours in found.hours.items()}
    there = hold(silver_places(lake.read, days).join(F.broadcast(places), list(PLACE), "left_semi"))
    # What an earlier replay appended before it was killed is there already.
    fresh = replace(found, events=without(found.events, there))
    firsts, _ = first_ones(fresh, reuse_window(config), lake.read)
    rows = hold(firsts)
    for event_type in found.hours:
        table, select = EVENTS[event_type]
        lake.append(table, select(rows))
    in_table = rows.select(*PLACE).unionByName(there).withColumn("as", F.lit(_ROW))
    released = places.join(in_table, list(PLACE), "left")
    marks = released.select(
        *PLACE,
        F.coalesce("as", F.lit(_COPY)).alias("released_as"),
        F.lit(None).cast(quarantine.REASONS).alias("reasons"),
    )
    if found.refused is not None:
        refused = found.refused.select(*PLACE, F.lit(None).cast("string").alias("released_as"), "reasons")
        marks = marks.unionByName(refused)
    _mark(lake, marks)


def _mark(lake: Lake, marks: DataFrame) -> None:
    """Note what was released, and the new reasons of what is refused still."""
    same_place = " AND ".join(f"q.`{name}` = m.`{name}`" for name in PLACE)
    target = DeltaTable.forPath(lake.spark, lake.path(quarantine.TABLE)).alias("q")
    (
        target.merge(hold(marks).alias("m"), f"{same_place} AND q.released_at IS NULL")
        .whenMatchedUpdate(
            "m.released_as IS NOT NULL",
            {"released_at": F.current_timestamp(), "released_as": F.col("m.released_as")},
        )
        .whenMatchedUpdate("m.reasons <> q.reasons", {"reasons": F.col("m.reasons")})
        .execute()
    )


def settle(lake: Lake) -> None:
    """Write into the ledger what quarantine says was released and the ledger does not know yet.

    Also for the stream of silver, at its start: a release that was killed may have left that undone.
    """
    # By their statistics, files without a released record are not read: mostly none is.
    released = lake.read(quarantine.TABLE).where("released_at IS NOT NULL")
    if released.isEmpty():
        return
    by = ("topic", "partition")
    rows, copies = (F.count_if(F.col("released_as") == kind) for kind in (_ROW, _COPY))
    told = lake.read(ledger.TABLE).where("batch IS NULL").groupBy(*by)
    before = told.agg(F.sum("silver_rows").alias("old_rows"), F.sum("duplicates").alias("old_copies"))
    new = released.groupBy(*by).agg(rows.alias("rows"), copies.alias("copies")).join(before, list(by), "left")
    now = datetime.now(timezone.utc)
    entries = []
    for r in new.collect():
        added, removed = r["rows"] - (r["old_rows"] or 0), r["copies"] - (r["old_copies"] or 0)
        if added or removed:
            counts = (0, added, removed, 0, added + removed)
            entries.append(ledger.Entry(r["topic"], r["partition"], None, None, None, *counts, now))
    if entries:
        lake.append(ledger.TABLE, lake.frame(ledger.TABLE, entries))
