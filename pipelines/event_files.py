"""Reads files of events (NDJSON, CSV, Parquet) as the Kafka records to publish.

A line or row is one of
- an envelope, as `reelhouse simulate` writes it: `topic`, and `value` (text as it is; an object or another
  JSON value is written as JSON; null is a tombstone) or `value_base64`, and optionally `key`, `headers`
  (text by name), `timestamp_ms` (milliseconds since 1970, UTC);
- a plain event, whose topic and key its fields tell.
"""

from __future__ import annotations

import base64
import codecs
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from pipelines.config import Topics
from pipelines.contracts.load import text_fields
from pipelines.errors import ReelhouseError, UsageError

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NAIVE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)")
_PARQUET_ROWS = 10_000
_CELL_BYTES = 10 * 1024 * 1024


class Record(NamedTuple):
    """What one Kafka record is made of."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None
    timestamp_ms: int | None = None


class Located(NamedTuple):
    """A record and how far into its file it was found, for progress and errors."""

    record: Record
    bytes_read: int
    where: str
    """File and line (or row), as errors name it."""


def read_records(path: Path, topics: Topics, topic: str | None = None) -> Iterator[Located]:
    """The records of one file, in its order; `topic` overrides what the events say. `-` is standard input.

    Raises UsageError for an unknown kind of file, ReelhouseError (`event_unreadable`) naming the line of an
    event that cannot be read or whose topic cannot be told.
    """
    readers: dict[str, Callable[[Path, Topics, str | None], Iterator[Located]]] = {
        ".ndjson": _read_ndjson,
        ".jsonl": _read_ndjson,
        ".json": _read_ndjson,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    reader = _read_ndjson if str(path) == "-" else readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} is of no known kind; give one of {', '.join(readers)}", code="file_kind")
    if str(path) != "-" and not path.is_file():
        raise UsageError(f"there is no file {path}; check its name", code="file_missing")
    return reader(path, topics, topic)


def _read_ndjson(path: Path, topics: Topics, topic: str | None) -> Iterator[Located]:
    source: BinaryIO = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    done = 0
    with source:
        for number, line in enumerate(source, 1):
            done += len(line)
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).rstrip(b"\r\n")
            if text:
                where = f"{path}, line {number}"
                yield Located(_from_line(text, topics, topic, where), done, where)


def _from_line(line: bytes, topics: Topics, topic: str | None, where: str) -> Record:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested without end
        event = None
    if isinstance(event, dict):
        return _from_object(event, line, topics, topic, where)
    if topic is None:
        raise _unreadable(where, "is not a JSON object, so its topic is unknown; name it with --topic")
    # With a topic, bytes that are no event are published as they are: streams must stand them.
    return Record(topic, None, line)


def _from_object(
    event: dict[str, Any], raw: bytes | None, topics: Topics, topic: str | None, where: str
) -> Record:
    """The record of an envelope or of a plain event; `raw` is the event's own text, kept byte for byte."""
    if _is_envelope(event):
        return _from_envelope(event, topic, where)
    shaped_topic, key = _by_shape(event, topics)
    chosen = topic or shaped_topic
    if chosen is None:
        raise _unreadable(where, "has the shape of no known event; name its topic with --topic")
    try:
        value = raw if raw is not None else _json(event)
    except (ValueError, TypeError, RecursionError) as error:  # a half of a surrogate pair; a time of day
        raise _unreadable(where, f"cannot be written as JSON ({error}); correct it") from None
    return Record(chosen, None if key is None else str(key).encode(errors="replace"), value)


def _is_envelope(event: Mapping[str, Any]) -> bool:
    return isinstance(event.get("topic"), str) and ("value" in event or "value_base64" in event)


def _by_shape(event: dict[str, Any], topics: Topics) -> tuple[str | None, Any]:
    if "userId" in event and "action" in event:
        return topics.user_actions, event["userId"]
    if "mediaId" in event and ("creatorId" in event or "status" in event):
        return topics.content_uploads, event["mediaId"]
    if "serverId" in event and "kind" in event:
        return topics.system_events, event["serverId"]
    return None, None


