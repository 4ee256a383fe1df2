"""What the model makes: events, and their deliveries to the broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

from pipelines.simulate.identity import identity

USER_ACTION = "user-action"
CONTENT_UPLOAD = "content-upload"
SYSTEM_EVENT = "system-event"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Event:
    """A valid event, as its producer made it."""

    event_type: str
    key: str
    """The record's key: user, media or server."""
    fields: Mapping[str, Any]
    """The contract's fields, in the producer's order; `timestamp` is its text."""
    headers: Mapping[str, str]
    happened_at: datetime
    """When it happened by a perfect clock: delivery follows this."""
    occurred_at: datetime
    """The instant that `timestamp` states: the producer's clock may be wrong, and its fraction cut."""

    @cached_property
    def identity(self) -> str:
        """The identity by which copies are recognized."""
        fields = {**self.fields, "timestamp": self.occurred_at}
        return identity(self.event_type, fields, self.headers)


@dataclass(frozen=True)
class Delivery:
    """One Kafka record: a copy of an event, or a broken record."""

    timestamp_ms: int
    """The record's time: milliseconds since 1970, UTC."""
    event_type: str
    key: str
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    event: Event | None = None
    """The valid event that the value encodes; None when the record is broken."""
    fault: str | None = None
    """The kind of fault (`pipelines.simulate.faults`); None when the record is valid."""


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970, cut off."""
    return (moment - _EPOCH) // _MICROSECOND // 1000


def from_milliseconds(milliseconds: int) -> datetime:
    """The UTC time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=milliseconds)
