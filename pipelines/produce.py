"""Publishes files of events to Kafka, and waits until every one is acknowledged."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError
from kafka.partitioner.default import murmur2

from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.event_files import Located, Record, read_records
from pipelines.kafka_clients import producer
from pipelines.kafka_failures import said
from pipelines.topics import partition_counts

Progress = Callable[[int, "float | None"], None]
"""Called now and then with: events sent (count), and the share (0 to 1) of the input that was read; None: it
is unknown."""

# Large batches and a short linger: more than twice the rate of the client's defaults.
_BATCH_BYTES = 262_144
_LINGER_MS = 20
# Most events without an acknowledgement: bounds the memory, which the client itself does not.
_WINDOW = 50_000
# How often acknowledgements are looked at and progress is told: whichever comes first.
_STEP = 2_000
_TELL_SECONDS = 1.0
_DELIVERY_SECONDS = 120
_PACES_PER_SECOND = 20


@dataclass(frozen=True)
class Produced:
    """What `produce` published; every event is acknowledged by all replicas in sync."""

    by_topic: dict[str, int]
    """Events (count) by topic."""
    seconds: float
    """From the first read to the last acknowledgement (seconds)."""

    @property
    def count(self) -> int:
        """Events in all."""
        return sum(self.by_topic.values())


def produce(
    config: Config,
    files: Sequence[str | Path],
    *,
    topic: str | None = None,
    rate: float | None = None,
    encode: Callable[[Record], Record] | None = None,
    progress: Progress | None = None,
) -> Produced:
    """Publish the events of `files`, file by file in their order, at most `rate` events a second.

    `encode` changes each record before it is sent. At least once: running it again publishes again. Events of
    one key keep their order. Raises UsageError for a file that does not exist or is of no known kind, and
    ReelhouseError (`event_unreadable`, `topic_missing`, `broker_unreachable`, `not_acknowledged`) after which
    the events before may be published.
    """
    paths = [Path(file) for file in files]
    sources = [read_records(path, config.kafka.topics, topic) for path in paths]
    sizes = [0 if str(path) == "-" else path.stat().st_size for path in paths]
    total, began = sum(sizes), time.monotonic()
    sender = _Sender(config)
    try:
        told = began
        for sent, (located, before) in enumerate(_paced(_chained(sources, sizes), rate), 1):
            sender.send(encode(located.record) if encode else located.record, located.where)
            if sent % _STEP == 0 or time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                sender.settle(_WINDOW)
                if progress:
                    progress(sent, (before + located.bytes_read) / total if total else None)
        sender.settle(0)
        if progress:
            progress(sum(sender.sent.values()), 1.0)
    finally:
        sender.close()
    return Produced(dict(sender.sent), time.monotonic() - began)


def _chained(sources: Sequence[Iterator[Located]], sizes: Sequence[int]) -> Iterator[tuple[Located, int]]:
    """Each record, with the size (bytes) of the files before its own."""
    before = 0
    for source, size in zip(sources, sizes, strict=True):
        for located in source:
            yield located, before
        before += size


def _paced(items: Iterator[tuple[Located, int]], rate: float | None) -> Iterator[tuple[Located, int]]:
    """The items, held back to `rate` a second in small bursts; None: as fast as they come."""
    if not rate:
        yield from items
        return
    burst = max(1, int(rate / _PACES_PER_SECOND))
    began = time.monotonic()
    for index, item in enumerate(items):
        if index % burst == 0:
            time.sleep(max(0.0, began + index / rate - time.monotonic()))
        yield item


class _Sender:
    """Sends records with the partitions that Kafka's own clients choose, and checks acknowledgements."""

    def __init__(self, config: Config) -> None:
        self._servers = config.kafka.bootstrap_servers
        self._partitions = partition_counts(config)
        self._producer = producer(
            config,
            batch_size=_BATCH_BYTES,
            linger_ms=_LINGER_MS,
            delivery_timeout_ms=_DELIVERY_SECONDS * 1000,
            request_timeout_ms=30_000,
        )
        self._chosen: dict[tuple[str, bytes], int] = {}
        self._waiting: deque[tuple[Any, str]] = deque()
        self.sent: Counter[str] = Counter()

    def send(self, record: Record, where: str) -> None:
        """Hand one record to the client; `where` it was read.

        Raises ReelhouseError (`topic_missing`, `event_unreadable`, `not_acknowledged`).
        """
        if record.topic not in self._partitions:
            message = (
                f"the topic {record.topic} does not exist on {self._servers}; `reelhouse broker start` "
                f"creates the configured ones, or: kafka-topics.sh --create --topic {record.topic} "
                f"--bootstrap-server {self._servers}"
            )
            raise ReelhouseError(message, code="topic_missing")
        try:
            future = self._producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                headers=record.headers,
                partition=self._partition(record),
                timestamp_ms=record.timestamp_ms,
            )
        except KafkaError as error:
            raise self._refused(error, where) from error
        self._waiting.append((future, where))
        self.sent[record.topic] += 1

    def _partition(self, record: Record) -> int | None:
        if record.key is None:
            return None
        place = (record.topic, record.key)
        chosen = self._chosen.get(place)
        if chosen is None:
            # Kafka's default partitioner, remembered: in Python the hash costs as much as the sending.
            chosen = (murmur2(record.key) & 0x7FFFFFFF) % self._partitions[record.topic]
            self._chosen[place] = chosen
        return chosen

    def settle(self, at_most: int) -> None:
        """Wait until at most `at_most` events are unacknowledged. Raises ReelhouseError for a failed one."""
        if at_most == 0:
            self._producer.flush()
        while self._waiting and (len(self._waiting) > at_most or self._waiting[0][0].is_done):
            future, where = self._waiting.popleft()
            try:
                future.get(timeout=_DELIVERY_SECONDS + 10)
            except KafkaError as error:
                raise self._refused(error, where) from error

    def _refused(self, error: KafkaError, where: str) -> ReelhouseError:
        if isinstance(error, MessageSizeTooLargeError):
            message = (
                f"{where}: the event is larger than {self._servers} takes ({said(error)}); leave it out, or "
                "raise the topic's max.message.bytes"
            )
            return ReelhouseError(message, code="event_unreadable")
        left = len(self._waiting) + 1
        message = (
            f"up to {left} events were not acknowledged by {self._servers} ({error}); see to the broker, "
            "and produce the file again"
        )
        return ReelhouseError(message, code="not_acknowledged")

    def close(self) -> None:
        """End the client; what is unacknowledged by then is given up."""
        self._producer.close(timeout=5)
