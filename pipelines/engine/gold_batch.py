"""One batch of gold: which lake, which versions it reads, and under which identity it writes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.silver import content_uploads, user_actions
from pipelines.tables import OF_LAYER

_PINNED: tuple[Table, ...] = (*OF_LAYER["gold"], user_actions.TABLE, content_uploads.TABLE)


@dataclass(frozen=True)
class GoldBatch:
    """A batch of the gold stream; everything that it reads is pinned."""

    app_id: str
    batch_id: int
    lake: Lake
    versions: dict[str, int]

    @classmethod
    def pinned(cls, app_id: str, batch_id: int, lake: Lake) -> GoldBatch:
        """The batch with the versions of its first attempt, when it is replayed."""
        path = f"{lake.checkpoint('gold')}-pins.json"
        text = lake.read_text(path)
        held = json.loads(text) if text else {}
        if held.get("batch_id") != batch_id:
            held = {"batch_id": batch_id, "versions": {t.full_name: lake.version(t) for t in _PINNED}}
            lake.write_text(path, json.dumps(held))
        return cls(app_id, batch_id, lake, held["versions"])

    def read(self, table: Table) -> DataFrame:
        """The table as it stood when the batch began."""
        return self.lake.read(table, self.versions[table.full_name])

    def txn(self, table: Table) -> Txn:
        """The identity of this batch's write to the table."""
        return Txn(f"{self.app_id}/{table.full_name}", self.batch_id)


def hold(frame: DataFrame) -> DataFrame:
    """The frame computed and kept, without its plan: each step upon a long plan would analyse it all."""
    return frame.localCheckpoint(eager=True)
