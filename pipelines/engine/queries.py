"""The Structured Streaming query of each layer: what it reads, and what becomes of a batch.

A query takes what is there and ends. It is made anew for each round.
"""

from __future__ import annotations

import gc
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.contracts.schema_ids import SchemaIds
from pipelines.declare import Table
from pipelines.engine.checkpoint import app_id
from pipelines.engine.gold_step import GoldStep, changes
from pipelines.engine.lake import Lake
from pipelines.engine.silver_step import SilverStep
from pipelines.engine.source_topics import input_topics
from pipelines.kafka_clients import spark_options
from pipelines.tables import READ_BY

STOPPED = "reelhouse: stopped between batches"
"""What a query fails of that was asked to stop: its batch is taken again by the next one."""

_Step = Callable[[DataFrame, int, Lake], int | None]
# What a record takes (bytes) until the table tells it: batches of files are cut by size, not by count.
_BYTES_PER_RECORD = 100.0
# Kafka's defaults are for small messages taken one by one: a backlog comes an eighth sooner by larger pieces.
_FETCHES = {
    "kafka.max.partition.fetch.bytes": 4 << 20,
    "kafka.max.poll.records": 5000,
    "kafka.receive.buffer.bytes": 1 << 20,
}


@dataclass(frozen=True)
class Running:
    """A query that was started."""

    query: StreamingQuery
    told: list[int] = field(default_factory=list)
    """Records of each batch, where its step tells them: Spark counts a record once for each reading."""

    def taken(self) -> tuple[int, int]:
        """Records and batches, once it has ended (by Spark's count the last thousand, which it remembers)."""
        found = [p for p in self.query.recentProgress if p.numInputRows]
        return sum(self.told) or sum(p.numInputRows for p in found), len(found)


class Queries:
    """Starts the queries of one lake, until `stop` is set."""

    def __init__(self, spark: SparkSession, config: Config, ids: SchemaIds, stop: threading.Event) -> None:
        self._spark, self._config, self._ids, self._stop = spark, config, ids, stop
        self._lake = Lake.of(spark, config)
        self._bytes_per_row: dict[Table, float] = {}
        # One group for all rounds: Spark then goes on with the consumers of the round before. Another one for
        # another run: Spark would take up consumers of the same group even from another cluster.
        self._group = f"reelhouse-bronze-{uuid.uuid4().hex[:8]}"

    def start(self, layer: str) -> Running:
        """Start the layer's query on what is there now."""
        told: list[int] = []
        writer = self._bronze() if layer == "bronze" else self._stepped(layer, told)
        writer = writer.queryName(layer).option("checkpointLocation", self._lake.checkpoint(layer))
        return Running(writer.trigger(availableNow=True).start(), told)

    def close_ended(self) -> None:
        """Close the connections by which ended queries have called their steps.

        Py4J opens one for each and keeps it, with a socket on either side and a thread of Python, for ever.
        """
        gateway: Any = self._spark.sparkContext._gateway
        gateway.java_gateway_server.getCallbackClient().periodicCleanup()

    def _bronze(self) -> DataStreamWriter:
        kafka, stream = self._config.kafka, self._config.stream
        reader = self._spark.readStream.format("kafka").options(**(_FETCHES | spark_options(self._config)))
        if kafka.subscribe_pattern:
            reader = reader.option("subscribePattern", kafka.subscribe_pattern)
        else:
            reader = reader.option("subscribe", ",".join(input_topics(self._config)))
        records = (
            reader.option("includeHeaders", "true")
            .option("startingOffsets", "earliest")
            .option("failOnDataLoss", str(kafka.fail_on_data_loss).lower())
            .option("kafka.group.id", kafka.options.get("group.id", self._group))
            .option("maxOffsetsPerTrigger", stream.max_records_per_batch)
            .load()
        )
        writer = events.events(records).writeStream.outputMode("append")
        return writer.format("delta").option("path", self._lake.path(events.TABLE))

    def _step(self, layer: str, identity: str) -> _Step:
        if layer == "silver":
            return SilverStep(self._config, identity, self._ids)
        return GoldStep(self._config, identity)

    def _source(self, layer: str) -> DataFrame:
        streams = [self._stream_of(table) for table in READ_BY[layer]]
        return changes(*streams) if layer == "gold" else streams[0]

    def _stream_of(self, table: Table) -> DataFrame:
        if table not in self._bytes_per_row:
            told = self._lake.bytes_per_row(table)
            self._bytes_per_row |= {table: told} if told else {}
        per_record = self._bytes_per_row.get(table, _BYTES_PER_RECORD)
        size = int(self._config.stream.max_records_per_batch * per_record)
        reader = self._spark.readStream.format("delta").option("maxBytesPerTrigger", f"{size}b")
        # A new stream begins with the first commit, to take what came first first. Without it, it begins with
        # all that is there, in the order of files. Asked each time: also a stream that goes on looks for it.
        if self._lake.has_first_version(table):
            reader = reader.option("startingVersion", 0)
        return reader.load(self._lake.path(table))

    def _stepped(self, layer: str, told: list[int]) -> DataStreamWriter:
        def run_batch(batch: DataFrame, batch_id: int) -> None:
            if self._stop.is_set():
                # Before anything is done: the batch is taken again at the next start.
                raise InterruptedError(STOPPED)
            lake = Lake(batch.sparkSession, self._lake.root)
            told.append(self._step(layer, app_id(lake, layer))(batch, batch_id, lake) or 0)
            gc.collect()  # see `stream`: Java frees what the batch has made

        return self._source(layer).writeStream.foreachBatch(run_batch)
