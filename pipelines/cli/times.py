"""Times on the command line: UTC, as everywhere."""

from __future__ import annotations

from datetime import datetime, timezone

import click

TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


def utc(given: datetime | None) -> datetime | None:
    """The time that `TIME` read, as one of UTC."""
    return given.replace(tzinfo=timezone.utc) if given else None
