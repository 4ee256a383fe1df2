"""Records the gaps that bronze is about to skip, before it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from pipelines.bronze import expired_records
from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.lake import Lake, Txn
from pipelines.topics import first_offsets

TABLE = expired_records.TABLE


def record(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Write each gap between what bronze has read and what Kafka still holds, once."""
    batch, _ = last_batch(lake, "bronze")
    if batch is None:
        return
    gaps = list(_gaps(offsets(lake, "bronze", batch)[0], first_offsets(config)))
    if not gaps:
        return
    now = datetime.now(timezone.utc)
    rows = lake.spark.createDataFrame([(*gap, now) for gap in gaps], TABLE.schema())
    # A batch is skipped over once: a second start before the next one finds its gaps written.
    lake.append(TABLE, rows, Txn(f"reelhouse/{TABLE.full_name}", batch))
    for topic, partition, first, end in gaps:
        report(f"skipping {end - first:,} expired records of {topic}, partition {partition}, from {first}")


def _gaps(
    reached: dict[str, dict[str, int]], held: dict[str, dict[int, int]]
) -> Iterator[tuple[str, int, int, int]]:
    for topic, partitions in sorted(reached.items()):
        for partition, offset in sorted(partitions.items()):
            first = held.get(topic, {}).get(int(partition), 0)
            if first > offset:
                yield topic, int(partition), offset, first
