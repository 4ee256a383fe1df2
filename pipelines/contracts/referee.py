"""The referee: decides one record by its contract, with every reason; in Python, for the few in doubt.

The stream accepts most records by Spark's own expressions (`pipelines.contracts.decode`). What those do not
accept without doubt comes here: the official JSON Schema library has the last word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any

from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from pipelines.contracts.load import Contract, Fields, contracts, kind_of
from pipelines.contracts.reading import Reason, Told, cut, read
from pipelines.contracts.schema_ids import Meanings
from pipelines.contracts.times import LATEST_RECORD, format_time, parse_time
from pipelines.errors import ReelhouseError

DRAFTS: dict[str, type[Validator]] = {
    "json-schema.org/draft-07/schema": Draft7Validator,
    "json-schema.org/draft/2019-09/schema": Draft201909Validator,
    "json-schema.org/draft/2020-12/schema": Draft202012Validator,
}
"""The drafts of JSON Schema that a contract may be of, by `$schema` without `http(s)://` and `#`."""
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
    """The verdict on one record. `meanings` says what the ids of schemas mean.

    Never raises for what a record holds, as that would stop the stream for ever; ReelhouseError
    (`contract_unreadable`) for what is not the record's fault.
    """
    if event_type is None:
        return _refused(None, "unknown_topic", "", "no event type belongs to this topic")
    if value is None:
        return _refused(None, "null_value", "", "the record has no value")
    if len(value) > limits.max_bytes:
        message = f"{len(value)} bytes are more than the {limits.max_bytes} allowed"
        return _refused(None, "too_large", "", message)
    try:
        return _verdict(event_type, value, told, limits, meanings)
    except ReelhouseError:
        raise
    except RecursionError:
        return _refused(None, "too_deep", "", "the event is nested too deeply")
    except Exception as error:
        # A keyword of a contract may stumble over a value that nobody thought of. The record is held with
        # its bytes, to be replayed when that is mended; tests of decoders see to it that none is known.
        return _refused(None, "undecodable", "", f"please report it: {type(error).__name__}: {error}")


def _verdict(event_type: str, value: bytes, told: Told, limits: Limits, meanings: Meanings) -> Verdict:
    event = read(event_type, value, told, meanings)
    if isinstance(event, Reason):
        return Verdict(None, None, (event,))
    contract = contracts(event_type).get(event.version) if event.version is not None else None
    if contract is None:
        known = ", ".join(map(str, contracts(event_type)))
        message = f"{event.word!r} is not one of {known}"
        return _refused(event.version, "unknown_version", "schemaVersion", message)
    if told.recorded >= LATEST_RECORD.replace(tzinfo=timezone.utc):
        message = f"the record's own time is no sooner than {LATEST_RECORD.isoformat()}"
        return _refused(contract.version, "future_timestamp", "", message)
    reasons = tuple(_faults(contract, event.fields, told.recorded, limits))
    if reasons:
        return Verdict(None, contract.version, reasons)
    text = json.dumps(_canonical(contract.fields, event.fields), ensure_ascii=False, default=_number)
    return Verdict(text, contract.version)


def _refused(version: int | None, code: str, field: str, message: str) -> Verdict:
    return Verdict(None, version, (Reason(code, field, cut(message)),))


def _faults(
    contract: Contract, event: dict[str, Any], recorded: datetime, limits: Limits
) -> Iterator[Reason]:
    faulty: set[str] = set()
    for error in _validator(contract.event_type, contract.version).iter_errors(event):
        reason = _reason(error)
        faulty.add(reason.field)
        yield reason
    for path, kind, value in _values(contract.fields, event):
        is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if kind == "number" and is_number and not _fits(value):
            yield Reason("out_of_range", path, f"{cut(str(value))} is too large a number")
        if kind == "date-time" and isinstance(value, str) and path not in faulty:
            yield from _time_faults(path, value, recorded, limits)
        for place in _without_unicode(value, path):
            yield Reason("invalid_unicode", place, "half of a surrogate pair is no character")


def _values(fields: Fields, event: dict[str, Any], above: str = "") -> Iterator[tuple[str, str, Any]]:
    """Path, kind and value of every declared field, those inside objects among them."""
    for name, field in fields.items():
        kind, value = kind_of(field), event.get(name)
        if kind == "object" and isinstance(value, dict):
            yield from _values(field.get("properties", {}), value, f"{above}{name}.")
        else:
            yield f"{above}{name}", kind, value


def _without_unicode(value: Any, path: str) -> Iterator[str]:
    """Where a text cannot be written as UTF-8: JSON's escapes can tell halves of surrogate pairs."""
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _without_unicode(inner, f"{path}.{number}")
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        yield path


