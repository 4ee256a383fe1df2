"""Each event once: of the records with one identity, the first in bronze's order is kept.

Identities are compared by a 64-bit hash first, which is cheap and misses nothing; only where hashes meet are
the identities themselves compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

PLACE = ("topic", "partition", "offset")
"""What tells records apart."""
ORDER = ("ingested_at", *PLACE)
"""Bronze's order: by batch, which all of its records name as `ingested_at`, then by place."""
_IDENTITY = ("event_type", "event_id")
_HOUR = timedelta(hours=1)
_MOST_SPANS = 50
Span = tuple[datetime, datetime]


def candidates(accepted: DataFrame, known: DataFrame, is_small: bool) -> DataFrame:
    """Identities, with their `hash`, that may have come more than once; few, unless all are copies.

    `accepted` has `event_type`, `event_id` and the order; `known` the identities that earlier batches brought
    and that may meet these. Rows of the batch's own identities have no `event_id`: their hash has met.
    `is_small`: the hashes of the batch fit into one process.
    """
    hashes = accepted.select(_hash())
    within = hashes.groupBy("hash").agg(F.count("*").alias("n")).where("n > 1")
    looked_up = F.broadcast(hashes) if is_small else hashes.hint("shuffle_hash")
    before = known.select(*_IDENTITY, _hash()).join(looked_up, "hash", "left_semi")
    nothing = F.lit(None).cast("string")
    return before.distinct().unionByName(
        within.select("hash", nothing.alias("event_type"), nothing.alias("event_id"))
    )


def copies(accepted: DataFrame, found: DataFrame) -> DataFrame:
    """The records of a batch, by topic, partition and offset, that are copies of an earlier record.

    `found` is what `candidates` gave.
    """
    met = F.broadcast(found.select("hash").distinct())
    narrow = accepted.select(*_IDENTITY, *ORDER, _hash()).join(met, "hash", "left_semi")
    firsts = narrow.groupBy(*_IDENTITY).agg(F.min(F.struct(*ORDER)).alias("first"))
    seen = found.where(F.col("event_id").isNotNull()).select(*_IDENTITY, F.lit(True).alias("seen"))
    marked = narrow.join(firsts, list(_IDENTITY)).join(seen, list(_IDENTITY), "left")
    is_copy = F.col("seen").isNotNull() | (F.struct(*ORDER) != F.col("first"))
    return marked.where(is_copy).select(*PLACE)


def without(accepted: DataFrame, removed: DataFrame) -> DataFrame:
    """The records that are not among `removed` (topic, partition, offset)."""
    return accepted.join(removed, list(PLACE), "left_anti")


def where_copies_stand(hours: Iterable[datetime], recorded: Iterable[Span], reuse: timedelta) -> Column:
    """Which rows of a silver table can share an identity with a batch: bounded, however long the history.

    `hours` are the hours (UTC) of the batch's events, `recorded` the spans, ends included, of its records'
    times. A copy of an event has its time, so it stands in the same hour. A producer that gives one identity
    to two times is caught when the records are at most `reuse` apart.
    """
    spans = _joined([(hour, hour + _HOUR) for hour in sorted(hours)])
    at, same_time = F.col("occurred_at"), F.col("event_date").isin(sorted({hour.date() for hour in hours}))
    if len(spans) <= _MOST_SPANS:
        same_time = same_time & _any((at >= F.lit(low)) & (at < F.lit(high)) for low, high in spans)
    near = _joined([(_moved(low, -reuse), _moved(high, reuse)) for low, high in sorted(recorded)])
    if len(near) > _MOST_SPANS:
        near = [(near[0][0], near[-1][1])]
    return same_time | _any(F.col("record_timestamp").between(*map(F.lit, span)) for span in near)


def _any(conditions: Iterable[Column]) -> Column:
    return reduce(Column.__or__, conditions, F.lit(False))


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order of their begin, those that touch as one."""
    found: list[Span] = []
    for low, high in spans:
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _moved(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:
        return datetime.max if by > timedelta(0) else datetime.min


def _hash() -> Column:
    return F.xxhash64(*_IDENTITY).alias("hash")
