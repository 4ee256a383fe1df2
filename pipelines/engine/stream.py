"""Runs the layers' streams: each in turn takes what is there, then the next.

In lock-step, because on one machine streams that run side by side compete for the same cores, and every layer
would be late. Each layer is a Structured Streaming query of its own, with its own checkpoint, so that layers
can also run as applications of their own. A query is started for each round: that costs about as much as a
trigger, and it makes new columns seen without a restart.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from pipelines.config import Config
from pipelines.contracts.schema_ids import SchemaIds
from pipelines.engine import expired, rebuild
from pipelines.engine.checkpoint import last_batch
from pipelines.engine.guard import make_tables
from pipelines.engine.lake import Lake
from pipelines.engine.locks import only_writer
from pipelines.engine.queries import STOPPED, Queries
from pipelines.engine.replay import release_known, settle
from pipelines.engine.rules import count_rules
from pipelines.engine.source_topics import require_same_topics
from pipelines.engine.stream_errors import explained, passing
from pipelines.engine.upkeep import maintain
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import answers
from pipelines.tables import LAYERS, OF_LAYER, READ_BY

Report = Callable[[str], None]
"""Called with a line for people."""

_RETRY_SECONDS = 5.0
_ENDED = "SparkContext was shut down"
_ATTEMPTS = 4
"""How often a batch is taken at most in one turn (count), when each time something passing ended it."""
_ROUNDS_BETWEEN_UPKEEP = 40


@dataclass
class Taken:
    """What a layer's stream has taken in a run."""

    layer: str
    records: int = 0
    batches: int = 0


