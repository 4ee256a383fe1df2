"""Columns that every silver table has: where an event came from."""

from __future__ import annotations

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.contracts.decode import field
from pipelines.declare import Column, Rule, Table

LINEAGE = (
    Column("schema_version", "int", "Version of the contract that the event was read by.", required=True),
    Column("topic", "string", "Kafka topic of the record that is kept.", required=True),
    Column("partition", "int", "Kafka partition of the record.", required=True),
    Column("offset", "bigint", "Kafka offset of the record.", required=True),
    Column("record_timestamp", "timestamp", "Time of the record at the broker (UTC).", required=True),
    Column(
        "ingested_at", "timestamp", "When bronze read the record (UTC); one for each batch.", required=True
    ),
    Column("event_date", "date", "UTC date of occurred_at; the table is partitioned by it.", required=True),
)
EVENT_ID = Column(
    "event_id",
    "string",
    "Identity of the event. Two rows share one only where a producer gave it to two times, more than "
    "dedup.reuse_window_minutes apart.",
    required=True,
)
STATS = ("occurred_at", "record_timestamp", "ingested_at")
"""Identities are random: their least and greatest in a file would skip nothing, and cost."""
OCCURRED_AT = Column(
    "occurred_at", "timestamp", "When it happened, as the producer says (UTC).", required=True
)
DATED = Rule(
    "date_of_occurrence", "event_date = to_date(occurred_at)", "event_date is the UTC date of occurred_at."
)


def select_event(decoded: DataFrame, table: Table) -> DataFrame:
    """The rows of accepted events of the table's contract, as `pipelines.contracts.decode` gives them."""
    contract = table.contract
    assert contract is not None
    given: dict[str, SparkColumn] = {
        "record_timestamp": F.col("timestamp"),
        "event_date": F.to_date("occurred_at"),
        **{name: field(contract.event_type, path) for name, path in contract.fields.items()},
    }
    mine = decoded.where(F.col("event_type") == contract.event_type)
    return mine.select(*[given.get(name, F.col(name)).alias(name) for name in table.column_names])
