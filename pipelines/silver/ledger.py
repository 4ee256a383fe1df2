"""`ops.ledger`: what became of every record, by batch and partition."""

from __future__ import annotations

from pipelines.declare import Column, Table

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
        Column("duplicates", "bigint", "Copies of events that silver held already (count)."),
        Column("quarantined", "bigint", "Records held in quarantine (count)."),
        Column("released", "bigint", "Records that a replay released from quarantine (count)."),
        Column("written_at", "timestamp", "When this was written (UTC)."),
    ),
    keys=("topic", "partition", "batch", "written_at"),
    freshness="written_at",
)
COUNTS = ("records", "silver_rows", "duplicates", "quarantined", "released")
