"""Short ways to write user actions and uploads around noon, for the tests of the reference."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from pipelines.simulate.reference import ContentUpload, UserAction

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
MICRO = 0.000001
"""One microsecond, in seconds."""


def at(offset: float) -> datetime:
    """Noon plus `offset` seconds."""
    return NOON + timedelta(microseconds=round(offset * 1_000_000))


def act(
    event_id: str,
    action: str,
    offset: float,
    media: str = "m",
    user: str = "u",
    position: str | None = None,
    recorded: float | None = None,
    **more: Any,
) -> UserAction:
    """An action of user u on media m, recorded when it occurred unless told otherwise."""
    return UserAction(
        event_id=event_id,
        user_id=user,
        action=action,
        occurred_at=at(offset),
        media_id=media,
        record_timestamp=at(offset if recorded is None else recorded),
        position_seconds=None if position is None else Decimal(position),
        **more,
    )


def upload(
    event_id: str,
    offset: float = -1000,
    media: str = "m",
    duration: str | None = None,
    status: str = "published",
    **more: Any,
) -> ContentUpload:
    given = None if duration is None else Decimal(duration)
    return ContentUpload(
        event_id,
        media,
        more.pop("creator", "c"),
        more.pop("title", "t"),
        status,
        at(offset),
        duration_seconds=given,
        **more,
    )


def later(offset: float) -> UserAction:
    """Another user's event, which does nothing but move the clock."""
    return act("zz", "pause", offset, media="other", user="clock")
