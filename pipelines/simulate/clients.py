"""How producers write events: contract version, identity, time format, JSON style."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from pipelines.simulate.records import SYSTEM_EVENT, USER_ACTION, Event

# The version is told by a field, by a header, or (version 1 only) not at all.
_BY_FIELD, _BY_HEADER, _UNTOLD = "field", "header", "untold"
_OFFSET_MINUTES = (0, 0, 0, 120, -300, 330)
# A fraction of 9 digits ends in 000: the contract is exact to the microsecond.
_DIGITS = (0, 3, 3, 3, 6, 6, 9)
_SHARE_CLOUD_EVENTS = 0.04


@dataclass(frozen=True)
class ClientStyle:
    """One producer's habits: the same in all of its events."""

    version: int
    tells_version: str
    names_events: bool
    """Whether it sends `eventId`."""
    cloud_events: bool
    """Whether it sends the headers of CloudEvents' Kafka binding."""
    offset_minutes: int
    """UTC offset of its timestamps (minutes); 0 is written `Z`."""
    digits: int
    """Digits of the seconds' fraction."""

    @classmethod
    def draw(cls, rng: random.Random, version: int, names_events: float) -> ClientStyle:
        """Habits for a contract `version`; `names_events` is the chance of sending `eventId`."""
        told = rng.choices((_BY_FIELD, _BY_HEADER), weights=(6, 4))[0]
        if version == 1 and rng.random() < 0.9:
            told = _UNTOLD
        return cls(
            version=version,
            tells_version=told,
            names_events=rng.random() < names_events,
            cloud_events=rng.random() < _SHARE_CLOUD_EVENTS,
            offset_minutes=rng.choice(_OFFSET_MINUTES),
            digits=rng.choice(_DIGITS),
        )


def make_event(
    rng: random.Random,
    style: ClientStyle,
    event_type: str,
    key: str,
    fields: Mapping[str, Any],
    happened_at: datetime,
    clock_error: timedelta = timedelta(0),
) -> Event:
    """The event as a producer of this style writes it; `clock_error` is how far its clock is ahead."""
    text = format_time(happened_at + clock_error, style)
    head: dict[str, Any] = {"schemaVersion": style.version} if style.tells_version == _BY_FIELD else {}
    headers = {"schema-version": str(style.version)} if style.tells_version == _BY_HEADER else {}
    if style.names_events:
        head["eventId"] = new_id(rng)
    if style.cloud_events:
        headers |= _cloud_headers(rng, event_type, text)
    return Event(
        event_type, key, {**head, **fields, "timestamp": text}, headers, happened_at, parse_time(text)
    )


def _cloud_headers(rng: random.Random, event_type: str, text: str) -> dict[str, str]:
    source = {USER_ACTION: "/players/smart-tv", SYSTEM_EVENT: "/fleet/agent"}.get(event_type, "/studio")
    return {
        "ce_id": new_id(rng),
        "ce_source": source,
        "ce_type": f"media.{event_type}",
        "ce_time": text,
        "ce_specversion": "1.0",
    }


def new_id(rng: random.Random) -> str:
    """A UUID from the model's own generator, so that a seed repeats it."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def format_time(moment: datetime, style: ClientStyle) -> str:
    """RFC 3339 in the style's offset, the fraction cut (not rounded) to its digits."""
    local = moment.astimezone(timezone(timedelta(minutes=style.offset_minutes)))
    whole, fraction = local.strftime("%Y-%m-%dT%H:%M:%S"), f"{local.microsecond:06}000"[: style.digits]
    hours, minutes = divmod(abs(style.offset_minutes), 60)
    sign = "-" if style.offset_minutes < 0 else "+"
    offset = f"{sign}{hours:02}:{minutes:02}" if style.offset_minutes else "Z"
    return f"{whole}.{fraction}{offset}" if fraction else f"{whole}{offset}"


def parse_time(text: str) -> datetime:
    """The UTC time of what `format_time` writes; Python 3.10 reads neither `Z` nor 9 digits itself."""
    offset = "Z" if text.endswith("Z") else text[-6:]
    whole, _, fraction = text.removesuffix(offset).partition(".")
    moment = datetime.fromisoformat(whole + ("+00:00" if offset == "Z" else offset))
    return moment.astimezone(timezone.utc) + timedelta(microseconds=int(fraction[:6].ljust(6, "0") or 0))


def encode(event: Event) -> bytes:
    """The event's JSON: compact, in its producer's order, text as UTF-8."""
    return json.dumps(event.fields, ensure_ascii=False, separators=(",", ":")).encode()


def encode_anew(rng: random.Random, event: Event) -> bytes:
    """The same event written by another hand: order, spaces, escapes and the time's form differ."""
    fields = dict(event.fields)
    fields["timestamp"] = format_time(event.occurred_at, ClientStyle(1, _UNTOLD, True, False, 540, 6))
    names = list(fields)
    rng.shuffle(names)
    return json.dumps({name: fields[name] for name in names}, ensure_ascii=True, indent=1).encode()
