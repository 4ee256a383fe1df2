"""Bad input of each kind, among good events on the real broker: held with its reason, bytes intact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from embedded_broker import broker_config

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.kafka_clients import producer
from pipelines.silver import quarantine, user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
PLAY = {"userId": "u", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}


def play(**changes: Any) -> bytes:
    return json.dumps({**PLAY, **changes}).encode()


# Kind: the value, the headers, and the reason's code and field.
KINDS: dict[str, tuple[bytes | None, list[tuple[str, bytes]], str, str]] = {
    "bytes that are not text": (b"\xff\xfe\x00" + play(), [], "invalid_utf8", ""),
    "text that is not JSON": (b"play u m", [], "invalid_json", ""),
    "JSON cut off": (play()[:-5], [], "invalid_json", ""),
    "JSON that is no object": (b"[1, 2]", [], "not_an_object", ""),
    "a number for text": (play(userId=7), [], "wrong_type", "userId"),
    "a missing field": (b'{"userId": "u"}', [], "missing_field", "action"),
    "an unknown action": (play(action="rewind"), [], "unknown_value", "action"),
    "an unknown version": (play(schemaVersion=99), [], "unknown_version", "schemaVersion"),
    "an unknown version in the header": (
        play(),
        [("schema-version", b"99")],
        "unknown_version",
        "schemaVersion",
    ),
    "no value": (None, [], "null_value", ""),
    "null in a field": (play(mediaId=None), [], "wrong_type", "mediaId"),
    "a string of 1 MB": (play(userId="x" * 1_000_000), [], "too_large", ""),
    "nesting without end": (b'{"userId":' + b"[" * 50_000 + b"]" * 50_000 + b"}", [], "too_deep", ""),
    "a time long ago": (play(timestamp="0001-01-01T00:00:00Z"), [], "ancient_timestamp", "timestamp"),
    "a time far ahead": (play(timestamp="9999-12-31T23:59:59Z"), [], "future_timestamp", "timestamp"),
    "a time that is none": (play(timestamp="soon"), [], "bad_timestamp", "timestamp"),
    "a number beyond measure": (
        play(schemaVersion=2, positionSeconds=1e300),
        [],
        "out_of_range",
        "positionSeconds",
    ),
}


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    config: Config = broker_config(tmp_path_factory.mktemp("bad"), partitions=1)
    broker.start(config)
    try:
        sender = producer(config)
        for number, (kind, (value, headers, _, _)) in enumerate(KINDS.items()):
            topic = config.kafka.topics.user_actions
            sender.send(topic, value, key=kind.encode(), headers=headers)
            sender.send(topic, play(userId=f"good-{number}"), key=b"good")
        sender.close()
        Streams(spark, config, ("bronze", "silver"), print).run(available_now=True)
        yield Lake.of(spark, config)
    finally:
        broker.stop(config)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_held_with_its_reason_and_its_bytes(lake: Lake, kind: str) -> None:
    value, _, code, field = KINDS[kind]
    rows = lake.read(quarantine.TABLE).where(f"key = CAST('{kind}' AS BINARY)").collect()
    assert len(rows) == 1
    assert (None if rows[0].value is None else bytes(rows[0].value)) == value
    found = {(reason.code, reason.field) for reason in rows[0].reasons}
    assert (code, field) in found
    assert all(reason.message for reason in rows[0].reasons)


def test_the_good_events_among_them_are_in_silver(lake: Lake) -> None:
    found = {row.user_id for row in lake.read(user_actions.TABLE).collect()}
    assert found == {f"good-{number}" for number in range(len(KINDS))}
    assert lake.read(quarantine.TABLE).count() == len(KINDS)
