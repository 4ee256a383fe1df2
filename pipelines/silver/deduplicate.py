"""Each event once: of the records with one identity, the first in bronze's order is kept.

Identities are compared by a 64-bit hash first, which is cheap and misses nothing; only where hashes meet are
the identities themselves compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

PLACE = ("topic", "partition", "offset")
"""What tells records apart."""
ORDER = ("ingested_at", *PLACE)
"""Bronze's order: by batch, which all of its records name as `ingested_at`, then by place."""
_IDENTITY = ("event_type", "event_id")
_HOUR = timedelta(hours=1)
_MOST_SPANS = 50


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


def where_copies_stand(hours: Iterable[datetime], newest_record: datetime, reuse: timedelta) -> Column:
    """Which rows of a silver table can share an identity with a batch: bounded, however long the history.

    `hours` are the hours (UTC) of the batch's events. A copy of an event has its time, so it stands in the
    same hour. A producer that gives one identity to two times is caught when the records are at most `reuse`
    apart, back from the newest record of the batch.
    """
    spans = _spans(sorted(hours))
    days = sorted({hour.date() for hour in hours})
    same_time = F.col("event_date").isin(days)
    if len(spans) <= _MOST_SPANS:
        at, within = F.col("occurred_at"), F.lit(False)
        for low, high in spans:
            within = within | ((at >= F.lit(low)) & (at < F.lit(high)))
        same_time = same_time & within
    return same_time | (F.col("record_timestamp") >= F.lit(newest_record - reuse))


def _spans(hours: list[datetime]) -> list[tuple[datetime, datetime]]:
    """The hours as half-open spans, neighbours as one."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + _HOUR)
        else:
            found.append((hour, hour + _HOUR))
    return found


def _hash() -> Column:
    return F.xxhash64(*_IDENTITY).alias("hash")
