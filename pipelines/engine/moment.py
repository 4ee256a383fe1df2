"""The tables as the last committed batch of a layer left them, while its stream may be in the next one."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import last_batch
from pipelines.engine.lake import Lake
from pipelines.tables import OF_LAYER


@dataclass(frozen=True)
class Moment:
    """Versions (by full name) that belong together; other tables are read as they are."""

    lake: Lake
    versions: dict[str, int]
    batch: int | None
    """The batch that left them; None: the layer has committed none yet."""

    @classmethod
    def of(cls, lake: Lake, layer: str) -> Moment:
        """After the layer's last committed batch."""
        while True:
            begun, (committed, _) = pins(lake, layer), last_batch(lake, layer)
            if begun is not None and (committed is None or begun.batch_id > committed):
                return cls(lake, begun.versions, committed)
            tables = [table for table in OF_LAYER[layer] if lake.exists(table)]
            versions = {table.full_name: lake.version(table) for table in tables}
            # Unless a batch began meanwhile.
            if pins(lake, layer) == begun:
                return cls(lake, versions, committed)

    def read(self, table: Table) -> DataFrame:
        """The table at this moment."""
        return self.lake.read(table, self.versions.get(table.full_name))
