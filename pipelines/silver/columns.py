"""Columns that every silver table has: where an event came from."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.contracts.decode import field
from pipelines.declare import Column, Table

LINEAGE = (
    Column("schema_version", "int", "Version of the contract that the event was read by."),
    Column("topic", "string", "Kafka topic of the record that is kept."),
    Column("partition", "int", "Kafka partition of the record."),
    Column("offset", "bigint", "Kafka offset of the record."),
    Column("record_timestamp", "timestamp", "Time of the record at the broker (UTC)."),
    Column("ingested_at", "timestamp", "When the record was written to bronze (UTC)."),
    Column("event_date", "date", "UTC date of occurred_at; the table is partitioned by it."),
)
EVENT_ID = Column("event_id", "string", "Identity of the event: no two rows share one.")
STATS = ("occurred_at", "record_timestamp", "ingested_at")
"""Identities are random: their least and greatest in a file would skip nothing, and cost."""
OCCURRED_AT = Column("occurred_at", "timestamp", "When it happened, as the producer says (UTC).")


def select_event(decoded: DataFrame, table: Table, event_type: str, fields: dict[str, str]) -> DataFrame:
    """The table's rows of accepted events; `fields` maps its columns to paths in the contract."""
    given: dict[str, SparkColumn] = {
        "record_timestamp": F.col("timestamp"),
        "event_date": F.to_date("occurred_at"),
        **{name: field(event_type, path) for name, path in fields.items()},
    }
    mine = decoded.where(F.col("event_type") == event_type)
    return mine.select(*[given.get(name, F.col(name)).alias(name) for name in table.column_names])
