"""Avro by the official library: reads one datum strictly, writes one, and tells schemas apart.

The stream reads Avro in Spark's own expressions (`pipelines.contracts.binary`); this is for what those doubt.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from avro.errors import AvroException
from avro.io import BinaryDecoder, BinaryEncoder, DatumReader, DatumWriter
from avro.schema import Schema, parse

from pipelines.contracts.load import Contract, Fields, is_date_time, kind_of, text_of, unreadable
from pipelines.contracts.times import format_time, parse_time


def schema_text(contract: Contract) -> str:
    """The text of the version's `schema.avsc`."""
    return text_of(contract, "schema.avsc")


@cache
def schema(contract: Contract) -> Schema:
    """The version's schema. Raises ReelhouseError (`contract_unreadable`)."""
    try:
        return parse(schema_text(contract))
    except (ValueError, AvroException) as error:
        raise unreadable(contract.folder / "schema.avsc", error) from error


def is_same(text: str, contract: Contract) -> bool:
    """Whether a schema is the contract's, by Avro's canonical form and the logical types that it leaves out.

    Documentation, defaults and properties of other tools aside, and the order of keys.
    """
    own = schema(contract)
    try:
        found = parse(text)
        is_same_form = _bare(found.to_canonical_json()) == _bare(own.to_canonical_json())
        return is_same_form and _logical_types(found.to_json()) == _logical_types(own.to_json())
    except Exception:  # whatever the library stumbles over in a stranger's text, it is not the contract's
        return False


def _bare(told: Any) -> Any:
    """The canonical form, where `{"type": "string"}` is `"string"`: Java adds properties to such types."""
    if isinstance(told, list):
        return [_bare(one) for one in told]
    if not isinstance(told, dict):
        return told
    return _bare(told["type"]) if told.keys() == {"type"} else {key: _bare(one) for key, one in told.items()}


def _logical_types(told: Any) -> Any:
    """The logical types of a schema as nested as its types are; milliseconds are no microseconds."""
    if isinstance(told, list):
        return [_logical_types(one) for one in told]
    if not isinstance(told, dict):
        return None
    inner = [_logical_types(told[key]) for key in ("type", "fields", "items", "values") if key in told]
    return told.get("logicalType", inner if any(inner) else None)


def read(payload: bytes, contract: Contract) -> dict[str, Any]:
    """The event as JSON would tell it. Raises ValueError with a sentence: the bytes are no such datum."""
    source = io.BytesIO(payload)
    try:
        event = _StrictReader(schema(contract)).read(BinaryDecoder(source))
    except (AvroException, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(f"no Avro of {contract.event_type} version {contract.version}: {error}") from error
    if source.tell() != len(payload):
        raise ValueError(f"{len(payload) - source.tell()} bytes follow the Avro datum")
    return {name: _told(value) for name, value in event.items() if value is not None}


def _told(value: Any) -> Any:
    """A value as JSON would tell it: times as text, what is not there left out."""
    if isinstance(value, dict):
        return {name: _told(inner) for name, inner in value.items() if inner is not None}
    return format_time(value) if isinstance(value, datetime) else value


def write(event: Mapping[str, Any], contract: Contract) -> bytes:
    """The datum of an event. Raises ValueError: the event does not fulfil the contract."""
    out = io.BytesIO()
    try:
        DatumWriter(schema(contract)).write(_datum(contract.fields, event), BinaryEncoder(out))
    except (AvroException, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return out.getvalue()


def _datum(fields: Fields, event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _written(field, event.get(name)) for name, field in fields.items()}


def _written(field: dict[str, Any], value: Any) -> Any:
    if kind_of(field) == "object" and isinstance(value, dict):
        return _datum(field["properties"], value)
    return parse_time(str(value)) if is_date_time(field) and value is not None else value


class _StrictReader(DatumReader):
    """Refuses negative positions of symbols and branches, which Python would count from the end."""

    def read_enum(self, writers_schema: Any, readers_schema: Any, decoder: BinaryDecoder) -> str:
        return str(writers_schema.symbols[_position(decoder.read_int())])

    def read_union(self, writers_schema: Any, readers_schema: Any, decoder: BinaryDecoder) -> Any:
        branch = writers_schema.schemas[_position(decoder.read_long())]
        return self.read_data(branch, branch, decoder)


def _position(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is no position")
    return number
