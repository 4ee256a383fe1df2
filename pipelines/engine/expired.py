"""Records the gaps that bronze is about to skip, before it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from pyspark.sql import functions as F

from pipelines.bronze import expired_records
from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.lake import Lake
from pipelines.topics import first_offsets

TABLE = expired_records.TABLE
Gap = tuple[str, int, int, int]
"""Topic, partition, the first offset that is gone, the first after it."""


def record(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Write each gap between what bronze has read and what Kafka still holds, once."""
    batch, _ = last_batch(lake, "bronze")
    if batch is None:
        return
    gaps = list(_gaps(offsets(lake, "bronze", batch)[0], first_offsets(config)))
    gaps = gaps and list(_untold(lake, gaps))
    if not gaps:
        return
    now = datetime.now(timezone.utc)
    lake.append(TABLE, lake.spark.createDataFrame([(*gap, now) for gap in gaps], TABLE.schema()))
    for topic, partition, first, end in gaps:
        report(f"skipping {end - first:,} expired records of {topic}, partition {partition}, from {first}")


def _untold(lake: Lake, gaps: list[Gap]) -> Iterator[Gap]:
    """What is not written yet: a start that failed before its batch wrote some, and more expired since."""
    ends = lake.read(TABLE).groupBy("topic", "partition").agg(F.max("end_offset")).collect()
    told = {(topic, partition): end for topic, partition, end in ends}
    for topic, partition, first, end in gaps:
        begin = max(first, told.get((topic, partition), 0))
        if begin < end:
            yield topic, partition, begin, end


def _gaps(reached: dict[str, dict[str, int]], held: dict[str, dict[int, int]]) -> Iterator[Gap]:
    for topic, partitions in sorted(reached.items()):
        for partition, offset in sorted(partitions.items()):
            first = held.get(topic, {}).get(int(partition), 0)
            if first > offset:
                yield topic, int(partition), offset, first