class _Every:
    """Does something now and then: at once, and then after so many seconds, or longer when it takes long."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._due = seconds, 0.0

    def do(self, work: Callable[[], object]) -> None:
        """Do it when it is due. The streams wait meanwhile, so it gets a tenth of the time at most."""
        began = time.monotonic()
        if began < self._due:
            return
        try:
            work()
        finally:
            ended = time.monotonic()
            self._due = ended + max(self._seconds, 9 * (ended - began))


class Streams:
    """The streams of one lake in this process."""

    def __init__(self, spark: SparkSession, config: Config, layers: Sequence[str], report: Report) -> None:
        self._config, self._report = config, report
        self._layers = [layer for layer in LAYERS if layer in layers]
        self._lake = Lake.of(spark, config)
        self._ids = SchemaIds(config)
        self._asks_again = _Every(config.registry.retry_seconds)
        self._rules_due = _Every(config.stream.rules_minutes * 60)
        # Rounds that took something, counted on from the batches of the processes before.
        self._rounds: dict[str, int] = {}
        self._has_finished_rebuild = False
        # The ids of the cluster's topics when they were last looked at; None before that.
        self._topics: dict[str, str] | None = None
        self._stop = threading.Event()
        self._queries = Queries(spark, config, self._ids, self._stop)

    def stop(self) -> None:
        """Ask `run` to end after the running batch."""
        self._stop.set()

    def run(self, available_now: bool) -> list[Taken]:
        """Run until `stop`, or with `available_now` until what is there now is in every layer.

        Exactly once into every table, whenever this process ends. Raises ReelhouseError (`already_running`,
        `checkpoint_lost`, `table_lost`, `table_behind`, `source_lost`, `topic_missing`, `topic_recreated`,
        `offsets_expired`, `storage_unwritable`, …).
        """
        with only_writer(self._lake, self._layers, self._report), _cheap_collections():
            self._prepare(available_now)
            totals = {layer: Taken(layer) for layer in self._layers}
            while not self._stop.is_set():
                done = sum(self._turn(totals[layer], available_now) for layer in self._layers)
                self._queries.close_ended()
                gc.collect()
                if available_now:
                    break
                if not done:
                    self._stop.wait(self._config.stream.poll_seconds)
            return list(totals.values())

    def _prepare(self, available_now: bool) -> None:
        if "bronze" in self._layers:
            self._require_same_topics(available_now)
        make_tables(self._lake, self._layers)
        if "bronze" in self._layers and self._config.kafka.fail_on_data_loss:
            expired.close(self._lake, self._config, self._report)
        self._has_finished_rebuild = False
        if "silver" in self._layers:
            settle(self._lake)
        for layer in self._layers:
            batch, _ = last_batch(self._lake, layer)
            self._rounds[layer] = 0 if batch is None else batch + 1
            for table in READ_BY.get(layer, ()):
                if table.layer not in self._layers:
                    self._lake.read(table)  # another process makes it, which may not have run yet

    def _require_same_topics(self, available_now: bool) -> None:
        while not self._stop.is_set():
            try:
                self._look_at_topics()
                return
            except ReelhouseError as error:
                if error.code != "broker_unreachable" or available_now:
                    raise
                self._wait_for_broker(str(error))

    def _turn(self, total: Taken, available_now: bool) -> int:
        """One round of a layer; returns the records it took."""
        if self._stop.is_set():
            return 0
        if total.layer == "gold" and not self._has_finished_rebuild:  # the other layers do not wait for it
            rebuild.finish(self._lake, self._config, self._report)
            self._has_finished_rebuild = True
        began = time.monotonic()
        try:
            records, batches = self._drained(total.layer)
        except (StreamingQueryException, ReelhouseError) as error:
            if self._stop.is_set() and _ENDED in str(error):
                return 0  # who stops a whole process group stops Spark as well: the batch is taken again
            failure = (
                error
                if isinstance(error, ReelhouseError)
                else explained(total.layer, error, self._lake.root, self._config)
            )
            if failure.code != "broker_unreachable" or available_now:
                raise failure from error
            self._wait_for_broker(str(failure))
            # It may have come back with an empty disk: its offsets would count other records.
            self._require_same_topics(available_now)
            return 0
        seconds = time.monotonic() - began
        if records:
            total.records, total.batches = total.records + records, total.batches + batches
            rate = records / seconds
            self._report(f"{total.layer}: {records:,} records in {seconds:.1f} s ({rate:,.0f}/s)")
            self._beside(total.layer, "the upkeep", lambda: self._look_after(total.layer))
        if total.layer == "silver" and self._config.registry.url:
            what = "the release of what waited for the registry"
            self._beside("silver", what, lambda: self._asks_again.do(self._ask_again))
        if total.layer == "gold" and self._config.stream.rules_minutes:
            what = "the count of the rules"
            self._beside("gold", what, lambda: self._rules_due.do(lambda: count_rules(self._lake)))
        return records

    def _beside(self, layer: str, what: str, work: Callable[[], object]) -> None:
        """Do what the streams can do without: a failure is told, and they go on."""
        if self._stop.is_set():
            return
        try:
            work()
        except Exception as error:
            line = str(error).strip().partition("\n")[0][:200]
            self._report(f"{layer}: {what} failed ({line}); the stream goes on, and it is tried again")

    def _ask_again(self) -> None:
        """Release what waits for the registry, when it knows the schema by now."""
        released = release_known(self._lake, self._config, self._ids)
        if released:
            self._report(f"silver: {released:,} records released, whose schemas the registry knows now")

    def _look_after(self, layer: str) -> None:
        """Look after a table at a time: each in one of so many rounds, whichever process they are of."""
        tables, rounds = OF_LAYER[layer], self._rounds[layer]
        self._rounds[layer] += 1  # before: a table that fails does not hold up the others
        turn = rounds % _ROUNDS_BETWEEN_UPKEEP
        if turn < len(tables) and rounds >= _ROUNDS_BETWEEN_UPKEEP:
            maintain(self._lake, tables[turn], timedelta(hours=self._config.storage.history_hours))

    def _drained(self, layer: str) -> tuple[int, int]:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._drain(layer)
            except StreamingQueryException as error:
                told = passing(error)
                if told is None:
                    raise
                if told:
                    self._report(f"{layer}: {told}")
        return self._drain(layer)

    def _drain(self, layer: str) -> tuple[int, int]:
        if layer == "bronze":
            # A topic may have joined, or have been made anew, since the last round.
            self._look_at_topics()
        skips = layer == "bronze" and not self._config.kafka.fail_on_data_loss
        if skips:
            expired.record(self._lake, self._config, self._report)
        running = self._queries.start(layer)
        query = running.query
        try:
            while query.isActive:
                query.awaitTermination(1)
                # Bronze may stop anywhere: Spark's own sink is exactly once. The others end between batches.
                if self._stop.is_set() and layer == "bronze":
                    query.stop()
            query.awaitTermination()  # raises what it failed of
        except StreamingQueryException as error:
            if STOPPED not in str(error):
                raise
        if skips:
            expired.record(self._lake, self._config, self._report)
        return running.taken()

    def _look_at_topics(self) -> None:
        self._topics = require_same_topics(self._lake, self._config, self._report, self._topics)

    def _wait_for_broker(self, sentence: str) -> None:
        self._report(f"{sentence}; waiting for it to return")
        while not self._stop.wait(_RETRY_SECONDS):
            if answers(self._config):
                self._report("the broker takes connections again")
                return


@contextlib.contextmanager
def _cheap_collections() -> Iterator[None]:
    """Leave what is imported by now out of `gc.collect`, which takes 0.05 s with it.

    It is called after each batch and round because Py4J's objects are cycles, which Python by itself leaves
    for a long time: Java then keeps each batch's plans, rows and hash tables for them until its heap is full.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
