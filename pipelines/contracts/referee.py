"""The referee: decides one record by its contract, with every reason; in Python, for the few in doubt.

The stream accepts most records by Spark's own expressions (`pipelines.contracts.decode`). What those do not
accept without doubt comes here: the official JSON Schema library has the last word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from pipelines.contracts.load import Contract, contracts, kind_of
from pipelines.contracts.reading import Reason, Told, cut, read
from pipelines.contracts.schema_ids import Meanings
from pipelines.contracts.times import format_time, parse_time

LARGEST_NUMBER = 999_999_999_999
"""What a number in an event may be at most, and its negative at least."""


@dataclass(frozen=True)
class Limits:
    """What a record must keep within, beside its contract."""

    max_bytes: int
    """Largest value (bytes)."""
    earliest: datetime
    """Earliest time of an event."""
    future: timedelta
    """How far an event may be ahead of its record."""


@dataclass(frozen=True)
class Verdict:
    """Either `text`, the event as canonical JSON that the stream decodes without doubt, or `reasons`."""

    text: str | None
    version: int | None
    reasons: tuple[Reason, ...] = ()


def judge(
    event_type: str | None, value: bytes | None, told: Told, limits: Limits, meanings: Meanings
) -> Verdict:
    """The verdict on one record; never raises. `meanings` says what the ids of schemas mean."""
    if event_type is None:
        return _refused(None, "unknown_topic", "", "no event type belongs to this topic")
    if value is None:
        return _refused(None, "null_value", "", "the record has no value")
    if len(value) > limits.max_bytes:
        message = f"{len(value)} bytes are more than the {limits.max_bytes} allowed"
        return _refused(None, "too_large", "", message)
    event = read(event_type, value, told, meanings)
    if isinstance(event, Reason):
        return Verdict(None, None, (event,))
    contract = contracts(event_type).get(event.version) if event.version is not None else None
    if contract is None:
        known = ", ".join(map(str, contracts(event_type)))
        message = f"{event.word!r} is not one of {known}"
        return _refused(event.version, "unknown_version", "schemaVersion", message)
    reasons = tuple(_faults(contract, event.fields, told.recorded, limits))
    if reasons:
        return Verdict(None, contract.version, reasons)
    return Verdict(_canonical(contract, event.fields), contract.version)


def _refused(version: int | None, code: str, field: str, message: str) -> Verdict:
    return Verdict(None, version, (Reason(code, field, cut(message)),))


def _faults(
    contract: Contract, event: dict[str, Any], recorded: datetime, limits: Limits
) -> Iterator[Reason]:
    wrong_time = False
    for error in _validator(contract.event_type, contract.version).iter_errors(event):
        reason = _reason(error)
        wrong_time = wrong_time or reason.field == "timestamp"
        yield reason
    for name, field in contract.fields.items():
        number = event.get(name)
        is_number = isinstance(number, int | float | Decimal) and not isinstance(number, bool)
        if kind_of(field) == "number" and is_number and not _fits(number):
            yield Reason("out_of_range", name, f"{cut(str(number))} is too large a number")
    for name in _without_unicode({n: v for n, v in event.items() if n in contract.fields}):
        yield Reason("invalid_unicode", name, "half of a surrogate pair is no character")
    if not wrong_time and isinstance(event.get("timestamp"), str):
        yield from _time_faults(event["timestamp"], recorded, limits)


def _without_unicode(value: Any, path: str = "") -> Iterator[str]:
    """Where a text cannot be written as UTF-8: JSON's escapes can tell halves of surrogate pairs."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _without_unicode(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _without_unicode(inner, f"{path}.{number}")
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield path


def _fits(number: Any) -> bool:
    value = Decimal(str(number))
    # Without arithmetic, which a number with a great exponent overflows.
    return value.is_finite() and -LARGEST_NUMBER <= value <= LARGEST_NUMBER


@cache
def _validator(event_type: str, version: int) -> Draft7Validator:
    return validator_of(contracts(event_type)[version].schema)


def validator_of(schema: dict[str, Any]) -> Draft7Validator:
    """The official library's validator, which checks formats too; for records read with `Decimal` numbers."""
    # 1.1 is not less than a minimum of 1.1, which as a float would be a little more.
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    return Draft7Validator(exact, format_checker=Draft7Validator.FORMAT_CHECKER)


def _reason(error: ValidationError) -> Reason:
    """The library's error with the field at fault: for a missing field, the field that is missing."""
    path = ".".join(str(part) for part in error.absolute_path)
    rule = str(error.validator)
    if rule == "required":
        missing = next((f for f in error.validator_value if f not in error.instance), "")
        named = re.match(r"'([^']+)' is a required property", error.message)
        field = named.group(1) if named else missing
        return Reason("missing_field", f"{path}.{field}" if path else field, cut(error.message))
    codes = {
        "type": "wrong_type",
        "enum": "unknown_value",
        "const": "unknown_value",
        "minimum": "out_of_range",
        "maximum": "out_of_range",
        "format": "bad_timestamp" if error.validator_value == "date-time" else "bad_format",
    }
    return Reason(codes.get(rule, rule), path, cut(error.message))


def _time_faults(text: str, recorded: datetime, limits: Limits) -> Iterator[Reason]:
    moment = parse_time(text)
    if moment is None:
        yield Reason("bad_timestamp", "timestamp", f"{cut(text)!r} is not a time by RFC 3339")
    elif moment < limits.earliest:
        yield Reason("ancient_timestamp", "timestamp", f"{text} is before {limits.earliest.isoformat()}")
    elif moment - recorded > limits.future:
        hours = limits.future.total_seconds() / 3600
        message = f"{text} is more than {hours:g} h ahead of the record's time {recorded.isoformat()}"
        yield Reason("future_timestamp", "timestamp", message)


def _canonical(contract: Contract, event: dict[str, Any]) -> str:
    """The declared fields alone, the time in UTC, nulls left out: text that decodes without doubt."""
    kept = {name: event[name] for name in contract.fields if event.get(name) is not None}
    moment = parse_time(str(event["timestamp"]))
    if moment is not None:
        kept["timestamp"] = format_time(moment)
    for name, field in contract.fields.items():
        if kind_of(field) == "object" and name in kept:
            inner = field.get("properties", {})
            kept[name] = {n: v for n, v in kept[name].items() if n in inner and v is not None}
    return json.dumps(kept, ensure_ascii=False, default=_number)


def _number(value: Decimal) -> float | int:
    # Half up to six decimals, as the stream rounds: a float of such a number is read back exactly.
    rounded = value.quantize(Decimal("0.000001"), "ROUND_HALF_UP")
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)