def _from_envelope(event: dict[str, Any], topic: str | None, where: str) -> Record:
    try:
        key, headers = event.get("key"), event.get("headers")
        record = Record(
            topic or event["topic"],
            None if key is None else _bytes(key),
            _envelope_value(event),
            [(name, _bytes(text)) for name, text in headers.items()] if headers else None,
            _milliseconds(event.get("timestamp_ms")),
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _unreadable(where, f"is an envelope that cannot be read ({error}); correct it") from None
    if record.key is None and record.value is None:
        raise _unreadable(where, "has neither a key nor a value, which Kafka's clients refuse; give it a key")
    return record


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _milliseconds(value: Any) -> int | None:
    """The record's time. Raises ValueError for one that Kafka cannot hold."""
    if value is None:
        return None
    milliseconds = int(value)
    if not 0 <= milliseconds < 2**63:
        raise ValueError("timestamp_ms is before 1970, or no number of 64 bits")
    return milliseconds


def _envelope_value(event: dict[str, Any]) -> bytes | None:
    if event.get("value_base64") is not None:
        return base64.b64decode(event["value_base64"], validate=True)
    value = event.get("value")
    if value is None:
        return None
    return _bytes(value) if isinstance(value, (str, bytes)) else _json(value)


def _read_csv(path: Path, topics: Topics, topic: str | None) -> Iterator[Located]:
    size = path.stat().st_size
    csv.field_size_limit(_CELL_BYTES)
    with path.open("rb") as raw, path.open(encoding="utf-8-sig", newline="") as file:
        # A text file does not tell its position while it is iterated: count lines of a second handle.
        positions = _line_ends(raw)
        done, lines = 0, 0
        reader = csv.DictReader(file)
        try:
            for row in reader:
                while lines < reader.line_num:
                    lines, done = lines + 1, next(positions, size)
                cells = {name: cell for name, cell in row.items() if name and cell not in ("", None)}
                where = f"{path}, line {reader.line_num}"
                event = _nested(cells, where)
                yield Located(_from_object(event, None, topics, topic, where), done, where)
        except (csv.Error, UnicodeDecodeError) as error:
            where = f"{path}, line {reader.line_num + 1}"
            raise _unreadable(where, f"is not CSV in UTF-8 ({error}); correct it") from None


def _line_ends(file: BinaryIO) -> Iterator[int]:
    done = 0
    for line in file:
        done += len(line)
        yield done


def _nested(cells: dict[str, str], where: str) -> dict[str, Any]:
    """JSON values of a row's cells; a column `device.platform` is the field `platform` of `device`.

    An envelope's cells are text as they are, but for its headers when they are a JSON object.
    """
    event: dict[str, Any] = {}
    texts = cells.keys() - {"headers"} if _is_envelope(cells) else ()
    for name, text in cells.items():
        *above, last = name.split(".")
        inner: Any = event
        for part in above:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last in inner:
            both = "as a whole and in its parts, by a column each; leave one of them empty"
            raise _unreadable(where, f"gives {name.partition('.')[0]} {both}")
        inner[last] = text if name in texts else _cell(name, text)
    return event


def _cell(name: str, text: str) -> Any:
    if name == "timestamp":
        found = _NAIVE_TIME.fullmatch(text)
        return f"{found.group(1)}T{found.group(2)}Z" if found else text
    if name in text_fields():
        return text
    if text in ("true", "false") or text[0] in "[{" or _NUMBER.fullmatch(text):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _read_parquet(path: Path, topics: Topics, topic: str | None) -> Iterator[Located]:
    import pyarrow as pa
    from pyarrow import parquet

    size = path.stat().st_size
    try:
        with parquet.ParquetFile(path) as file:
            total, done = max(1, file.metadata.num_rows), 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in _microseconds(batch).to_pylist(maps_as_pydicts="lossy"):
                    done += 1
                    where, read = f"{path}, row {done}", size * done // total
                    yield Located(_from_object(_from_row(row), None, topics, topic, where), read, where)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(str(path), f"cannot be read as Parquet ({error}); correct it") from None


def _microseconds(batch: Any) -> Any:
    """The batch with times in microseconds: Python's times hold no nanoseconds."""
    import pyarrow as pa

    for index, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            cut = batch.column(index).cast(pa.timestamp("us", column.type.tz), safe=False)
            batch = batch.set_column(index, column.name, cut)
    return batch


def _from_row(row: dict[str, Any]) -> dict[str, Any]:
    """The event or envelope of a row; an envelope's bytes stay as they are, and so does a null value."""
    if not _is_envelope(row):
        return cast(dict[str, Any], _without_empty(row))
    value = row.get("value")
    return row if isinstance(value, bytes) else {**row, "value": _without_empty(value)}


def _without_empty(value: Any) -> Any:
    """A JSON value of a Parquet value; fields that are null or NaN are left out, as JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_empty(v) for name, v in value.items() if v is not None and v == v}
    if isinstance(value, (list, tuple)):
        return [_without_empty(item) for item in value]
    if isinstance(value, datetime):
        utc = value.astimezone(timezone.utc) if value.tzinfo else value
        return utc.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _unreadable(where: str, what: str) -> ReelhouseError:
    return ReelhouseError(f"{where}: the event {what}", code="event_unreadable")
