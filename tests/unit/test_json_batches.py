"""JSON read in batches: each text by itself, strictly, whatever stands beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.contracts import json_batches
from pipelines.contracts.json_batches import reader
from pipelines.contracts.load import Contract

FIELDS = {
    "id": {"type": "string"},
    "at": {"type": ["string", "null"], "format": "date-time"},
    "size": {"type": ["number", "null"], "minimum": 0},
    "tags": {"type": ["array", "null"], "items": {"type": "string"}},
    "inner": {"type": ["object", "null"], "properties": {"a": {"type": ["string", "null"]}}},
}
KIND = pa.struct(
    [
        ("id", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
        ("size", pa.float64()),
        ("tags", pa.list_(pa.string())),
        ("inner", pa.struct([("a", pa.string())])),
    ]
)
GOOD = b'{"id":"a"}'


def read(texts: list[bytes | None], is_canonical: bool = False) -> list[dict[str, Any] | None]:
    """The objects as read; None: in doubt."""
    parse = reader({"event": FIELDS}, pa.struct([("event", KIND)]), is_canonical)
    found = parse(pa.array(["event"] * len(texts)), pa.array(texts, pa.binary()))
    return [row["event"] for row in found.to_pylist()]


def is_read(text: bytes) -> bool:
    """Whether a text between two good ones is read; they are, whatever it is."""
    first, found, last = read([GOOD, text, GOOD])
    assert first is not None
    assert last is not None
    return found is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"}",
        b'{"id":"a"',
        b'{"id":"a"}}',
        b'{"id":"a"}{"id":"b"}',
        b'{"id":"a"}\n{"id":"b"}',
        b'{"id":"a"},{"id":"b"}',
        b'{"id":"a"} x',
        b'{"id":"a",}',
        b'{"id":"a","id":"b"}',
        b'{"id":7}',
        b'{"id":true}',
        b'{"id":["a"]}',
        b'{"id":"a\n"}',
        b'{"id":"\\q"}',
        b'{"id":"\\ud800"}',
        b'{"id":"\xff"}',
        b'{"id":"a","other":NaN}',
        b'{"id":"a","other":-Infinity}',
        b'{"id":"a","other":01}',
        b'{"id":"a","size":NaN}',
        b'{"id":"a","size":1e999}',
        b'{"id":"a","size":-0.0}',
        b'{"id":"a","size":-1e-400}',
        b'{"id":"a","size":"1"}',
        b'{"id":"a","tags":[null]}',
        b'{"id":"a","tags":["x",null]}',
        b'{"id":"a","tags":[1]}',
        b'{"id":"a","tags":"x"}',
        b'{"id":"a","inner":"x"}',
        b'{"id":"a","inner":{"a":1}}',
        b'{"id":"a","at":"2026-02-30T00:00:00Z"}',
        b'{"id":"a","at":"2026-01-05T00:00:60Z"}',
        b'{"id":"a","at":"2026-01-05"}',
        b'{"id":"a","at":"2026-01-05 00:00:00Z"}',
        b'{"id":"a","at":"2026-01-05T00:00:00"}',
        b'{"id":"a","at":7}',
    ],
)
def test_what_is_not_plainly_such_an_object_is_in_doubt(text: bytes) -> None:
    assert not is_read(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":"a","other":{"deep":[[{}]]}}',
        b'{"id":"a","size":null,"tags":null,"inner":null,"at":null}',
        b'{ "id" :\n"a" }\n',
        b'{"\\u0069d":"a"}',
        b'{"id":"\\ud83d\\ude00 \xc3\xbc"}',
        b'{"id":"a","other":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_what_json_allows_is_read(text: bytes) -> None:
    assert is_read(text)


def test_texts_that_complete_each_other_are_no_objects() -> None:
    """Together these are one object; alone none is."""
    assert read([b'{"id":"a","other":[1,', b'{"x":1},1]}', GOOD])[:2] == [None, None]


def test_a_text_cannot_pass_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the mark can; so nobody knows it, and it is another in each process."""
    monkeypatch.setattr(json_batches, "_MARK", "known")
    monkeypatch.setattr(json_batches, "_MARKED", b'\n{"known":true,')
    forged = [b'{"id":"a","other":[1,', b'{"x":1},1]}{"known":true,"id":"b"}']
    assert None not in read(forged)
    monkeypatch.undo()
    assert read(forged) == [None, None]


def test_values_are_typed() -> None:
    (row,) = read(
        [
            b'{"id":"a","at":"2026-01-05T13:00:00.1234567+02:00","size":1.5,"tags":["x"],"inner":{"a":"b","c":1}}'
        ]
    )
    assert row is not None
    assert row.pop("at").isoformat() == "2026-01-05T11:00:00.123456+00:00"
    assert row == {"id": "a", "size": 1.5, "tags": ["x"], "inner": {"a": "b"}}


def test_a_bad_time_leaves_the_others_of_its_batch_as_they_are() -> None:
    texts = [json.dumps({"id": "a", "at": f"2026-02-{day:02}T00:00:00.5Z"}).encode() for day in range(27, 31)]
    assert [row and row["at"].day for row in read(texts)] == [27, 28, None, None]


def test_words_that_only_look_like_numbers_are_read_from_canonical_text() -> None:
    text = b'{"id":"NaN: Infinity War"}'
    assert read([text]) == [None]
    assert read([text], is_canonical=True) != [None]


@pytest.mark.parametrize(
    ("text", "refused"), [(b'{"id":null}', True), (rb'{"\u0069d":null}', True), (b"{}", False)]
)
def test_a_null_is_no_missing_field(text: bytes, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a field may be missing, but not be null."""
    contract = Contract("event", 1, {"properties": FIELDS}, Path())
    monkeypatch.setattr(json_batches, "contracts", lambda _: {1: contract})
    json_batches._nulls_refused.cache_clear()
    try:
        found = read([text.replace(b"{", b'{"size":1,' if text != b"{}" else b'{"size":1')])
        assert (found == [None]) == refused
    finally:
        json_batches._nulls_refused.cache_clear()


def test_what_arrow_refuses_is_found_among_many() -> None:
    faults = [b'{"id":7}', b'{"id":"a"', b'{"id":"a","id":"b"}', b'{"id":"\\udc00"}', b'{"id":"a","x":1e999}']
    faults.append(b'{"id":"a","x":1' + b"0" * 400 + b"}")
    texts = [faults[n // 7 % len(faults)] if n % 7 == 3 else GOOD for n in range(700)]
    assert [row is None for row in read(texts)] == [n % 7 == 3 for n in range(700)]
