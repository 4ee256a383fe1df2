"""Each event once: of the records with one identity, the first in bronze's order is kept."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

PLACE = ("topic", "partition", "offset")
"""What tells records apart."""
ORDER = ("ingested_at", *PLACE)
"""Bronze's order: by batch, which all of its records name as `ingested_at`, then by place."""


def copies(accepted: DataFrame, known: DataFrame) -> DataFrame:
    """The records of a batch, by topic, partition and offset, that are copies of an earlier record.

    `accepted` has `event_type`, `event_id` and the order; `known` holds the identities (`event_type`,
    `event_id`) that earlier batches brought.
    """
    narrow = accepted.select("event_type", "event_id", *ORDER)
    firsts = narrow.groupBy("event_type", "event_id").agg(F.min(F.struct(*ORDER)).alias("first"))
    seen = known.withColumn("seen", F.lit(True))
    marked = narrow.join(firsts, ["event_type", "event_id"]).join(seen, ["event_type", "event_id"], "left")
    is_copy = F.col("seen").isNotNull() | (F.struct(*ORDER) != F.col("first"))
    return marked.where(is_copy).select(*PLACE)


def known_identities(silver: DataFrame, batch_ids: DataFrame, event_type: str) -> DataFrame:
    """Which of the batch's identities stand in a silver table already, each once."""
    mine = batch_ids.where(F.col("event_type") == event_type).select("event_id").distinct()
    found = silver.select("event_id").join(F.broadcast(mine), "event_id", "left_semi").distinct()
    return found.select(F.lit(event_type).alias("event_type"), "event_id")


def without(accepted: DataFrame, removed: DataFrame) -> DataFrame:
    """The records that are not among `removed` (topic, partition, offset)."""
    return accepted.join(removed, list(PLACE), "left_anti")
