"""Reads one record in Python, in whatever encoding, as the event that JSON would tell."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from pipelines.contracts import avro, protobuf
from pipelines.contracts.load import Contract, contracts
from pipelines.contracts.schema_ids import PREFIX_BYTES, Meanings, SchemaIds, UnknownId, schema_id
from pipelines.text import shortened

_MESSAGE_CHARACTERS = 300
_VERSIONS_END = 1_000_000  # of either sign: six digits, as the header may have


class Reason(NamedTuple):
    """Why a record is held: a stable code, the field (empty: the whole record), a sentence."""

    code: str
    field: str
    message: str


@dataclass(frozen=True)
class Told:
    """What stands beside a record's value."""

    recorded: datetime
    """The record's time at the broker (UTC)."""
    encoding: str = "json"
    """`json`, `avro`, `protobuf`, or `framed`: Confluent's wire format."""
    version: str | None = None
    """The header `schema-version`."""


class Event(NamedTuple):
    """An event as JSON tells it, and the version to read it by; None: its word is no version."""

    fields: dict[str, Any]
    version: int | None
    word: Any
    """What was told as the version."""


def cut(text: str) -> str:
    """A sentence of bounded length that can be written as UTF-8."""
    return shortened(text, _MESSAGE_CHARACTERS).encode(errors="backslashreplace").decode()


def read(event_type: str, value: bytes, told: Told, meanings: Meanings) -> Event | Reason:
    """The event, or why it cannot be read; one whose version has no contract may be without its fields."""
    if told.encoding == "framed":
        return _framed(event_type, value, meanings)
    if told.encoding == "json":
        fields = _json(value)
        return fields if isinstance(fields, Reason) else _versioned(fields, told.version)
    event = _versioned({}, told.version)
    contract = contracts(event_type).get(event.version) if event.version is not None else None
    if contract is None:
        return event
    fields = _binary(told.encoding, value, contract)
    return fields if isinstance(fields, Reason) else event._replace(fields=fields)


def _framed(event_type: str, value: bytes, meanings: Meanings) -> Event | Reason:
    number, payload = schema_id(value), value[PREFIX_BYTES:]
    found = meanings.get(number, UnknownId("unknown_schema_id", f"schema {number} was not asked for"))
    if isinstance(found, UnknownId):
        return Reason(found.code, "", cut(found.message))
    place: tuple[int, ...] = ()
    if found.encoding == "protobuf":
        try:
            place, payload = protobuf.without_indexes(payload)
        except ValueError as error:
            return Reason("invalid_protobuf", "", cut(str(error)))
    version = found.version(event_type, place)
    if version is None:
        return Event({}, None, f"schema {number} of the registry ({found.encoding})")
    contract = contracts(event_type)[version]
    fields = _json(payload) if found.encoding == "json" else _binary(found.encoding, payload, contract)
    return fields if isinstance(fields, Reason) else Event(fields, version, version)


def _binary(encoding: str, payload: bytes, contract: Contract) -> dict[str, Any] | Reason:
    try:
        return {"avro": avro.read, "protobuf": protobuf.read}[encoding](payload, contract)
    except ValueError as error:
        return Reason(f"invalid_{encoding}", "", cut(str(error)))


def _json(value: bytes) -> dict[str, Any] | Reason:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Reason("invalid_utf8", "", f"byte {error.start} is not UTF-8")
    try:
        event = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        return Reason("too_deep", "", "the JSON is nested too deeply")
    except (ValueError, InvalidOperation) as error:
        return Reason("invalid_json", "", cut(str(error)))
    if not isinstance(event, dict):
        return Reason("not_an_object", "", "the JSON is not an object")
    return event


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _versioned(fields: dict[str, Any], header: str | None) -> Event:
    word = header if header is not None else fields.get("schemaVersion")
    return Event(fields, told_version(fields, header), word)


def told_version(fields: Mapping[str, Any], header: str | None) -> int | None:
    """The version of an event: the header's word, else the field's, else 1; None: the word is no version."""
    if header is not None:
        return int(header) if re.fullmatch(r"[0-9]{1,6}", header, re.ASCII) else None
    word = fields.get("schemaVersion")
    if word is None:
        return 1
    if isinstance(word, bool) or not isinstance(word, int | float | Decimal):
        return None
    # Compared without arithmetic, which a number with a great exponent overflows. 2.0 is an integer, as JSON
    # Schema has it.
    return int(word) if -_VERSIONS_END < word < _VERSIONS_END and word % 1 == 0 else None


def as_told(event_type: str | None, value: bytes | None, told: Told, ids: SchemaIds) -> Any:
    """What a record says, valid or not, for people; None: it cannot be read."""
    if value is None or event_type is None:
        return None
    meanings = ids.meanings([schema_id(value)]) if told.encoding == "framed" else {}
    event = read(event_type, value, told, meanings)
    if isinstance(event, Reason):
        return _any_json(value)
    return event.fields or None


def _any_json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
