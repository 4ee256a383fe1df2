"""Publishing files of events: what arrives in Kafka is what the file says, and quickly."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from embedded_broker import read_all
from kafka.partitioner.default import murmur2
from pyarrow import parquet

from pipelines import broker
from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import admin
from pipelines.produce import produce

pytestmark = pytest.mark.stream
PARTITIONS = 4

CHECKOUT = Path(__file__).parents[2]
ACTION = {"userId": "u1", "action": "play", "timestamp": "2024-05-01T10:00:00Z", "mediaId": "m1"}
UPLOAD = {
    "mediaId": "m1",
    "creatorId": "c1",
    "title": "T",
    "status": "uploaded",
    "timestamp": "2024-05-01T09:00:00Z",
}
STATUS = {"serverId": "s1", "kind": "status", "status": "up", "timestamp": "2024-05-01T09:00:00Z"}


def only(config: Config, kind: str) -> Any:
    records = read_all(config, getattr(config.kafka.topics, kind))
    assert len(records) == 1
    return records[0]


def events(config: Config) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in read_all(config, config.kafka.topics.user_actions)]


def test_plain_events_go_where_their_shape_says_byte_for_byte(config: Config, tmp_path: Path) -> None:
    # Spaces and the order of the fields tell whether the text was kept or written anew.
    lines = [json.dumps(event, indent=None, separators=(" , ", " : ")) for event in (ACTION, UPLOAD, STATUS)]
    (tmp_path / "e.ndjson").write_text("\n".join(lines) + "\n\n")
    done = produce(config, [tmp_path / "e.ndjson"])
    topics = config.kafka.topics
    assert done.by_topic == {topics.user_actions: 1, topics.content_uploads: 1, topics.system_events: 1}
    assert done.count == 3
    expected = {"user_actions": b"u1", "content_uploads": b"m1", "system_events": b"s1"}
    for (kind, key), line in zip(expected.items(), lines, strict=True):
        record = only(config, kind)
        assert (record.key, record.value) == (key, line.encode())


def test_envelopes_carry_key_headers_time_and_any_bytes(config: Config, tmp_path: Path) -> None:
    topic = config.kafka.topics.user_actions
    common = {"topic": topic, "key": "k", "timestamp_ms": 1_700_000_000_123}
    envelopes = [
        {**common, "value": '{"broken": ', "headers": {"schema-version": "2"}},
        {**common, "value": {"ü": 1.5}},
        {**common, "value_base64": base64.b64encode(b"\xff\x00").decode()},
        {**common, "value": None},
        {"topic": topic, "value": "no key"},
    ]
    path = tmp_path / "e.jsonl"
    path.write_text("".join(json.dumps(envelope) + "\n" for envelope in envelopes))
    produce(config, [path])
    records = read_all(config, topic)
    keyed = [record for record in records if record.key == b"k"]
    assert [record.value for record in keyed] == [b'{"broken": ', '{"ü":1.5}'.encode(), b"\xff\x00", None]
    assert {record.timestamp for record in keyed} == {1_700_000_000_123}
    assert list(keyed[0].headers) == [("schema-version", b"2")]
    assert [record.value for record in records if record.key is None] == [b"no key"]


def test_keys_go_to_the_partition_that_kafkas_clients_choose(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson"
    path.write_text("".join(json.dumps({**ACTION, "userId": f"user {n}"}) + "\n" for n in range(100)))
    produce(config, [path])
    records = read_all(config, config.kafka.topics.user_actions)
    assert {record.partition for record in records} == {0, 1, 2, 3}
    assert all(record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4 for record in records)
    assert murmur2(b"21") & 0xFFFFFFFF == -973932308 & 0xFFFFFFFF  # as Kafka's own tests have it


def test_csv_rows_become_events_without_empty_fields(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(
        "\ufeffuserId,action,timestamp,mediaId,positionSeconds,device.platform,device.appVersion,region\n"
        '007,play,2024-05-01 10:00:00.25,"a, b",12.5,tv,,\n'
        "8,seek,2024-05-01T12:00:00+02:00,9,30,,1.0,1e5\n",
        encoding="utf-8",
    )
    produce(config, [path])
    first = {**ACTION, "userId": "007", "timestamp": "2024-05-01T10:00:00.25Z", "mediaId": "a, b"}
    second = {"userId": "8", "action": "seek", "timestamp": "2024-05-01T12:00:00+02:00", "mediaId": "9"}
    found = sorted(events(config), key=lambda event: event["userId"])
    assert found == [
        {**first, "positionSeconds": 12.5, "device": {"platform": "tv"}},
        {**second, "positionSeconds": 30, "region": "1e5", "device": {"appVersion": "1.0"}},
    ]


def test_parquet_rows_become_events_of_json_types(config: Config, tmp_path: Path) -> None:
    at = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    row = {"userId": "u1", "action": "play", "mediaId": "m1", "positionSeconds": 1.5, "region": None}
    rows = [{**row, "timestamp": at, "device": {"platform": "tv", "appVersion": None}}]
    for unit in ("us", "ns"):
        table = pa.Table.from_pylist(rows)
        index = table.schema.get_field_index("timestamp")
        stamped = table.column("timestamp").cast(pa.timestamp(unit, "UTC"))
        table = table.set_column(index, "timestamp", stamped)
        parquet.write_table(table, tmp_path / f"{unit}.parquet")
    produce(config, [tmp_path / "us.parquet", tmp_path / "ns.parquet"])
    expected = {**ACTION, "timestamp": "2024-05-01T10:00:00.250000Z", "positionSeconds": 1.5}
    assert events(config) == [{**expected, "device": {"platform": "tv"}}] * 2


def test_a_line_that_is_no_event_is_published_only_where_it_is_told(config: Config, tmp_path: Path) -> None:
    path, topic = tmp_path / "e.ndjson", config.kafka.topics.user_actions
    path.write_bytes(json.dumps(ACTION).encode() + b"\nnot json \xff\n")
    with pytest.raises(ReelhouseError, match=r"e\.ndjson, line 2: .*--topic") as caught:
        produce(config, [path])
    assert caught.value.code == "event_unreadable"
    produce(config, [path], topic=topic)
    assert [r.value for r in read_all(config, topic) if r.key is None] == [b"not json \xff"]


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.ndjson", b'{"colour": "red"}\n', "line 1"),
        ("a.ndjson", b'{"topic": "t", "value_base64": "%%%"}\n', "line 1"),
        ("a.ndjson", b'{"topic": "t", "value": "x", "headers": ["y"]}\n', "line 1"),
        ("a.csv", b"userId,action\n\xff,play\n", "line"),
        ("a.parquet", b"PAR1 is not enough", "a.parquet"),
    ],
)
def test_an_event_that_cannot_be_read_is_located(
    shared: Config, tmp_path: Path, name, content, where
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReelhouseError) as caught:
        produce(shared, [tmp_path / name])
    assert caught.value.code == "event_unreadable"
    assert where in str(caught.value)


def test_a_topic_that_does_not_exist_is_named_and_not_created(shared: Config, tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_text(json.dumps(ACTION) + "\n")
    with pytest.raises(ReelhouseError) as caught:
        produce(shared, [tmp_path / "e.ndjson"], topic="nowhere")
    assert caught.value.code == "topic_missing"
    assert "the topic nowhere does not exist" in str(caught.value)
    assert "--create --topic nowhere" in str(caught.value)
    client = admin(shared)
    assert "nowhere" not in client.list_topics()
    client.close()


def test_standard_input_is_read_as_ndjson(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(ACTION).encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(line)))
    assert produce(config, ["-"]).count == 1
    assert events(config) == [ACTION]


def test_the_rate_is_kept(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson"
    path.write_text((json.dumps(ACTION) + "\n") * 300)
    assert produce(config, [path], rate=200).seconds == pytest.approx(1.5, abs=0.5)


def test_at_a_low_rate_a_refusal_and_the_progress_are_told_within_seconds(
    shared: Config, tmp_path: Path
) -> None:
    client = admin(shared)
    client.create_topics({"small": {"num_partitions": 1, "configs": {"max.message.bytes": "1000"}}})
    client.close()
    path, reports = tmp_path / "e.ndjson", []
    big = {**ACTION, "sessionId": "s" * 2000}
    path.write_text("".join(json.dumps(event) + "\n" for event in [ACTION] * 40 + [big] + [ACTION] * 400))
    began = time.monotonic()
    with pytest.raises(ReelhouseError, match=r"e\.ndjson, line 41: the event is larger than") as caught:
        produce(shared, [path], topic="small", rate=20, progress=lambda *report: reports.append(report))
    assert caught.value.code == "event_unreadable"
    assert time.monotonic() - began < 10  # all of it takes 22 s
    assert len(reports) >= 1
    assert reports[0][0] < 40


def test_an_event_larger_than_any_broker_takes_is_located(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "e.ndjson"
    path.write_text(json.dumps(ACTION) + "\n" + json.dumps({**ACTION, "region": "x" * 11_000_000}) + "\n")
    with pytest.raises(ReelhouseError, match=r"e\.ndjson, line 2: the event is larger than") as caught:
        produce(config, [path])
    assert caught.value.code == "event_unreadable"


def test_at_full_speed_every_event_arrives_and_progress_is_told(config: Config, tmp_path: Path) -> None:
    path, count = tmp_path / "e.ndjson", 100_000
    line = json.dumps({**ACTION, "sessionId": "s" * 20, "positionSeconds": 1.5, "device": {"platform": "tv"}})
    path.write_text("".join(line.replace('"u1"', f'"u{n % 5000}"') + "\n" for n in range(count)))
    reports: list[tuple[int, float | None]] = []
    began = time.monotonic()
    done = produce(config, [path], progress=lambda *report: reports.append(report))
    seconds = time.monotonic() - began
    assert done.count == count
    assert sum(broker.status(config).topics[config.kafka.topics.user_actions].values()) == count
    assert reports[-1] == (count, 1.0)
    assert reports == sorted(reports)
    # 40,000 a second on a quiet machine; the bound leaves room for one that is busy with other tests.
    assert count / seconds > 10_000
