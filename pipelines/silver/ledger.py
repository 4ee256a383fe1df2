"""`ops.ledger`: what became of every record, by batch and partition."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Measure, Reads, Rule, Table


def _unaccounted(rows: DataFrame, _: Reads) -> DataFrame:
    sides = "records + released - silver_rows - duplicates - quarantined"
    place = F.concat_ws("-", "topic", "partition").alias("subject")
    return rows.groupBy(place).agg(F.sum(F.expr(sides)).cast("double").alias("value"))


TABLE = Table(
    layer="ops",
    name="ledger",
    grain="topic partition × silver batch, or × replay of the quarantine",
    comment="What became of records: records + released = silver_rows + duplicates + quarantined in all.",
    columns=(
        Column("topic", "string", "Kafka topic."),
        Column("partition", "int", "Kafka partition."),
        Column("batch", "bigint", "Batch of the silver stream; null: a replay of the quarantine."),
        Column("first_offset", "bigint", "Least offset of the batch."),
        Column("last_offset", "bigint", "Greatest offset of the batch."),
        Column("records", "bigint", "Records read from bronze (count)."),
        Column("silver_rows", "bigint", "Of these, and of the released ones, new rows in silver (count)."),
        Column("duplicates", "bigint", "Copies of events that silver, or the batch, held already (count)."),
        Column("quarantined", "bigint", "Records held in quarantine (count)."),
        Column("released", "bigint", "Records that a replay released from quarantine (count)."),
        Column("written_at", "timestamp", "When this was written (UTC)."),
    ),
    keys=("topic", "partition", "batch", "written_at"),
    freshness="written_at",
    rules=(
        Rule("offsets_in_order", "first_offset <= last_offset", "The least offset is the first."),
        Rule(
            "batch_adds_up",
            "batch IS NULL OR records = silver_rows + duplicates + quarantined",
            "Every record of a batch went somewhere.",
        ),
    ),
    measures=(
        Measure(
            "unaccounted_records",
            "records + released = silver_rows + duplicates + quarantined, by topic and partition.",
            _unaccounted,
            0,
            0,
        ),
    ),
)
COUNTS = ("records", "silver_rows", "duplicates", "quarantined", "released")


class Entry(NamedTuple):
    """A row, in the order of the columns."""

    topic: str
    partition: int
    batch: int | None
    first_offset: int | None
    last_offset: int | None
    records: int
    silver_rows: int
    duplicates: int
    quarantined: int
    released: int
    written_at: datetime
