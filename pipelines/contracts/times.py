"""Times as events tell them: RFC 3339 with any offset, and UTC to the microsecond."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

LATEST_RECORD = datetime(9999, 1, 1)
"""From then on (UTC) a record's own time is none: Python has no later ones, and a producer erred."""
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


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


def format_time(moment: datetime) -> str:
    """The text of a time: UTC, with microseconds."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
