"""One batch of a stream: which lake, which versions it reads, and under which identity it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.checkpoint import sources
from pipelines.engine.lake import Lake, Txn
from pipelines.tables import GOLD, INTERNAL, OF_LAYER, READ_BY

_PINNED: dict[str, tuple[Table, ...]] = {
    "silver": OF_LAYER["silver"],
    "gold": (*GOLD, *INTERNAL, *READ_BY["gold"]),
}


class Pins(NamedTuple):
    """What a batch goes by, in its first attempt and in each further one."""

    batch_id: int
    versions: dict[str, int]
    """Of the tables, by full name, before the batch."""
    settings: dict[str, Any]
    """Of the configuration, what its results depend on."""


@dataclass(frozen=True)
class Batch:
    """A batch of a layer's stream; everything that it reads is pinned, so a replay computes the same."""

    app_id: str
    lake: Lake
    pins: Pins
    is_repeat: bool
    """An earlier attempt began it, and may have written a part."""

    @classmethod
    def pinned(cls, layer: str, app_id: str, batch_id: int, lake: Lake, **settings: Any) -> Batch:
        """The batch with the versions and the settings of its first attempt, when it is replayed."""
        held = pins(lake, layer)
        is_repeat = held is not None and held.batch_id == batch_id
        if held is None or not is_repeat:
            held = Pins(batch_id, _versions(lake, layer, batch_id), settings)
            lake.write_text(_pins_file(lake, layer), json.dumps(held._asdict()))
        return cls(app_id, lake, held, is_repeat)

    def read(self, table: Table) -> DataFrame:
        """The table as it stood when the batch began; columns that it did not have then are null."""
        return as_declared(self.lake.read(table, self.pins.versions[table.full_name]), table)

    def txn(self, table: Table) -> Txn:
        """The identity of this batch's write to the table."""
        return Txn(f"{self.app_id}/{table.full_name}", self.pins.batch_id)


def _versions(lake: Lake, layer: str, batch_id: int) -> dict[str, int]:
    """What the layer writes, as it is; what it reads, as far as the batch has come, which may be behind."""
    found = {table.full_name: lake.version(table) for table in _PINNED[layer]}
    if layer == "gold":  # silver's step reads nothing of bronze but its batch
        for table, reached in sources(lake, layer, batch_id).items():
            found[table.full_name] = reached.version if reached.partly else max(0, reached.version - 1)
    return found


def pins(lake: Lake, layer: str) -> Pins | None:
    """Those of the newest batch that was begun; None: none was."""
    text = lake.read_text(_pins_file(lake, layer))
    return Pins(**json.loads(text)) if text else None


def _pins_file(lake: Lake, layer: str) -> str:
    return f"{lake.checkpoint(layer)}-pins.json"


def as_declared(frame: DataFrame, table: Table) -> DataFrame:
    """The frame with the table's columns; those that it does not have are null."""
    held = frame.columns
    if held == table.column_names:
        return frame
    told = (
        f"`{c.name}`" if c.name in held else f"CAST(NULL AS {c.type}) AS `{c.name}`" for c in table.columns
    )
    return frame.selectExpr(*told)


def hold(frame: DataFrame) -> DataFrame:
    """The frame computed and kept, without its plan: each step upon a long plan would analyse it all."""
    return frame.localCheckpoint(eager=True)


def together(*steps: Callable[[], Any]) -> list[Any]:
    """What the steps return, run side by side: planning one leaves the cores to another."""
    with ThreadPoolExecutor(max(1, len(steps))) as pool:
        return [done.result() for done in [pool.submit(step) for step in steps]]
