"""Records the gaps that bronze skips: those before its next record, and those that a drain passed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone

from pyspark.sql import Window
from pyspark.sql import functions as F

from pipelines.bronze import events, expired_records
from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.lake import Lake
from pipelines.engine.source_topics import topics_of_bronze
from pipelines.topics import first_offsets

TABLE = expired_records.TABLE
Place = tuple[str, int]
"""Topic and partition."""
Gap = tuple[str, int, int, int]
"""Topic, partition, the first offset that is gone, the first after it."""


def record(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Write each gap between what bronze has read and what Kafka still holds, once.

    Called before and after each drain: Kafka goes on deleting while a backlog is read.
    """
    reached, held, looked = _reached(lake), _held(lake, config), _looked(lake)
    _write(lake, reached, held, looked, report)


def close(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Before runs that skip nothing: write the gaps of the ones that did, when such a run was killed.

    And forget where they had come to. What these runs read, and Kafka deletes later, is no gap; what expires
    before they come to it stops them.
    """
    looked = _looked(lake)
    if looked:
        reached = _reached(lake)
        held = {place: min(first, reached.get(place, first)) for place, first in _held(lake, config).items()}
        _write(lake, reached, held, looked, report)
        lake.remove(_looked_file(lake))


def _reached(lake: Lake) -> dict[Place, int]:
    batch, _ = last_batch(lake, "bronze")
    return {} if batch is None else _by_place(offsets(lake, "bronze", batch)[0])


def _held(lake: Lake, config: Config) -> dict[Place, int]:
    return _by_place(first_offsets(config, topics_of_bronze(lake, config)))


def _write(
    lake: Lake,
    reached: dict[Place, int],
    held: dict[Place, int],
    looked: dict[Place, int],
    report: Callable[[str], None],
) -> None:
    begun = {place: reached.get(place, first) for place, first in held.items()} | looked
    gaps = sorted(_gaps(lake, begun, held))
    gaps = gaps and list(_untold(lake, gaps))
    if gaps:
        now = datetime.now(timezone.utc)
        lake.append(TABLE, lake.frame(TABLE, [(*gap, now) for gap in gaps]))
    for topic, partition, first, end in gaps:
        report(f"skipping {end - first:,} expired records of {topic}, partition {partition}, from {first}")
    # What bronze has read since, and Kafka deletes only later, is no gap.
    told = {place: max(low, reached.get(place, low)) for place, low in begun.items()}
    if told != looked:
        lake.write_text(
            _looked_file(lake), json.dumps([[*place, low] for place, low in sorted(told.items())])
        )


def _by_place(offsets: Mapping[str, Mapping[str, int]] | Mapping[str, Mapping[int, int]]) -> dict[Place, int]:
    return {(topic, int(p)): offset for topic, found in offsets.items() for p, offset in found.items()}


def _looked(lake: Lake) -> dict[Place, int]:
    """The offsets below which every gap is written; nothing before the first look."""
    text = lake.read_text(_looked_file(lake))
    return {(topic, partition): low for topic, partition, low in json.loads(text)} if text else {}


def _looked_file(lake: Lake) -> str:
    return f"{lake.checkpoint('bronze')}-expired.json"


def _gaps(lake: Lake, begun: dict[Place, int], held: dict[Place, int]) -> Iterator[Gap]:
    """What bronze lacks of the offsets that are gone since they were looked at.

    Before its next record, and of what a drain passed over; a batch whose end is not noted yet may have some.
    Offsets that never had a record, of a transaction's end or a compacted topic, count among them.
    """
    for place, low in begun.items():
        high = held.get(place, 0)
        if low < high:
            for first, end in _lacking(lake, place, low, high):
                yield *place, first, end


def _lacking(lake: Lake, place: Place, low: int, high: int) -> list[tuple[int, int]]:
    """The spans of offsets, from `low` on and below `high`, that bronze has no row of."""
    rows = lake.read(events.TABLE).where((F.col("topic") == place[0]) & (F.col("partition") == place[1]))
    rows = rows.where((F.col("offset") >= low) & (F.col("offset") < high)).select("offset")
    if rows.count() == high - low:
        return []
    after = F.lead("offset", 1, high).over(Window.partitionBy(F.lit(0)).orderBy("offset"))
    before_first = lake.spark.range(low - 1, low).toDF("offset")
    spans = before_first.unionByName(rows).select((F.col("offset") + 1).alias("first"), after.alias("end"))
    return [(row["first"], row["end"]) for row in spans.where("first < end").collect()]


def _untold(lake: Lake, gaps: list[Gap]) -> Iterator[Gap]:
    """What is not written yet: a start that failed before its batch wrote some, and more expired since."""
    ends = lake.read(TABLE).groupBy("topic", "partition").agg(F.max("end_offset")).collect()
    told = {(topic, partition): end for topic, partition, end in ends}
    for topic, partition, first, end in gaps:
        begin = max(first, told.get((topic, partition), 0))
        if begin < end:
            yield topic, partition, begin, end
