"""Collects, while records are written, what must come out of them: the counts and the gold rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pipelines.simulate import reference
from pipelines.simulate.identity import rfc3339
from pipelines.simulate.records import (
    CONTENT_UPLOAD,
    USER_ACTION,
    Delivery,
    Event,
    from_milliseconds,
    to_milliseconds,
)
from pipelines.simulate.reference import ContentUpload, Row, UserAction, seconds

_LATE_MS = 60_000


@dataclass
class Counts:
    """How many records and events there are; `records` = `valid` + `duplicates` + `broken`, in sum."""

    records: Counter[str] = field(default_factory=Counter)
    """Records by event type."""
    valid: Counter[str] = field(default_factory=Counter)
    """Distinct valid events by event type."""
    duplicates: Counter[str] = field(default_factory=Counter)
    """Further copies of valid events by event type."""
    broken: Counter[str] = field(default_factory=Counter)
    """Broken records by event type."""
    faults: Counter[str] = field(default_factory=Counter)
    """Broken records by kind of fault."""
    late: int = 0
    """Valid events whose first copy came more than a minute after they happened."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows by gold table."""
    clock: str | None = None
    """The stream's clock at the end (RFC 3339, UTC)."""

    def to_json(self) -> dict[str, Any]:
        """The counts with their totals, for `counts.json`."""
        totals = {
            f"{name}_total": sum(getattr(self, name).values())
            for name in ("records", "valid", "duplicates", "broken")
        }
        return totals | {name: _sorted(value) for name, value in vars(self).items()}


class Truth:
    """Takes every delivery in the order of delivery: the first copy of an event is the one that counts."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.actions: list[UserAction] = []
        self.uploads: list[ContentUpload] = []
        self._seen: set[tuple[str, str]] = set()

    def add(self, delivery: Delivery) -> None:
        """Count one record, and keep the event when it is a valid one's first copy."""
        event_type, event = delivery.event_type, delivery.event
        self.counts.records[event_type] += 1
        if event is None:
            self.counts.broken[event_type] += 1
            self.counts.faults[str(delivery.fault)] += 1
        elif (event_type, event.identity) in self._seen:
            self.counts.duplicates[event_type] += 1
        else:
            self._seen.add((event_type, event.identity))
            self.counts.valid[event_type] += 1
            self.counts.late += delivery.timestamp_ms - to_milliseconds(event.happened_at) > _LATE_MS
            self._keep(event, delivery.timestamp_ms)

    def tables(self) -> dict[str, list[Row]]:
        """The gold rows of everything added, by table; completes the counts."""
        tables = reference.compute(self.actions, self.uploads)
        clock = reference.stream_clock(self.actions)
        self.counts.rows = {name: len(rows) for name, rows in tables.items()}
        self.counts.clock = None if clock is None else rfc3339(clock)
        return tables

    def _keep(self, event: Event, timestamp_ms: int) -> None:
        if event.event_type == USER_ACTION:
            self.actions.append(_user_action(event, from_milliseconds(timestamp_ms)))
        elif event.event_type == CONTENT_UPLOAD:
            self.uploads.append(_content_upload(event))


def _user_action(event: Event, recorded: datetime) -> UserAction:
    fields = event.fields
    position = fields.get("positionSeconds")
    return UserAction(
        event_id=event.identity,
        user_id=fields["userId"],
        action=fields["action"],
        occurred_at=event.occurred_at,
        media_id=fields["mediaId"],
        record_timestamp=recorded,
        position_seconds=None if position is None else seconds(position),
        platform=fields.get("device", {}).get("platform"),
        region=fields.get("region"),
        server_id=fields.get("serverId"),
    )


def _content_upload(event: Event) -> ContentUpload:
    fields = event.fields
    duration, genres = fields.get("durationSeconds"), fields.get("genres")
    return ContentUpload(
        event_id=event.identity,
        media_id=fields["mediaId"],
        creator_id=fields["creatorId"],
        title=fields["title"],
        status=fields["status"],
        occurred_at=event.occurred_at,
        duration_seconds=None if duration is None else seconds(duration),
        genres=None if genres is None else tuple(genres),
        language=fields.get("language"),
    )


def to_json(value: Any) -> Any:
    """A row's value as JSON: times RFC 3339 with six digits, days ISO, decimals as text (exact)."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _sorted(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, dict) else value