def _fits(number: Any) -> bool:
    value = Decimal(str(number))
    # Without arithmetic, which a number with a great exponent overflows.
    return value.is_finite() and -LARGEST_NUMBER <= value <= LARGEST_NUMBER


@cache
def _validator(event_type: str, version: int) -> Validator:
    return validator_of(contracts(event_type)[version].schema)


def draft_of(schema: Mapping[str, Any]) -> type[Validator] | None:
    """The draft of JSON Schema that a schema names by `$schema`, else draft-07; None: it names another."""
    # The library's own `validator_for` knows older drafts too, to which `if` and `const` say nothing.
    named = schema.get("$schema")
    return Draft7Validator if named is None else DRAFTS.get(re.sub(r"^https?://|#$", "", str(named)))


def validator_of(schema: dict[str, Any]) -> Validator:
    """The official library's validator, which checks formats too; for records read with `Decimal` numbers."""
    # 1.1 is not less than a minimum of 1.1, which as a float would be a little more.
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    # Of no draft that we know: `schemas check` tells it, and the stream goes on by the rules of the first.
    draft = draft_of(schema) or Draft7Validator
    return draft(exact, format_checker=draft.FORMAT_CHECKER)


def _reason(error: ValidationError) -> Reason:
    """The library's error with the field at fault: for a missing field, the field that is missing."""
    path = cut(".".join(str(part) for part in error.absolute_path))  # names of the event's may be among them
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


def _time_faults(path: str, text: str, recorded: datetime, limits: Limits) -> Iterator[Reason]:
    moment = parse_time(text)
    if moment is None:
        yield Reason("bad_timestamp", path, f"{cut(text)!r} is not a time by RFC 3339")
    elif path == "timestamp":
        yield from _distance_faults(text, moment, recorded, limits)


def _distance_faults(text: str, moment: datetime, recorded: datetime, limits: Limits) -> Iterator[Reason]:
    """Of the event's own time; another of its times may be any."""
    if moment < limits.earliest:
        yield Reason("ancient_timestamp", "timestamp", f"{cut(text)} is before {limits.earliest.isoformat()}")
    elif moment - recorded > limits.future:
        hours = limits.future.total_seconds() / 3600
        message = f"{cut(text)} is more than {hours:g} h ahead of the record's time {recorded.isoformat()}"
        yield Reason("future_timestamp", "timestamp", message)


def _canonical(fields: Fields, event: dict[str, Any]) -> dict[str, Any]:
    """The declared fields alone, times in UTC, nulls left out: as text, it decodes without doubt."""
    return {n: _plain(field, event[n]) for n, field in fields.items() if event.get(n) is not None}


def _plain(field: dict[str, Any], value: Any) -> Any:
    kind = kind_of(field)
    if kind == "object":
        return _canonical(field.get("properties", {}), value)
    moment = parse_time(value) if kind == "date-time" else None
    return value if moment is None else format_time(moment)


def _number(value: Decimal) -> float | int:
    # Half up to six decimals, as the stream rounds: a float of such a number is read back exactly.
    rounded = value.quantize(Decimal("0.000001"), "ROUND_HALF_UP")
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)
