"""`bronze.events`: Kafka's records, byte for byte."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Column, Table

TABLE = Table(
    layer="bronze",
    name="events",
    grain="one Kafka record",
    comment="Every record of the input topics as it came; nothing is decoded and nothing refused.",
    columns=(
        Column("key", "binary", "Key of the record."),
        Column("value", "binary", "Value of the record; null for a tombstone."),
        Column("topic", "string", "Kafka topic.", required=True),
        Column("partition", "int", "Kafka partition.", required=True),
        Column("offset", "bigint", "Kafka offset.", required=True, minimum=0),
        Column("timestamp", "timestamp", "Time of the record at the broker (UTC).", required=True),
        Column("headers", "array<struct<key:string,value:binary>>", "Headers of the record."),
        Column(
            "ingested_at", "timestamp", "When the record was read (UTC); one for each batch.", required=True
        ),
    ),
    keys=("topic", "partition", "offset"),
    stats_cols=("partition", "offset", "timestamp", "ingested_at"),
    freshness="timestamp",
)


def events(records: DataFrame) -> DataFrame:
    """Bronze's rows of what Spark's Kafka source gives."""
    stamped = records.withColumn("ingested_at", F.current_timestamp())
    return stamped.select(*TABLE.column_names)
