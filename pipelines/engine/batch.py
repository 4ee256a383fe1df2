"""One batch of a stream: which lake, which versions it reads, and under which identity it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.tables import GOLD, INTERNAL, OF_LAYER, READ_BY

_PINNED: dict[str, tuple[Table, ...]] = {
    "silver": OF_LAYER["silver"],
    "gold": (*GOLD, *INTERNAL, *READ_BY["gold"]),
}


@dataclass(frozen=True)
class Batch:
    """A batch of a layer's stream; everything that it reads is pinned, so a replay computes the same."""

    app_id: str
    batch_id: int
    lake: Lake
    versions: dict[str, int]
    is_repeat: bool
    """An earlier attempt began it, and may have written a part."""

    @classmethod
    def pinned(cls, layer: str, app_id: str, batch_id: int, lake: Lake) -> Batch:
        """The batch with the versions of its first attempt, when it is replayed."""
        held = pins(lake, layer)
        is_repeat = held is not None and held[0] == batch_id
        if held is None or not is_repeat:
            held = batch_id, {table.full_name: lake.version(table) for table in _PINNED[layer]}
            text = json.dumps({"batch_id": batch_id, "versions": held[1]})
            lake.write_text(_pins_file(lake, layer), text)
        return cls(app_id, batch_id, lake, held[1], is_repeat)

    def read(self, table: Table) -> DataFrame:
        """The table as it stood when the batch began."""
        return self.lake.read(table, self.versions[table.full_name])

    def txn(self, table: Table) -> Txn:
        """The identity of this batch's write to the table."""
        return Txn(f"{self.app_id}/{table.full_name}", self.batch_id)


def pins(lake: Lake, layer: str) -> tuple[int, dict[str, int]] | None:
    """The newest batch that was begun, and the tables' versions (by full name) before it; None: none was."""
    text = lake.read_text(_pins_file(lake, layer))
    if not text:
        return None
    held = json.loads(text)
    return int(held["batch_id"]), held["versions"]


def _pins_file(lake: Lake, layer: str) -> str:
    return f"{lake.checkpoint(layer)}-pins.json"


def hold(frame: DataFrame) -> DataFrame:
    """The frame computed and kept, without its plan: each step upon a long plan would analyse it all."""
    return frame.localCheckpoint(eager=True)


def together(*steps: Callable[[], Any]) -> list[Any]:
    """What the steps return, run side by side: planning one leaves the cores to another."""
    with ThreadPoolExecutor(max(1, len(steps))) as pool:
        return [done.result() for done in [pool.submit(step) for step in steps]]
