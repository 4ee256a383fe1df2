"""Mutated records, many of each encoding: no crash, no stop, and every record is an event or held."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from encoded import NOON, WAYS, Encoded, bronze, encoded, meanings
from test_encodings import Told as GivenIds

from pipelines.config import Config
from pipelines.contracts.reading import Told
from pipelines.contracts.referee import judge
from pipelines.engine.sorting import limits_of, sort_out
from pipelines.topics import event_types

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COUNT = int(os.environ.get("REELHOUSE_FUZZ_RECORDS", "100000"))
"""Records by encoding. Most go to the referee, which is Python."""
EVENTS = [
    ("user-action", 1, {"userId": "u", "action": "skip", "mediaId": "m"}),
    (
        "user-action",
        2,
        {
            "userId": "ü",
            "action": "seek",
            "mediaId": "m" * 40,
            "positionSeconds": 3.5,
            "device": {"platform": "tv"},
        },
    ),
    (
        "content-upload",
        1,
        {"mediaId": "m", "creatorId": "c", "title": "t", "status": "uploaded", "genres": ["a", "b"]},
    ),
    ("system-event", 1, {"serverId": "s", "kind": "status", "status": "up", "cpuPercent": 1e3}),
]


def _flip(rng: random.Random, value: bytearray) -> None:
    value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, value: bytearray) -> None:
    value[rng.randrange(len(value))] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))


def _cut(rng: random.Random, value: bytearray) -> None:
    del value[rng.randrange(len(value)) :]


def _insert(rng: random.Random, value: bytearray) -> None:
    at = rng.randrange(len(value) + 1)
    value[at:at] = rng.randbytes(rng.randrange(1, 12))


def _lie(rng: random.Random, value: bytearray) -> None:
    """A length or a count that says far more than there is."""
    at = rng.randrange(len(value))
    value[at : at + 1] = rng.choice(
        (b"\xfe\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\xfe\xff\xff\xff\xff\x1f")
    )


def _swap(rng: random.Random, value: bytearray) -> None:
    a, b = sorted(rng.randrange(len(value)) for _ in range(2))
    value[a:b] = value[a:b][::-1]


_CHANGES: list[Callable[[random.Random, bytearray], None]] = [_flip, _set, _cut, _insert, _lie, _swap]


def _mutated(rng: random.Random, kind: str, count: int) -> list[Encoded]:
    ways = [way for way in WAYS if way.endswith(kind)]
    sources = [
        encoded({**fields, "timestamp": "2026-01-05T11:00:00Z"}, event_type, version, way)
        for event_type, version, fields in EVENTS
        for way in ways
    ]
    found = []
    for _ in range(count):
        source = rng.choice(sources)
        value = bytearray(source.value or b"")
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            if value:
                rng.choice(_CHANGES)(rng, value)
        found.append(source._replace(value=bytes(value)))
    return found


@pytest.mark.parametrize("kind", ["json", "avro", "protobuf"])
def test_every_mutated_record_is_an_event_or_held(spark: SparkSession, kind: str) -> None:
    config, ids, rng = Config(), GivenIds(), random.Random(20260105)
    records = _mutated(rng, kind, COUNT)
    found = sort_out(bronze(spark, records).repartition(2), config, ids)  # type: ignore[arg-type]
    assert found.refused is not None
    accepted = {row["offset"] for row in found.events.select("offset").collect()}
    held = {row["offset"]: row["reasons"] for row in found.refused.select("offset", "reasons").collect()}
    assert found.events.count() == len(accepted)
    assert not accepted & held.keys()
    assert len(accepted) + len(held) == COUNT
    codes = [{reason["code"] for reason in reasons} for reasons in held.values()]
    assert all(codes)
    assert "undecodable" not in set().union(*codes), "held for a fault of ours"
    assert accepted
    _agrees_with_the_referee(records, accepted, rng)


def _agrees_with_the_referee(records: list[Encoded], accepted: set[int], rng: random.Random) -> None:
    """What the stream accepts by itself is what the referee, which decides the others, would accept."""
    types, known, limits = event_types(Config()), meanings(), limits_of(Config())
    for offset in rng.sample(sorted(accepted), min(3000, len(accepted))):
        record = records[offset]
        value, told = record.value or b"", record.headers.get("content-type", "").partition("/")[2] or "json"
        if value[:1] == b"\0" and len(value) > 5:
            told = "framed"
        elif value.lstrip(b" ")[:1] == b"{":
            told = "json"
        beside = Told(NOON, told, record.headers.get("schema-version"))
        verdict = judge(types[record.topic], value, beside, limits, known)  # type: ignore[arg-type]
        assert verdict.text is not None, (record, verdict.reasons)
        assert json.loads(verdict.text)["timestamp"]
