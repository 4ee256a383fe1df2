"""Creates the configured topics, and tells what a cluster holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnsupportedCodecError

from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import admin, consumer
from pipelines.kafka_failures import is_denial, said

_TIMEOUT_MS = 15_000
_RECORD_SECONDS = 5.0


def configured_topics(config: Config) -> list[str]:
    """The names of the three input topics and the output topic, in the order of the configuration."""
    return list(config.kafka.topics.model_dump().values())


def event_types(config: Config) -> dict[str, str]:
    """Event type by configured input topic."""
    topics = config.kafka.topics
    return {
        topics.user_actions: "user-action",
        topics.content_uploads: "content-upload",
        topics.system_events: "system-event",
    }


def by_event_type(config: Config) -> dict[str, str]:
    """Configured input topic by event type."""
    return {event_type: topic for topic, event_type in event_types(config).items()}


def encodings(config: Config) -> dict[str, str]:
    """By configured input topic how records are encoded that do not tell it themselves."""
    told = config.kafka.encodings.model_dump()
    return {getattr(config.kafka.topics, key): encoding for key, encoding in told.items()}


def create_topics(config: Config) -> list[str]:
    """Create the configured topics that are missing, and wait until they can be used.

    Returns the names created; a topic that exists is left as it is, whatever its partitions.
    Raises ReelhouseError (`broker_unreachable`, `topics_not_created`).
    """
    client = admin(config)
    try:
        known = set(client.list_topics())
        missing = [name for name in configured_topics(config) if name not in known]
        for name in missing:
            _create(client, name, config)
        if missing:
            client.wait_for_topics(missing, timeout_ms=_TIMEOUT_MS)
        return missing
    except KafkaError as error:
        message = f"topics could not be created ({error}); create them on the cluster, or check kafka.options"
        raise ReelhouseError(message, code="topics_not_created") from error
    finally:
        client.close()


def _create(client: KafkaAdminClient, name: str, config: Config) -> None:
    wanted = {"num_partitions": config.kafka.partitions, "replication_factor": config.kafka.replication}
    # Another process may have been quicker, which is as good.
    with contextlib.suppress(TopicAlreadyExistsError):
        client.create_topics({name: wanted})


def partition_counts(config: Config) -> dict[str, int]:
    """Partitions of every topic of the cluster (count by name). Raises ReelhouseError."""
    with _asked(config, "topics") as client:
        return {str(topic["name"]): len(topic["partitions"]) for topic in _described(client)}


def identities(config: Config) -> dict[str, str]:
    """The id of every topic by name: a topic that is made anew gets another. Raises ReelhouseError."""
    with _asked(config, "topics") as client:
        return {str(topic["name"]): str(topic["topic_id"]) for topic in _described(client)}


def end_offsets(config: Config, topics: Collection[str]) -> dict[str, dict[int, int]]:
    """By topic and partition, the offset that the next record will get; without topics that do not exist.

    Raises ReelhouseError.
    """
    return _offsets(config, topics, OffsetSpec.LATEST)


def first_offsets(config: Config, topics: Collection[str]) -> dict[str, dict[int, int]]:
    """By topic and partition, the first offset that has not expired; without topics that do not exist.

    Raises ReelhouseError.
    """
    return _offsets(config, topics, OffsetSpec.EARLIEST)


def _offsets(config: Config, topics: Collection[str], which: OffsetSpec) -> dict[str, dict[int, int]]:
    """Of these topics only: a partition without a leader, which may be another's, lets the question fail."""
    with _asked(config, "offsets") as client:
        wanted = {
            TopicPartition(str(topic["name"]), int(partition["partition_index"])): which
            for topic in client.describe_topics([*topics])
            for partition in topic["partitions"]
        }
        found: dict[str, dict[int, int]] = {}
        for place, told in sorted(client.list_partition_offsets(wanted, timeout_ms=_TIMEOUT_MS).items()):
            found.setdefault(place.topic, {})[place.partition] = told.offset
        return found


def oldest_time(config: Config, offsets: Mapping[tuple[str, int], int]) -> float | None:
    """The earliest record time (seconds since 1970) of the records that are next at these offsets.

    `offsets` by topic and partition; None when no record comes from any, or one comes in a compression that
    this client lacks the library for (zstd, lz4, snappy). Raises ReelhouseError.
    """
    places = {TopicPartition(*place): offset for place, offset in offsets.items()}
    found: dict[TopicPartition, float] = {}
    deadline = time.monotonic() + _RECORD_SECONDS
    with _asked(config, "records", consumer) as client:
        client.assign(list(places))
        for place, offset in places.items():
            client.seek(place, offset)
        while found.keys() < places.keys() and time.monotonic() < deadline:
            try:
                polled = client.poll(timeout_ms=1000)
            except UnsupportedCodecError:
                return None
            for place, records in polled.items():
                found[place] = records[0].timestamp / 1000
                client.pause(place)
    return min(found.values(), default=None)


@contextlib.contextmanager
def _asked(config: Config, what: str, connect: Callable[..., Any] = admin) -> Iterator[Any]:
    """A client for one question; that it gets no answer is said in a sentence."""
    client = connect(config)
    try:
        yield client
    except KafkaError as error:
        denied = is_denial(error)
        advice = "allow it, or correct kafka.options" if denied else "try again"
        message = f"the {what} of {config.kafka.bootstrap_servers} cannot be read ({said(error)}); {advice}"
        raise ReelhouseError(message, code="kafka_denied" if denied else "broker_unreachable") from error
    finally:
        client.close()


def _described(client: KafkaAdminClient) -> list[dict[str, Any]]:
    return [topic for topic in client.describe_topics() if not topic.get("is_internal")]
