"""What must hold before a stream starts: its own checkpoint, and tables as old as that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pyspark.sql import functions as F

from pipelines.declare import Table
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import Reached, app_id, last_batch, last_planned, query_id, sources
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError
from pipelines.gold import quality_results, state
from pipelines.silver import ledger
from pipelines.tables import BRONZE, OF_LAYER, READ_BY

_WRITTEN_BY_EACH_BATCH = {"bronze": BRONZE[0], "silver": ledger.TABLE, "gold": state.RECENT_ACTIONS}


def make_tables(lake: Lake, layers: Sequence[str]) -> None:
    """Make what the layers' streams write, where it is missing, once it is sure that nothing is lost.

    Raises ReelhouseError (`checkpoint_lost`, `checkpoint_behind`, `table_lost`, `table_behind`,
    `source_lost` …).
    """
    for layer in layers:
        _require_checkpoint(lake, layer)
        reached = _require_tables(lake, layer)
        written = _last_written(lake, layer)
        _require_newest_checkpoint(lake, layer, written)
        _require_newest_tables(lake, layer, written, reached)
        _require_what_was_read(lake, layer)
    for layer in layers:
        lake.create(OF_LAYER[layer])


def _require_checkpoint(lake: Lake, layer: str) -> None:
    """Refuse to read everything anew into tables that hold it: without its checkpoint a stream would.

    Raises ReelhouseError (`checkpoint_lost`).
    """
    checkpoint = lake.checkpoint(layer)
    if lake.read_text(f"{checkpoint}/metadata") is not None:
        return
    # A table that has its first version only is empty: asking its rows would cost a job each.
    kept = [t for t in OF_LAYER[layer] if t is not quality_results.TABLE]  # `check` writes it as well
    made = [t for t in kept if lake.exists(t) and lake.version(t) > 0]
    written = [t.full_name for t in made if not lake.read(t).isEmpty()]
    if written:
        message = (
            f"the checkpoint {checkpoint} is gone, but {', '.join(written)} holds what it had read; restore "
            f"the checkpoint, or begin {layer} anew: docs/operations.md says how"
        )
        raise ReelhouseError(message, code="checkpoint_lost")


def _require_newest_checkpoint(lake: Lake, layer: str, written: int | None) -> None:
    """Refuse a checkpoint that is older than what its stream has written, such as one from a backup.

    Its next batches have numbers that tables know: Delta would take new records for written ones. Raises
    ReelhouseError (`checkpoint_behind`).
    """
    planned = last_planned(lake, layer)
    if written is not None and written > (-1 if planned is None else planned):
        message = (
            f"the checkpoint {lake.checkpoint(layer)} is older than what {layer} has written (its batch "
            f"{planned}, theirs {written}); restore a newer one, or begin {layer} anew: docs/operations.md "
            "says how"
        )
        raise ReelhouseError(message, code="checkpoint_behind")


def _last_written(lake: Lake, layer: str) -> int | None:
    """The newest batch that a table of the layer knows of; None: of none."""
    table, own = _WRITTEN_BY_EACH_BATCH[layer], query_id(lake, layer)
    if own is None or not lake.exists(table):
        return None
    if layer == "silver":
        newest = lake.read(table).agg(F.max("batch")).first()
        return None if newest is None or newest[0] is None else int(newest[0])
    return lake.txn_version(table, own if layer == "bronze" else f"{app_id(lake, layer)}/{table.full_name}")


def _require_tables(lake: Lake, layer: str) -> dict[Table, Reached]:
    """Refuse to go on where a table is gone that the layer's stream has written, or one that it reads.

    An empty one in its place would hide the hole. Returns how far it has read those that it reads.
    Raises ReelhouseError (`table_lost`, `source_lost`).
    """
    batch, _ = last_batch(lake, layer)
    if batch is None:
        return {}
    begun = pins(lake, layer)
    # Bronze pins none: Spark's own sink writes its one table. A table of a newer release is in no pins.
    known = {*begun.versions} if begun else {table.full_name for table in BRONZE}
    lost = [t.full_name for t in OF_LAYER[layer] if t.full_name in known and not lake.exists(t)]
    if lost:
        message = (
            f"{', '.join(lost)} is gone, which the {layer} stream has written; restore it, or begin "
            f"{layer} anew: docs/operations.md says how"
        )
        raise ReelhouseError(message, code="table_lost")
    return sources(lake, layer, batch) if layer in READ_BY else {}


def _require_newest_tables(
    lake: Lake, layer: str, written: int | None, reached: dict[Table, Reached]
) -> None:
    """Refuse tables that are older than the checkpoint, such as from a backup: their stream would go on, and
    what it had written since would be missing. Raises ReelhouseError (`table_behind`).
    """
    committed, _ = last_batch(lake, layer)
    if committed is None:
        return
    begun = pins(lake, layer)
    known = begun.versions if begun else {}
    # What it reads may have been restored together with its own layer's checkpoint.
    known = known | {table.full_name: of.version - 1 for table, of in reached.items()}
    behind = _behind(lake, (*OF_LAYER[layer], *reached), known)
    # By versions only what was there before the last batch. Silver's may have had no records.
    if layer != "silver" and not behind and (-1 if written is None else written) < committed:
        behind = {_WRITTEN_BY_EACH_BATCH[layer].full_name: f"batch {written} of {committed}"}
    _refuse(behind, f"the checkpoint of {layer}", layer)


def _require_what_was_read(lake: Lake, layer: str) -> None:
    """Refuse tables of which the next layer has read more than they hold: both were restored, that was not.

    What the layer wrote in their place would have numbers that the next one has passed. Raises ReelhouseError
    (`table_behind`).
    """
    for reader, tables in READ_BY.items():
        batch, _ = last_batch(lake, reader)
        if batch is None or not {*tables} & {*OF_LAYER[layer]}:
            continue
        try:
            reached = sources(lake, reader, batch)
        except ReelhouseError as error:
            if error.code != "source_lost":
                raise
            continue  # made anew, which the next layer refuses
        behind = _behind(lake, tables, {t.full_name: of.version - 1 for t, of in reached.items()})
        _refuse(behind, f"what {reader} has read", reader)


def _refuse(behind: Mapping[str, str], than: str, layer: str) -> None:
    """Raise ReelhouseError (`table_behind`) when there are tables behind; `layer` may begin anew instead."""
    if behind:
        listed = ", ".join(f"{name} ({told})" for name, told in behind.items())
        message = (
            f"{listed} is older than {than}; restore newer ones, or begin {layer} anew: "
            "docs/operations.md says how"
        )
        raise ReelhouseError(message, code="table_behind")


def _behind(lake: Lake, tables: Iterable[Table], known: Mapping[str, int]) -> dict[str, str]:
    """By full name the tables whose newest version is less than the known one, and both."""
    return {
        table.full_name: f"version {newest} of {known[table.full_name]}"
        for table in tables
        if table.full_name in known and (newest := lake.version(table)) < known[table.full_name]
    }
