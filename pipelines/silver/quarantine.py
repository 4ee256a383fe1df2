"""`silver.quarantine`: the records that no contract accepts, bytes intact, with every reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.bronze import events as bronze
from pipelines.contracts.decode import header, record_time
from pipelines.contracts.reading import Told
from pipelines.contracts.referee import Limits, judge
from pipelines.contracts.schema_ids import Meanings
from pipelines.declare import Column, Rule, Table
from pipelines.silver.deduplicate import PLACE

if TYPE_CHECKING:
    import pyarrow as pa

REASONS = "array<struct<code:string,field:string,message:string>>"
TABLE = Table(
    layer="silver",
    name="quarantine",
    grain="one record that no contract accepts",
    comment="Records held back, as they came, with every reason.",
    columns=(
        *bronze.TABLE.columns,
        Column("event_type", "string", "Event type of the topic; null when the topic is unknown."),
        Column("reasons", REASONS, "Every fault: a stable code, the field (empty: the record), a sentence."),
        Column("schema_version", "int", "Version of the contract, as far as it was told."),
        Column("quarantined_at", "timestamp", "When it was held (UTC).", required=True),
        Column("released_at", "timestamp", "When it was released into its table (UTC); null: still held."),
        Column(
            "released_as",
            "string",
            "row: it is in its table; copy: its event was there already.",
            values=("row", "copy"),
        ),
    ),
    keys=("topic", "partition", "offset"),
    stats_cols=("partition", "offset", "timestamp", "ingested_at", "quarantined_at", "released_at"),
    freshness="quarantined_at",
    rules=(
        Rule("reasons_told", "coalesce(size(reasons), 0) > 0", "Every record is held for a reason."),
        Rule(
            "released_as_something",
            "(released_at IS NULL) = (released_as IS NULL)",
            "What is released tells when and as what.",
        ),
        Rule("released_after_held", "released_at >= quarantined_at", "Released no sooner than held."),
    ),
)
_DOUBTED = (*bronze.TABLE.column_names, "event_type")


def judged(doubted: DataFrame, limits: Limits, encoding: SparkColumn, meanings: Meanings) -> DataFrame:
    """The referee's verdict on each record: `text` (canonical JSON) where it is valid, else `reasons`.

    `encoding` is how a record is encoded, `meanings` what the ids of schemas mean.
    """
    schema = f"{_ddl(_DOUBTED)}, text string, judged_version int, reasons {REASONS}"
    version = header("schema-version").alias("header_version")
    recorded = record_time().alias("recorded")
    told = doubted.select(*_DOUBTED, version, encoding.alias("encoding"), recorded)

    def judge_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _judge_batch(batch, limits, meanings)

    return told.mapInArrow(judge_batches, schema)


def _ddl(names: tuple[str, ...]) -> str:
    types = {column.name: column.type for column in TABLE.columns}
    return ", ".join(f"`{name}` {types[name]}" for name in names)


def _judge_batch(batch: pa.RecordBatch, limits: Limits, meanings: Meanings) -> pa.RecordBatch:
    import pyarrow as pa

    asked = batch.select(["event_type", "value", "recorded", "encoding", "header_version"]).to_pylist()
    verdicts = [
        judge(
            r["event_type"],
            r["value"],
            Told(r["recorded"], r["encoding"], r["header_version"]),
            limits,
            meanings,
        )
        for r in asked
    ]
    reason = pa.list_(pa.struct([(name, pa.string()) for name in ("code", "field", "message")]))
    added: dict[str, Any] = {
        "text": pa.array([v.text for v in verdicts], pa.string()),
        "judged_version": pa.array([v.version for v in verdicts], pa.int32()),
        "reasons": pa.array([[r._asdict() for r in v.reasons] for v in verdicts], reason),
    }
    kept = [batch.column(name) for name in _DOUBTED]
    return pa.RecordBatch.from_arrays([*kept, *added.values()], [*_DOUBTED, *added])


def undecodable(judged_records: DataFrame, undecoded: DataFrame) -> DataFrame:
    """The verdict turned on records that the referee accepted and the decoder (`undecoded`) could not take.

    None is known; were there one, it must be held rather than lost.
    """
    reason = F.struct(
        F.lit("undecodable").alias("code"),
        F.lit("").alias("field"),
        F.lit("the contract accepts it, but it cannot be decoded: please report it").alias("message"),
    )
    mine = judged_records.join(undecoded.select(*PLACE), list(PLACE), "left_semi")
    return mine.withColumn("text", F.lit(None).cast("string")).withColumn("reasons", F.array(reason))


def quarantine(judged_records: DataFrame) -> DataFrame:
    """The rows of the records that the referee refused."""
    held = judged_records.where(F.col("text").isNull())
    return held.select(
        *_DOUBTED,
        "reasons",
        F.col("judged_version").alias("schema_version"),
        F.current_timestamp().alias("quarantined_at"),
        F.lit(None).cast("timestamp").alias("released_at"),
        F.lit(None).cast("string").alias("released_as"),
    )
