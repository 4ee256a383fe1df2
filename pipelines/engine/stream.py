"""Runs the layers' streams: each in turn takes what is there, then the next.

In lock-step, because on one machine streams that run side by side compete for the same cores, and every layer
would be late. Each layer is a Structured Streaming query of its own, with its own checkpoint, so that layers
can also run as applications of their own. A query is started for each round: that costs about as much as a
trigger, and it makes new columns and contracts seen without a restart.
"""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.contracts.schema_ids import SchemaIds
from pipelines.declare import Table
from pipelines.engine import expired, guard
from pipelines.engine.checkpoint import query_id
from pipelines.engine.gold_step import GoldStep, changes
from pipelines.engine.lake import Lake
from pipelines.engine.replay import release_known
from pipelines.engine.rules import count_rules
from pipelines.engine.silver_step import SilverStep
from pipelines.engine.stream_errors import explained
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import answers, spark_options
from pipelines.silver import user_actions
from pipelines.tables import LAYERS, OF_LAYER, READ_BY

Step = Callable[[DataFrame, int, Lake], int | None]
"""Processes a batch; returns its records, or None: as Spark counts them, which is once for each reading."""
Report = Callable[[str], None]
"""Called with a line for people."""

# What a record takes (bytes) until the table tells it: batches of files are cut by size, not by count.
_BYTES_PER_RECORD = 100.0
# Spark 4.1's Kafka source, asked for its metrics after a batch that a killed run had begun, finds no offsets
# and fails the query, though the batch is committed by then.
_METRICS_FAULT = 'the return value of "scala.Option.get()" is null'
# Kafka's defaults are for small messages taken one by one: a backlog comes an eighth sooner by larger pieces.
_FETCHES = {
    "kafka.max.partition.fetch.bytes": 4 << 20,
    "kafka.max.poll.records": 5000,
    "kafka.receive.buffer.bytes": 1 << 20,
}
_STOPPED = "reelhouse: stopped between batches"
_RETRY_SECONDS = 5.0
_ROUNDS_BETWEEN_COMPACTIONS = 40


@dataclass
class Round:
    """What one turn of a layer did."""

    layer: str
    records: int = 0
    batches: int = 0
    seconds: float = 0.0
    rounds: int = 0
    """Turns that took something."""


class _Every:
    """Tells when something that is done now and then is due: at once, and then after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._due = seconds, 0.0

    def is_due(self) -> bool:
        """Whether it is; then it is taken as done."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True


