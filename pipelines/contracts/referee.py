"""The referee: decides one record by its contract, with every reason; in Python, for the few in doubt.

The stream accepts most records by Spark's own expressions (`pipelines.contracts.decode`). What those do not
accept without doubt comes here: the official JSON Schema library has the last word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NamedTuple

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from pipelines.contracts.load import Contract, contracts, kind_of
from pipelines.text import shortened

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_LARGEST_NUMBER = Decimal("999999999999")
_MESSAGE_CHARACTERS = 300


class Reason(NamedTuple):
    """Why a record is held: a stable code, the field (empty: the whole record), a sentence."""

    code: str
    field: str
    message: str


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
    event_type: str | None,
    value: bytes | None,
    header_version: str | None,
    recorded: datetime,
    limits: Limits,
) -> Verdict:
    """The verdict on one record; never raises. `recorded` is the record's time at the broker (UTC)."""
    if event_type is None:
        return _refused(None, "unknown_topic", "", "no event type belongs to this topic")
    parsed = _parse(value, limits)
    if isinstance(parsed, Reason):
        return Verdict(None, None, (parsed,))
    version = _version(parsed, header_version)
    contract = contracts(event_type).get(version) if version is not None else None
    if contract is None:
        told = parsed.get("schemaVersion") if header_version is None else header_version
        known = ", ".join(map(str, contracts(event_type)))
        return _refused(version, "unknown_version", "schemaVersion", f"{told!r} is not one of {known}")
    reasons = tuple(_faults(contract, parsed, recorded, limits))
    if reasons:
        return Verdict(None, version, reasons)
    return Verdict(_canonical(contract, parsed), version)


def _refused(version: int | None, code: str, field: str, message: str) -> Verdict:
    return Verdict(None, version, (Reason(code, field, _cut(message)),))


def _cut(text: str) -> str:
    return shortened(text, _MESSAGE_CHARACTERS)


def _parse(value: bytes | None, limits: Limits) -> dict[str, Any] | Reason:
    if value is None:
        return Reason("null_value", "", "the record has no value")
    if len(value) > limits.max_bytes:
        return Reason("too_large", "", f"{len(value)} bytes are more than the {limits.max_bytes} allowed")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Reason("invalid_utf8", "", f"byte {error.start} is not UTF-8")
    try:
        event = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        return Reason("too_deep", "", "the JSON is nested too deeply")
    except (ValueError, InvalidOperation) as error:
        return Reason("invalid_json", "", _cut(str(error)))
    if not isinstance(event, dict):
        return Reason("not_an_object", "", "the JSON is not an object")
    return event


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _version(event: dict[str, Any], header: str | None) -> int | None:
    told = header if header is not None else event.get("schemaVersion")
    if told is None:
        return 1
    if isinstance(told, str) and header is not None:
        return int(told) if re.fullmatch(r"[0-9]{1,6}", told, re.ASCII) else None
    return told if isinstance(told, int) and not isinstance(told, bool) else None


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
        is_number = kind_of(field) == "number" and isinstance(number, int | Decimal)
        if is_number and abs(Decimal(str(number))) > _LARGEST_NUMBER:
            yield Reason("out_of_range", name, f"{_cut(str(number))} is too large a number")
    if not wrong_time and isinstance(event.get("timestamp"), str):
        yield from _time_faults(event["timestamp"], recorded, limits)


@cache
def _validator(event_type: str, version: int) -> Draft7Validator:
    schema = contracts(event_type)[version].schema
    return Draft7Validator(schema, format_checker=Draft7Validator.FORMAT_CHECKER)


def _reason(error: ValidationError) -> Reason:
    """The library's error with the field at fault: for a missing field, the field that is missing."""
    path = ".".join(str(part) for part in error.absolute_path)
    rule = str(error.validator)
    if rule == "required":
        missing = next((f for f in error.validator_value if f not in error.instance), "")
        named = re.match(r"'([^']+)' is a required property", error.message)
        field = named.group(1) if named else missing
        return Reason("missing_field", f"{path}.{field}" if path else field, _cut(error.message))
    codes = {
        "type": "wrong_type",
        "enum": "unknown_value",
        "const": "unknown_value",
        "minimum": "out_of_range",
        "maximum": "out_of_range",
        "format": "bad_timestamp" if error.validator_value == "date-time" else "bad_format",
    }
    return Reason(codes.get(rule, rule), path, _cut(error.message))


def _time_faults(text: str, recorded: datetime, limits: Limits) -> Iterator[Reason]:
    moment = parse_time(text)
    if moment is None:
        yield Reason("bad_timestamp", "timestamp", f"{_cut(text)!r} is not a time by RFC 3339")
    elif moment < limits.earliest:
        yield Reason("ancient_timestamp", "timestamp", f"{text} is before {limits.earliest.isoformat()}")
    elif moment - recorded > limits.future:
        hours = limits.future.total_seconds() / 3600
        message = f"{text} is more than {hours:g} h ahead of the record's time {recorded.isoformat()}"
        yield Reason("future_timestamp", "timestamp", message)


def parse_time(text: str) -> datetime | None:
    """The UTC time of RFC 3339 text, cut to the microsecond; None: it is none. Second 60 is refused."""
    found = _RFC3339.fullmatch(text)
    if not found:
        return None
    day, clock, fraction, _, sign, hours, minutes = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=timezone.utc)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if offset > timedelta(hours=18):  # as Java has it, which Spark reads times with
            return None
        moment -= -offset if sign == "-" else offset
    except (ValueError, OverflowError):
        return None
    return moment + timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))


def _canonical(contract: Contract, event: dict[str, Any]) -> str:
    """The declared fields alone, the time in UTC, nulls left out: text that decodes without doubt."""
    kept = {name: event[name] for name in contract.fields if event.get(name) is not None}
    moment = parse_time(str(event["timestamp"]))
    if moment is not None:
        kept["timestamp"] = moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    for name, field in contract.fields.items():
        if kind_of(field) == "object" and name in kept:
            inner = field.get("properties", {})
            kept[name] = {n: v for n, v in kept[name].items() if n in inner and v is not None}
    return json.dumps(kept, ensure_ascii=False, default=_number)


def _number(value: Decimal) -> float | int:
    # Half up to six decimals, as the stream rounds: a float of such a number is read back exactly.
    rounded = value.quantize(Decimal("0.000001"), "ROUND_HALF_UP")
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)
