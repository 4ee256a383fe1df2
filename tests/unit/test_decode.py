"""The stream's own decoding agrees with the referee, whose word is the JSON Schema library's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.contracts.decode import decode
from pipelines.contracts.reading import Told
from pipelines.contracts.referee import Limits, judge
from pipelines.engine.sorting import _recovered, limits_of
from pipelines.silver.content_uploads import content_uploads
from pipelines.silver.quarantine import judged
from pipelines.silver.user_actions import user_actions
from pipelines.simulate.identity import identity

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
LIMITS = limits_of(Config())
SCHEMA = (
    "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp, "
    "headers array<struct<key:string,value:binary>>, ingested_at timestamp, event_type string"
)
PLAY = {"userId": "u", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}
EXAMPLES = Path(__file__).parents[2] / "schemas"


def play(**changes: Any) -> bytes:
    return json.dumps({**PLAY, **changes}).encode()


def records(spark: SparkSession, values: list[Any], event_type: str = "user-action") -> DataFrame:
    rows = []
    for offset, value in enumerate(values):
        value, headers = value if isinstance(value, tuple) else (value, None)
        listed = None if headers is None else [(k, _bytes(v)) for k, v in headers.items()]
        rows.append((None, value, "t", 0, offset, NOON, listed, NOON, event_type))
    return spark.createDataFrame(rows, SCHEMA)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


DOUBTFUL = [
    None,
    b"",
    b" ",
    b"null",
    b"42",
    b"[]",
    b"{}",
    b"[" + play() + b"]",
    play() + play(),
    play() + b"}",
    play() + b"]",
    play() + b" x",
    play() + b',"x":{}',
    play()[:-1],
    b"\xff" + play(),
    play(userId=7),
    play(userId=None),
    play(userId=["u"]),
    play(action="rewind"),
    play(userId=7).replace(b"userId", rb"user\u0049d"),
    play().replace(b"userId", rb"user\u0049d"),
    play(note=[""] * 2000),
    play(action="resume"),
    play(action="resume", schemaVersion=2),
    play(schemaVersion="2"),
    play(schemaVersion=2.0),
    play(schemaVersion=True),
    play(schemaVersion=3),
    play(schemaVersion=0),
    play(schemaVersion=None),
    play(schemaVersion=3_000_000_000),
    play(schemaVersion=-3_000_000_000),
    play(schemaVersion=3).replace(b"3}", b"1e1000000}"),
    play(positionSeconds="12"),
    play(positionSeconds="12", schemaVersion=2),
    play(positionSeconds=-1, schemaVersion=2),
    play(positionSeconds=-1e-9, schemaVersion=2),
    play(positionSeconds=-0.0, schemaVersion=2),
    play(positionSeconds=None, schemaVersion=2),
    play(positionSeconds=12.3456785, schemaVersion=2),
    play(positionSeconds=1e15, schemaVersion=2),
    play(positionSeconds=True, schemaVersion=2),
    play().replace(b'"u"', rb'"\ud800"'),
    play(action="x").replace(b'"x"', rb'"\udc00"'),
    play().replace(b'"u"', rb'"\ud83d\ude00"'),
    play(schemaVersion=2).replace(b"2}", b'2,"positionSeconds":NaN}'),
    play(schemaVersion=2).replace(b"2}", b'2,"positionSeconds":1e999}'),
    play(schemaVersion=2).replace(b"2}", b'2,"positionSeconds":1e1000000}'),
    play(schemaVersion=2).replace(b"2}", b'2,"positionSeconds":1e-1000000}'),
    play(device="tv", schemaVersion=2),
    play(device={"platform": "tv"}, schemaVersion=2),
    play(device={"platform": 7}, schemaVersion=2),
    play(device={"platform": "\ud800"}, schemaVersion=2),
    play(device={"\ud800": "\ud800"}, schemaVersion=2),
    play(device={"x": [{"\ud800": ["\ud800"]}]}, schemaVersion=2),
    play(timestamp="2026-01-05"),
    play(timestamp="2026-01-05T11:00:00"),
    play(timestamp="2026-01-05 11:00:00Z"),
    play(timestamp="2026-01-05t11:00:00z"),
    play(timestamp="2026-01-05T11:00:60Z"),
    play(timestamp="2026-02-30T11:00:00Z"),
    play(timestamp="2026-01-05T13:00:00.1234567+02:00"),
    play(timestamp="2026-01-05T11:00:00+19:00"),
    play(timestamp="2026-01-06T12:00:00Z"),
    play(timestamp="2026-01-06T12:00:00.000001Z"),
    play(timestamp="1999-12-31T23:59:59Z"),
    play(timestamp=1767607200),
    play(userId="x" * 300_000),
    play(mediaId='brace } in { text, "userId": 5'),
    play(note={"deep": [[[[]]]]}),
    play().replace(b'"u"', b"[" * 5000 + b"]" * 5000),
    json.dumps(PLAY, indent=2).encode(),
    (play(action="resume"), {"schema-version": "2"}),
    (play(), {"schema-version": "two"}),
    (play(), {"schema-version": b"\xff"}),
    (play(schemaVersion=99), {"schema-version": "1"}),
]


def settled(
    spark: SparkSession, values: list[Any], event_type: str = "user-action", limits: Limits = LIMITS
) -> tuple[Any, set[int]]:
    """The events as silver gets them, directly or by the referee, and the offsets that were in doubt."""
    given = records(spark, values, event_type)
    decoded = decode(given, limits).localCheckpoint()
    doubted = given.join(decoded.where("NOT accepted").select("offset"), "offset", "left_semi")
    found = judged(doubted, limits, F.lit("json"), {}).localCheckpoint()
    again = _recovered(found, limits).drop("encoding")
    assert again.where("NOT accepted").count() == 0, "what the referee accepts must decode"
    return decoded.where("accepted").unionByName(again), {r.offset for r in doubted.collect()}


def test_the_stream_and_the_referee_agree_on_every_record(spark: SparkSession) -> None:
    events, _ = settled(spark, DOUBTFUL)
    accepted = {row.offset for row in events.collect()}
    for offset, value in enumerate(DOUBTFUL):
        value, headers = value if isinstance(value, tuple) else (value, {})
        version = headers.get("schema-version")
        told = Told(NOON, "json", None if version is None else _bytes(version).decode(errors="replace"))
        verdict = judge("user-action", value, told, LIMITS, {})
        assert (verdict.text is not None) == (offset in accepted), (value or b"")[:120]
        assert (verdict.text is None) == bool(verdict.reasons)


def test_plain_events_need_no_referee(spark: SparkSession) -> None:
    plain = [
        play(),
        play(action="seek", schemaVersion=2, positionSeconds=3.5, device={"platform": "tv"}, region="eu"),
        json.dumps(PLAY, indent=1).encode(),
    ]
    events, doubted = settled(spark, plain)
    assert events.count() == 3
    assert not doubted


def test_a_row_is_what_the_event_says(spark: SparkSession) -> None:
    value = play(
        schemaVersion=2,
        eventId="e",
        sessionId="s",
        positionSeconds=12.3456785,
        device={"platform": "tv", "appVersion": "1"},
        timestamp="2026-01-05T13:00:00.1234567+02:00",
    )
    row = user_actions(settled(spark, [value])[0]).first()
    assert row is not None
    assert (row.event_id, row.user_id, row.action, row.media_id) == ("e", "u", "play", "m")
    assert (row.session_id, row.platform, row.app_version) == ("s", "tv", "1")
    assert row.position_seconds == Decimal("12.345679")
    assert row.occurred_at == datetime(2026, 1, 5, 11, 0, 0, 123456)
    assert row.event_date.isoformat() == "2026-01-05"


def test_an_event_just_small_enough_may_grow_as_canonical_text(spark: SparkSession) -> None:
    value = json.dumps({**PLAY, "timestamp": "2026-01-05t11:00:00z"}, separators=(",", ":")).encode()
    events, doubted = settled(spark, [value], limits=replace(LIMITS, max_bytes=len(value)))
    assert (events.count(), doubted) == (1, {0})


def test_fields_that_a_version_does_not_know_are_left_out(spark: SparkSession) -> None:
    row = user_actions(settled(spark, [play(region="eu", eventId="mine")])[0]).first()
    assert row is not None
    assert row.region is None
    assert len(row.event_id) == 64


def test_identity_by_cloud_events_headers(spark: SparkSession) -> None:
    pairs = [("/players/", "7"), ("/players/1", "11"), ("/players/11", "1"), ("/a|b", "c"), ("/a", "b|c")]
    headers = [{"ce_source": source, "ce_id": own} for source, own in pairs]
    rows = user_actions(settled(spark, [(play(), one) for one in headers])[0]).collect()
    told = ["/players/|7", "/players/1|11", "/players/11|1", "/a%7Cb|c", "/a|b|c"]
    assert sorted(row.event_id for row in rows) == sorted(told)
    assert [identity("user-action", {}, one) for one in headers] == told


def test_ids_that_are_no_text_are_none(spark: SparkSession) -> None:
    given = [
        (play(mediaId=name), {"ce_source": "/", "ce_id": id_})
        for name, id_ in (("m", b"\xfe"), ("n", b"\xff"))
    ]
    rows = user_actions(settled(spark, given)[0]).collect()
    assert [len(row.event_id) for row in rows] == [64, 64]
    assert rows[0].event_id != rows[1].event_id


def test_empty_identities_are_none(spark: SparkSession) -> None:
    headers = [
        {"ce_source": "/", "ce_id": "7"},
        {"ce_source": "/", "ce_id": ""},
        {"ce_source": "", "ce_id": "7"},
    ]
    given = [(play(schemaVersion=2, eventId=""), one) for one in headers]
    rows = user_actions(settled(spark, given)[0]).collect()
    digest = rows[1].event_id
    assert len(digest) == 64
    assert [row.event_id for row in rows] == ["/|7", digest, digest]


def test_null_fields_are_absent_fields(spark: SparkSession) -> None:
    upload = {"mediaId": "m", "creatorId": "c", "title": "t", "status": "published", "language": None}
    value = json.dumps({**upload, "timestamp": "2026-01-05T11:00:00Z", "genres": ["a", "b"]}).encode()
    row = content_uploads(settled(spark, [value], "content-upload")[0]).first()
    assert row is not None
    assert row.language is None
    assert row.genres == ["a", "b"]


@pytest.mark.parametrize("event_type", ["user-action", "content-upload", "system-event"])
def test_the_contracts_examples_are_as_they_say(event_type: str) -> None:
    found = 0
    for file in (EXAMPLES / event_type).glob("*/examples/*/*.json"):
        version, valid = file.parts[-4], file.parts[-2] == "valid"
        recorded = NOON + timedelta(hours=1)
        verdict = judge(event_type, file.read_bytes(), Told(recorded, "json", version), LIMITS, {})
        assert (verdict.text is not None) == valid, (file, verdict.reasons)
        found += 1
    assert found >= 2


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ('"schemaVersion": 3000000000', "unknown_version", "schemaVersion"),
        ('"schemaVersion": 1e1000000', "unknown_version", "schemaVersion"),
        ('"schemaVersion": 2, "positionSeconds": 1e1000000', "out_of_range", "positionSeconds"),
    ],
)
def test_numbers_beyond_all_bounds_are_held(more: str, code: str, field: str) -> None:
    verdict = judge("user-action", play()[:-1] + f", {more}}}".encode(), Told(NOON), LIMITS, {})
    assert [(reason.code, reason.field) for reason in verdict.reasons] == [(code, field)]
    assert verdict.version in (None, 2)  # a column of 32 bits holds it


def test_every_fault_is_named() -> None:
    value = json.dumps({"userId": 1, "action": "rewind", "timestamp": "soon"}).encode()
    reasons = judge("user-action", value, Told(NOON), LIMITS, {}).reasons
    assert {(reason.code, reason.field) for reason in reasons} == {
        ("wrong_type", "userId"),
        ("unknown_value", "action"),
        ("bad_timestamp", "timestamp"),
        ("missing_field", "mediaId"),
    }