class Streams:
    """The streams of one lake in this process."""

    def __init__(self, spark: SparkSession, config: Config, layers: Sequence[str], report: Report) -> None:
        self._spark, self._config, self._report = spark, config, report
        self._layers = [layer for layer in LAYERS if layer in layers]
        self._lake = Lake.of(spark, config)
        self._ids = SchemaIds(config)
        self._asks_again = _Every(config.registry.retry_seconds)
        self._counts_rules = _Every(config.stream.rules_minutes * 60)
        self._bytes_per_row: dict[Table, float] = {}
        self._has_first_version: dict[Table, bool] = {}
        self._records = 0
        self._stop = threading.Event()
        # One group for all rounds: Spark then goes on with the consumers of the round before. Another one for
        # another run: Spark would take up consumers of the same group even from another cluster.
        self._group = f"reelhouse-bronze-{uuid.uuid4().hex[:8]}"

    def stop(self) -> None:
        """Ask `run` to end after the running batch."""
        self._stop.set()

    def run(self, available_now: bool) -> list[Round]:
        """Run until `stop`, or with `available_now` until what is there now is in every layer.

        Exactly once into every table, whenever this process ends. Raises ReelhouseError (`already_running`,
        `checkpoint_lost`, `table_lost`, `source_lost`, `topic_missing`, `topic_recreated`, `offsets_expired`,
        `storage_unwritable`, …).
        """
        with guard.only_writer(self._lake, self._layers, self._report):
            self._prepare(available_now)
            totals = {layer: Round(layer) for layer in self._layers}
            while not self._stop.is_set():
                done = sum(self._turn(totals[layer], available_now) for layer in self._layers)
                if available_now:
                    break
                if not done:
                    self._stop.wait(self._config.stream.poll_seconds)
            return list(totals.values())

    def _prepare(self, available_now: bool) -> None:
        while "bronze" in self._layers and not self._stop.is_set():
            try:
                guard.require_same_topics(self._lake, self._config)
                break
            except ReelhouseError as error:
                if error.code != "broker_unreachable" or available_now:
                    raise
                self._wait_for_broker(str(error))
        guard.make_tables(self._lake, self._layers)
        if self._layers == ["gold"]:
            self._lake.read(user_actions.TABLE)
        elif self._layers == ["silver"]:
            self._lake.read(events.TABLE)

    def _turn(self, total: Round, available_now: bool) -> int:
        """One round of a layer; returns the records it took."""
        if self._stop.is_set():
            return 0
        began = time.monotonic()
        try:
            records, batches = self._drained(total.layer)
        except StreamingQueryException as error:
            if _STOPPED in str(error):
                return 0
            failure = explained(total.layer, error, self._lake.root, self._config)
            if failure.code != "broker_unreachable" or available_now:
                raise failure from error
            self._wait_for_broker(str(failure))
            return 0
        seconds = time.monotonic() - began
        if records:
            total.records, total.batches = total.records + records, total.batches + batches
            total.seconds += seconds
            rate = records / seconds
            self._report(f"{total.layer}: {records:,} records in {seconds:.1f} s ({rate:,.0f}/s)")
            self._compact(total)
        if total.layer == "silver" and self._config.registry.url and self._asks_again.is_due():
            self._ask_again()
        counts_rules = total.layer == "gold" and records and self._config.stream.rules_minutes
        if counts_rules and self._counts_rules.is_due():
            count_rules(self._lake)
        return records

    def _ask_again(self) -> None:
        """Release what waits for the registry, when it knows the schema by now."""
        released = release_known(self._lake, self._config, self._ids)
        if released:
            self._report(f"silver: {released:,} records released, whose schemas the registry knows now")

    def _compact(self, total: Round) -> None:
        """Merge small files, a table at a time: each in one of so many rounds."""
        tables = OF_LAYER[total.layer]
        turn = total.rounds % _ROUNDS_BETWEEN_COMPACTIONS
        if turn < len(tables) and total.rounds >= _ROUNDS_BETWEEN_COMPACTIONS:
            self._lake.compact(tables[turn])
        total.rounds += 1

    def _drained(self, layer: str) -> tuple[int, int]:
        try:
            return self._drain(layer)
        except StreamingQueryException as error:
            if _METRICS_FAULT not in str(error):
                raise
            return self._drain(layer)

    def _drain(self, layer: str) -> tuple[int, int]:
        if layer == "bronze" and not answers(self._config):
            servers = self._config.kafka.bootstrap_servers
            raise StreamingQueryException(f"no broker answers at {servers}: TimeoutException")
        if layer == "bronze" and not self._config.kafka.fail_on_data_loss:
            expired.record(self._lake, self._config, self._report)
        self._records = 0
        query = self._start(layer)
        while query.isActive:
            query.awaitTermination(1)
            # Bronze may stop anywhere: Spark's own sink is exactly once. The others end between batches.
            if self._stop.is_set() and layer == "bronze":
                query.stop()
        query.awaitTermination()  # raises what it failed of
        records, batches = _taken(query)
        return self._records or records, batches

    def _start(self, layer: str) -> StreamingQuery:
        writer = {"bronze": self._bronze, "silver": self._silver, "gold": self._gold}[layer]()
        writer = writer.queryName(layer).option("checkpointLocation", self._lake.checkpoint(layer))
        if layer == "bronze":
            return writer.format("delta").trigger(availableNow=True).start(self._lake.path(events.TABLE))
        return writer.trigger(availableNow=True).start()

    def _bronze(self) -> DataStreamWriter:
        kafka, stream = self._config.kafka, self._config.stream
        reader = self._spark.readStream.format("kafka").options(**(_FETCHES | spark_options(self._config)))
        if kafka.subscribe_pattern:
            reader = reader.option("subscribePattern", kafka.subscribe_pattern)
        else:
            reader = reader.option("subscribe", ",".join(guard.input_topics(self._config)))
        records = (
            reader.option("includeHeaders", "true")
            .option("startingOffsets", "earliest")
            .option("failOnDataLoss", str(kafka.fail_on_data_loss).lower())
            .option("kafka.group.id", kafka.options.get("group.id", self._group))
            .option("maxOffsetsPerTrigger", stream.max_records_per_batch)
            .load()
        )
        return events.events(records).writeStream.outputMode("append")

    def _silver(self) -> DataStreamWriter:
        step = partial(SilverStep, self._config, ids=self._ids)
        return self._stepped("silver", step, *self._sources("silver"))

    def _gold(self) -> DataStreamWriter:
        return self._stepped("gold", partial(GoldStep, self._config), changes(*self._sources("gold")))

    def _sources(self, layer: str) -> list[DataFrame]:
        return [self._stream_of(table) for table in READ_BY[layer]]

    def _stream_of(self, table: Table) -> DataFrame:
        if table not in self._bytes_per_row:
            told = self._lake.bytes_per_row(table)
            self._bytes_per_row |= {table: told} if told else {}
        per_record = self._bytes_per_row.get(table, _BYTES_PER_RECORD)
        size = int(self._config.stream.max_records_per_batch * per_record)
        reader = self._spark.readStream.format("delta").option("maxBytesPerTrigger", f"{size}b")
        # A new stream begins with the first commit, to take what came first first. Without it, it begins with
        # all that is there, in the order of files. Asked once: only the first round can be a stream's first.
        if table not in self._has_first_version:
            self._has_first_version[table] = self._lake.has_first_version(table)
        if self._has_first_version[table]:
            reader = reader.option("startingVersion", 0)
        return reader.load(self._lake.path(table))

    def _stepped(self, layer: str, step_of: Callable[..., Step], source: DataFrame) -> DataStreamWriter:
        def run_batch(batch: DataFrame, batch_id: int) -> None:
            if self._stop.is_set():
                # Before anything is done: the batch is taken again at the next start.
                raise InterruptedError(_STOPPED)
            lake = Lake(batch.sparkSession, self._lake.root)
            # The checkpoint's own identity: batch ids count anew in a new checkpoint.
            app_id = f"reelhouse/{query_id(lake, layer)}"
            self._records += step_of(app_id=app_id)(batch, batch_id, lake) or 0
            # Py4J's objects are cycles, which Python would leave for many batches: Java then keeps each
            # batch's plans, its rows and its hash tables for them, until its heap is full.
            gc.collect()

        return source.writeStream.foreachBatch(run_batch)

    def _wait_for_broker(self, sentence: str) -> None:
        self._report(f"{sentence}; waiting for it to return")
        while not self._stop.wait(_RETRY_SECONDS):
            if answers(self._config):
                self._report("the broker answers again")
                return


def _taken(query: StreamingQuery) -> tuple[int, int]:
    """Records and batches of a finished query (the last ten batches, which Spark remembers)."""
    found = [p for p in query.recentProgress if p.numInputRows]
    return sum(p.numInputRows for p in found), len(found)
