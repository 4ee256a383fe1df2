"""`ops.expired_records`: the gaps that were accepted when records expired in Kafka before they were read."""

from __future__ import annotations

from pipelines.declare import Column, Table

TABLE = Table(
    layer="ops",
    name="expired_records",
    grain="one gap in a partition",
    comment="Offsets that expired before they were read, skipped because kafka.fail_on_data_loss is false.",
    columns=(
        Column("topic", "string", "Kafka topic."),
        Column("partition", "int", "Kafka partition."),
        Column("first_offset", "bigint", "First offset that is missing."),
        Column("end_offset", "bigint", "First offset that is there again."),
        Column("noticed_at", "timestamp", "When the gap was noticed (UTC)."),
    ),
    keys=("topic", "partition", "first_offset"),
    freshness="noticed_at",
)
