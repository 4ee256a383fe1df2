"""Broken records of every kind that the streams must stand: each is made from the fields of a valid event.

A broken record comes in addition to the valid ones, so nothing valid is lost by it. Every kind breaks the
contract of its event (or is no JSON at all): no reader may take it for an event.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from pipelines.simulate.clients import ClientStyle, format_time, new_id
from pipelines.simulate.records import (
    CONTENT_UPLOAD,
    SYSTEM_EVENT,
    USER_ACTION,
    Delivery,
    Event,
    from_milliseconds,
)

Fields = dict[str, Any]

HUGE_CHARACTERS = 1_000_000
"""Length of the huge string: with its envelope still below Kafka's default limit of 1 MiB."""
NESTING = 5_000
_RARE_SHARE = 0.02
_REQUIRED = {
    USER_ACTION: ("userId", "action", "timestamp", "mediaId"),
    CONTENT_UPLOAD: ("mediaId", "creatorId", "title", "status", "timestamp"),
    SYSTEM_EVENT: ("serverId", "kind", "timestamp"),
}
_CHOICE = {USER_ACTION: "action", CONTENT_UPLOAD: "status", SYSTEM_EVENT: "kind"}
_NUMBER = {USER_ACTION: "positionSeconds", CONTENT_UPLOAD: "durationSeconds", SYSTEM_EVENT: "cpuPercent"}
_BAD_TIMES = ("yesterday", "2026-13-45T99:00:00Z", "2026-01-05", "2026-01-05T10:00:00", "1767607200", "")
_TIME_STYLE = ClientStyle(2, "field", True, False, 0, 3)


class Breaking:
    """What a fault has to work with: the fields of a valid event, to be changed at will."""

    def __init__(self, rng: random.Random, event: Event, timestamp_ms: int) -> None:
        self.rng = rng
        self.event_type = event.event_type
        self.timestamp_ms = timestamp_ms
        # Its own identity: a broken record is no copy of the event that lends its fields.
        self.fields: Fields = {**event.fields, "eventId": new_id(rng)}
        self.fields.pop("schemaVersion", None)
        if event.event_type == USER_ACTION:
            self.fields["schemaVersion"] = 2
        self.number = _NUMBER[event.event_type]
        self.subject = _REQUIRED[event.event_type][0]

    def json(self, **changes: Any) -> bytes:
        """The fields with `changes`, as JSON."""
        return json.dumps({**self.fields, **changes}, ensure_ascii=False).encode()

    def with_raw_number(self, text: str) -> bytes:
        """The event with its number written as `text`, whether or not JSON knows such a number."""
        return self.json(**{self.number: "@"}).replace(b'"@"', text.encode())

    def some_required(self) -> str:
        """The name of a required field."""
        return self.rng.choice(_REQUIRED[self.event_type])


def _invalid_utf8(b: Breaking) -> bytes:
    return b.json(**{b.subject: "@"}).replace(b"@", b.rng.choice((b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80")))


def _truncated_json(b: Breaking) -> bytes:
    # Escaped to ASCII, so that the cut never splits a character: that is another fault.
    text = json.dumps(b.fields)
    return text[: b.rng.randrange(1, len(text) - 1)].encode()


def _missing_field(b: Breaking) -> bytes:
    missing = b.some_required()
    return json.dumps({n: v for n, v in b.fields.items() if n != missing}).encode()


def _wrong_type(b: Breaking) -> bytes:
    wrong = {"mediaId": 42, "serverId": ["a"], b.number: "12", "timestamp": 1767607200}
    name = b.rng.choice([n for n in wrong if n == b.number or n in _REQUIRED[b.event_type]])
    return b.json(**{name: wrong[name]})


def _status_missing(b: Breaking) -> bytes:
    fields = {"eventId": b.fields["eventId"], "serverId": "eu-west-1", "kind": "status"}
    return json.dumps({**fields, "timestamp": b.fields["timestamp"]}).encode()


def _future_timestamp(b: Breaking) -> bytes:
    recorded = from_milliseconds(b.timestamp_ms)
    ahead = b.rng.choice((timedelta(hours=24, seconds=1), timedelta(days=3), timedelta(days=36_500)))
    return b.json(timestamp=format_time(recorded + ahead, _TIME_STYLE))


def _deep_nesting(b: Breaking) -> bytes:
    return b.json(**{b.subject: "@"}).replace(b'"@"', b"[" * NESTING + b"]" * NESTING)


def _huge_string(b: Breaking) -> bytes:
    return b.json(**{b.subject: "x" * HUGE_CHARACTERS})


FAULTS: Mapping[str, Callable[[Breaking], bytes | None]] = {
    "invalid_utf8": _invalid_utf8,
    "truncated_json": _truncated_json,
    "trailing_text": lambda b: b.json() + b.json(),
    "empty_value": lambda b: b"",
    "null_value": lambda b: None,
    "array_value": lambda b: b"[" + b.json() + b"]",
    "scalar_value": lambda b: b.rng.choice((b"42", b'"play"', b"true", b"null")),
    "missing_field": _missing_field,
    "null_field": lambda b: b.json(**{b.some_required(): None}),
    "wrong_type": _wrong_type,
    "unknown_choice": lambda b: b.json(**{_CHOICE[b.event_type]: b.rng.choice(("rewind", "PLAY", ""))}),
    "status_missing": _status_missing,
    "bad_timestamp": lambda b: b.json(timestamp=b.rng.choice(_BAD_TIMES)),
    "future_timestamp": _future_timestamp,
    "ancient_timestamp": lambda b: b.json(timestamp="0001-01-01T00:00:00Z"),
    "unknown_version": lambda b: b.json(schemaVersion=99),
    "negative_number": lambda b: b.with_raw_number("-1.5"),
    "not_a_number": lambda b: b.with_raw_number("NaN"),
    "number_overflow": lambda b: b.with_raw_number("1e999"),
    "deep_nesting": _deep_nesting,
    "huge_string": _huge_string,
}
"""The kinds of fault: how the value of a broken record is made."""
_RARE = frozenset({"huge_string"})
_ONLY_FOR = {"status_missing": SYSTEM_EVENT}


class FaultMaker:
    """Makes broken records: first one of every kind, so that short simulations have them too, then any."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._owed = list(FAULTS)
        self._weights = [_RARE_SHARE if kind in _RARE else 1.0 for kind in FAULTS]

    def break_event(self, event: Event, timestamp_ms: int) -> Delivery:
        """A broken record at the time `timestamp_ms`, with the topic and key of `event`."""
        kind = self._choose(event.event_type)
        value = FAULTS[kind](Breaking(self._rng, event, timestamp_ms))
        return Delivery(timestamp_ms, event.event_type, event.key, value, {}, None, kind)

    def _choose(self, event_type: str) -> str:
        for index, kind in enumerate(self._owed):
            if _ONLY_FOR.get(kind, event_type) == event_type:
                return self._owed.pop(index)
        while True:
            kind = self._rng.choices(list(FAULTS), weights=self._weights)[0]
            if _ONLY_FOR.get(kind, event_type) == event_type:
                return kind
