"""What a layer's checkpoint tells: its identity, its last batch, and how far that read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError
from pipelines.tables import READ_BY


class Reached(NamedTuple):
    """How far a stream has read a table's log."""

    version: int
    """The next version to read."""
    partly: bool
    """Whether some of that version's files have been read."""


def query_id(lake: Lake, layer: str) -> str | None:
    """The identity of the layer's checkpoint; None before its first start."""
    text = lake.read_text(f"{lake.checkpoint(layer)}/metadata")
    return str(json.loads(text)["id"]) if text else None


def app_id(lake: Lake, layer: str) -> str:
    """The identity of the layer's batches: their ids count anew in a new checkpoint."""
    return f"reelhouse/{query_id(lake, layer)}"


def last_batch(lake: Lake, layer: str) -> tuple[int | None, datetime | None]:
    """The last committed batch and when (UTC) it was; None before the first."""
    written = lake.files_of(f"{lake.checkpoint(layer)}/commits")
    batches = [int(name) for name in written if name.isdigit()]
    if not batches:
        return None, None
    return max(batches), written[str(max(batches))]


def last_planned(lake: Lake, layer: str) -> int | None:
    """The last batch that was begun; None before the first."""
    noted = lake.files_of(f"{lake.checkpoint(layer)}/offsets")
    return max((int(name) for name in noted if name.isdigit()), default=None)


def started_at(lake: Lake, layer: str, batch: int) -> datetime | None:
    """When a batch began (UTC): it notes its offsets first."""
    return lake.files_of(f"{lake.checkpoint(layer)}/offsets").get(str(batch))


def offsets(lake: Lake, layer: str, batch: int) -> list[Any]:
    """What a batch read up to, one entry for each source of the layer, as Spark writes it."""
    text = lake.read_text(f"{lake.checkpoint(layer)}/offsets/{batch}") or ""
    return [json.loads(line) for line in text.splitlines()[2:] if line.startswith("{")]


def sources(lake: Lake, layer: str, batch: int) -> dict[Table, Reached]:
    """What a batch read up to, for a layer that reads tables. Raises ReelhouseError (`source_lost`)."""
    found = {offset["reservoirId"]: offset for offset in offsets(lake, layer, batch)}
    by_id = {lake.table_id(table): table for table in READ_BY[layer]} if found else {}
    if not by_id.keys() >= found.keys():
        names = " or ".join(table.full_name for table in READ_BY[layer])
        message = (
            f"{names}, which the {layer} stream reads, is gone or was made anew; restore it, or begin "
            f"{layer} anew: docs/operations.md says how"
        )
        raise ReelhouseError(message, code="source_lost")
    # Before a version's first file the index is negative.
    return {by_id[i]: Reached(int(o["reservoirVersion"]), o["index"] >= 0) for i, o in found.items()}
