"""The identity of an event in plain Python (docs/contracts.md): records that share it are one event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

CANONICAL_FIELDS = {
    "user-action": ("userId", "action", "timestamp", "mediaId"),
    "content-upload": ("mediaId", "creatorId", "title", "status", "timestamp"),
    "system-event": ("serverId", "kind", "timestamp"),
}
"""The fields, in order, that identify an event whose producer gave it no identity."""


def identity(event_type: str, event: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """`eventId`, else `ce_source` + `ce_id`, else the digest of the canonical fields.

    Source and id are joined by a bar, which a URI has as %7C: so no two pairs give one text.
    `event` holds the contract's field names, `timestamp` as an aware datetime.
    """
    if event.get("eventId"):
        return str(event["eventId"])
    if headers.get("ce_source") and headers.get("ce_id"):
        return f"{headers['ce_source'].replace('|', '%7C')}|{headers['ce_id']}"
    return event_identity(event_type, event)


def event_identity(event_type: str, event: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the type and canonical fields, for events without an identity of their own.

    `event` holds the contract's field names, `timestamp` as an aware datetime. The fields are joined by
    newlines, escaped inside them, so that no two events give one text.
    """
    values = [event[name] for name in CANONICAL_FIELDS[event_type]]
    fields = [rfc3339(value) if isinstance(value, datetime) else str(value) for value in values]
    text = "\n".join([event_type, *(f.replace("\\", "\\\\").replace("\n", "\\n") for f in fields)])
    return hashlib.sha256(text.encode()).hexdigest()


def rfc3339(moment: datetime) -> str:
    """UTC to the microsecond, always six digits: `2026-01-05T08:30:00.000000Z`."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
