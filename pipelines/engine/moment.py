"""The tables as the last committed batch of a layer left them, while its stream may be in the next one."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import last_batch, sources
from pipelines.engine.lake import Lake
from pipelines.tables import OF_LAYER, READ_BY


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


def gold_and_silver(lake: Lake) -> tuple[Moment, dict[Table, DataFrame], str | None]:
    """Gold as its last batch left it, silver as far as that batch had come; and what hinders."""
    moment, rows = Moment.of(lake, "gold"), {}
    reached = {} if moment.batch is None else sources(lake, "gold", moment.batch)
    for table in READ_BY["gold"]:
        at = reached.get(table)
        if at is None or not at.version:
            return moment, {}, "gold is not compared: it has not read all of its sources yet"
        if at.partly:
            return moment, {}, "gold is not compared: it is in the middle of a commit of silver; try again"
        rows[table] = lake.read(table, at.version - 1)
    return moment, rows, None
