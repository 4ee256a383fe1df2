"""Files of events as the Kafka records to publish: odd ones, of each kind of file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipelines.config import Topics
from pipelines.errors import ReelhouseError
from pipelines.event_files import Record, read_records

ACTION = {"userId": "u1", "action": "play", "timestamp": "2024-05-01T10:00:00Z", "mediaId": "m1"}


def records(path: Path, content: bytes) -> list[Record]:
    path.write_bytes(content)
    return [located.record for located in read_records(path, Topics())]


def test_a_byte_order_mark_is_no_part_of_the_first_event(tmp_path: Path) -> None:
    line = json.dumps(ACTION).encode()
    found = records(tmp_path / "e.ndjson", b"\xef\xbb\xbf" + line + b"\n" + line + b"\n")
    assert [record.value for record in found] == [line, line]


def test_an_envelope_in_parquet_keeps_its_bytes_and_its_nulls(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"topic": "t", "key": b"\xff", "value": b"\xff\x00", "headers": [("a", b"\xfe")]},
        {"topic": "t", "key": b"k", "value": None, "headers": None},
    ]
    types = {"key": pa.binary(), "value": pa.binary(), "headers": pa.map_(pa.string(), pa.binary())}
    schema = pa.schema({"topic": pa.string(), **types})
    parquet.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "e.parquet")
    found = [located.record for located in read_records(tmp_path / "e.parquet", Topics())]
    assert found == [Record("t", b"\xff", b"\xff\x00", [("a", b"\xfe")]), Record("t", b"k", None)]


@pytest.mark.parametrize("text", ["1e5", "true", "007", '{"a": 1.0}'])
def test_an_envelope_in_csv_keeps_its_texts(tmp_path: Path, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    rows = f"topic,key,value,timestamp_ms,headers.x,headers\nt,{quoted},{quoted},7,{quoted},\n"
    rows += 't,k,v,,,"{""y"":""z""}"\n'
    first, second = records(tmp_path / "e.csv", rows.encode())
    same = text.encode()
    assert first == Record("t", same, same, [("x", same)], 7)
    assert second == Record("t", b"k", b"v", [("y", b"z")])


@pytest.mark.parametrize(
    ("name", "content", "where", "told"),
    [
        ("a.ndjson", b'\n{"topic": "t", "key": "k", "value": "x", "timestamp_ms": 1e400}', 2, "infinity"),
        ("a.ndjson", b'{"topic": "t", "key": "k", "value": "x", "timestamp_ms": 1e30}', 1, "timestamp_ms"),
        ("a.ndjson", b'{"topic": "t", "key": "k", "value": "x", "timestamp_ms": -1}', 1, "timestamp_ms"),
        ("a.ndjson", b'{"topic": "t", "value": null}', 1, "neither a key nor a value"),
        ("a.csv", b"userId,action,device,device.platform\nu,play,,tv\nu,play,phone,tv\n", 3, "device"),
        ("a.csv", b"userId,action,device.platform,device\nu,play,tv,phone\n", 2, "device"),
        ("a.csv", b"userId,action,a,a.b.c\nu,play,1,2\n", 2, "gives a as a whole and in its parts"),
        ("a.csv", b'userId,action,a\nu,play,"[""\\ud800""]"\n', 2, "cannot be written as JSON"),
    ],
)
def test_an_odd_event_is_located(tmp_path: Path, name: str, content: bytes, where: int, told: str) -> None:
    with pytest.raises(ReelhouseError, match=rf"{name}, line {where}: the event .*{told}") as caught:
        records(tmp_path / name, content)
    assert caught.value.code == "event_unreadable"


def test_a_cell_of_thousands_of_brackets_is_text(tmp_path: Path) -> None:
    text = "[" * 100_000
    (found,) = records(tmp_path / "e.csv", f"userId,action,a\nu,play,{text}\n".encode())
    assert json.loads(found.value or b"")["a"] == text


def test_a_column_that_json_has_no_value_for_is_located(tmp_path: Path) -> None:
    rows = pa.table({"userId": ["u"], "action": ["play"], "a": pa.array([1], pa.time32("s"))})
    parquet.write_table(rows, tmp_path / "e.parquet")
    with pytest.raises(ReelhouseError, match=r"e\.parquet.*1: the event cannot be written as JSON"):
        list(read_records(tmp_path / "e.parquet", Topics()))
