"""The definitions of docs/definitions.md in plain Python: slow, obvious, and independent of the tables' code.

Tests compare what the streams and `rebuild` compute with what this module computes, so it shares nothing
with them. Input: valid user actions and content uploads, each event once. Output: rows (dicts) with the
tables' column names. Times are aware UTC datetimes; positions, durations and watch times are seconds as
Decimal with six decimals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from pipelines.simulate.identity import event_identity as event_identity

Row = dict[str, Any]

OPENING = ("play", "resume")
UNKNOWN_LIMIT = timedelta(hours=4)
COUNTED_SECONDS = Decimal(30)
EARLY_SKIP_SECONDS = Decimal(30)
SHORT_MEDIA_SECONDS = Decimal(60)
COMPLETED_SHARE = Decimal("0.95")

_REASON_OF_SAME_MEDIA = {
    "pause": "paused",
    "skip": "skipped",
    "complete": "completed",
    "play": "restarted",
    "resume": "restarted",
}
_DATED_STATUS = {
    "uploaded": "uploaded_at",
    "processed": "processed_at",
    "published": "published_at",
    "removed": "removed_at",
}


@dataclass(frozen=True)
class UserAction:
    """One valid user action; `record_timestamp` is the broker's time of the copy that is kept."""

    event_id: str
    user_id: str
    action: str
    occurred_at: datetime
    media_id: str
    record_timestamp: datetime
    position_seconds: Decimal | None = None
    platform: str | None = None
    region: str | None = None
    server_id: str | None = None


@dataclass(frozen=True)
class ContentUpload:
    """One valid step in the life of a media."""

    event_id: str
    media_id: str
    creator_id: str
    title: str
    status: str
    occurred_at: datetime
    duration_seconds: Decimal | None = None
    genres: tuple[str, ...] | None = None
    language: str | None = None


def seconds(value: object) -> Decimal:
    """A number or its text as seconds with six decimals, rounded half up."""
    return Decimal(str(value)).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def compute(actions: Sequence[UserAction], uploads: Sequence[ContentUpload]) -> dict[str, list[Row]]:
    """The rows of every gold table that this module defines, by table name."""
    plays = playbacks(actions, uploads)
    return {
        "playbacks": plays,
        "media_daily": media_daily(actions, plays),
        "audience_daily": audience_daily(actions, plays),
        "media_catalog": media_catalog(uploads, plays),
    }


def stream_clock(actions: Iterable[UserAction]) -> datetime | None:
    """The greatest min(occurred_at, record_timestamp); None without events."""
    return max((min(a.occurred_at, a.record_timestamp) for a in actions), default=None)


def known_durations(uploads: Iterable[ContentUpload]) -> dict[str, Decimal]:
    """By media: the duration (seconds) of its latest upload event by (time, event id) that carries one."""
    durations: dict[str, Decimal] = {}
    for upload in sorted(uploads, key=_in_time):
        if upload.duration_seconds is not None:
            durations[upload.media_id] = seconds(upload.duration_seconds)
    return durations


def playbacks(actions: Sequence[UserAction], uploads: Iterable[ContentUpload]) -> list[Row]:
    """`gold.playbacks`: one row per `play` or `resume`, in the order of (user, time, event id)."""
    clock = stream_clock(actions)
    durations = known_durations(uploads)
    by_user: dict[str, list[UserAction]] = defaultdict(list)
    for action in sorted(actions, key=_in_time):
        by_user[action.user_id].append(action)
    rows = []
    for _, events in sorted(by_user.items()):
        for index, event in enumerate(events):
            if event.action in OPENING:
                following = _next_of(event, events[index + 1 :])
                rows.append(_playback(event, following, durations.get(event.media_id), clock))
    return rows


def _next_of(opening: UserAction, later: Iterable[UserAction]) -> UserAction | None:
    """The user's next event, seeks of the same media passed over."""
    for event in later:
        if not (event.action == "seek" and event.media_id == opening.media_id):
            return event
    return None


def _playback(
    opening: UserAction, following: UserAction | None, duration: Decimal | None, clock: datetime | None
) -> Row:
    reason, ended_at = _ending(opening, following, duration, clock)
    watched = None if ended_at is None else _elapsed(opening.occurred_at, ended_at)
    start = opening.position_seconds
    return {
        "playback_id": opening.event_id,
        "user_id": opening.user_id,
        "media_id": opening.media_id,
        "started_at": opening.occurred_at,
        "ended_at": ended_at,
        "end_reason": reason,
        "watch_seconds": watched,
        "start_position_seconds": None if start is None else seconds(start),
        "is_counted": _is_counted(watched, duration),
        "is_completed": reason == "completed" or _reached_the_end(start, watched, duration),
        "platform": opening.platform,
        "region": opening.region,
        "server_id": opening.server_id,
    }


def _ending(
    opening: UserAction, following: UserAction | None, duration: Decimal | None, clock: datetime | None
) -> tuple[str, datetime | None]:
    """The end reason, and the time of the end when there is one."""
    limit = UNKNOWN_LIMIT if duration is None else _remaining(opening, duration)
    last_moment = opening.occurred_at + limit
    if following is not None and following.occurred_at <= last_moment:
        if following.media_id != opening.media_id:
            return "switched", following.occurred_at
        return _REASON_OF_SAME_MEDIA[following.action], following.occurred_at
    passed = following is not None or (clock is not None and clock > last_moment)
    if not passed:
        return "open", None
    return ("abandoned", None) if duration is None else ("completed", last_moment)


def _remaining(opening: UserAction, duration: Decimal) -> timedelta:
    position = seconds(opening.position_seconds or 0)
    left = max(Decimal(0), duration - position)
    return timedelta(microseconds=int(left * 1_000_000))


def _elapsed(start: datetime, end: datetime) -> Decimal:
    """Seconds from `start` to `end`, exact: `total_seconds()` would go through binary fractions."""
    microseconds = (end - start) // timedelta(microseconds=1)
    return seconds(Decimal(microseconds) / 1_000_000)


def _is_counted(watched: Decimal | None, duration: Decimal | None) -> bool:
    if watched is None:
        return False
    is_short = duration is not None and duration < SHORT_MEDIA_SECONDS
    return watched >= COUNTED_SECONDS or (is_short and duration is not None and watched >= duration / 2)


def _reached_the_end(start: Decimal | None, watched: Decimal | None, duration: Decimal | None) -> bool:
    if duration is None or watched is None:
        return False
    return seconds(start or 0) + watched >= COMPLETED_SHARE * duration


def media_daily(actions: Iterable[UserAction], plays: Sequence[Row]) -> list[Row]:
    """`gold.media_daily`: media × UTC day with at least one play or skip, ordered by both."""
    skips = [a for a in actions if a.action == "skip"]
    started = _grouped(plays, lambda p: (p["media_id"], p["started_at"].date()))
    skipped = _grouped(skips, lambda a: (a.media_id, a.occurred_at.date()))
    early = _grouped(filter(_is_early_skip, plays), lambda p: (p["media_id"], p["ended_at"].date()))
    return [
        {
            "media_id": media,
            "event_date": day,
            **_measures(started[media, day]),
            "unique_viewers": len({p["user_id"] for p in started[media, day]}),
            "skips": len(skipped[media, day]),
            "early_skips": len(early[media, day]),
            "completions": sum(p["is_completed"] for p in started[media, day]),
        }
        for media, day in sorted(started.keys() | skipped.keys())
    ]


def _is_early_skip(play: Row) -> bool:
    return play["end_reason"] == "skipped" and play["watch_seconds"] < EARLY_SKIP_SECONDS


def audience_daily(actions: Iterable[UserAction], plays: Iterable[Row]) -> list[Row]:
    """`gold.audience_daily`: one row per UTC day with any user action, ordered."""
    users_of: dict[date, set[str]] = defaultdict(set)
    first_day: dict[str, date] = {}
    for action in actions:
        day = action.occurred_at.date()
        users_of[day].add(action.user_id)
        first_day[action.user_id] = min(day, first_day.get(action.user_id, day))
    started = _grouped(plays, lambda p: p["started_at"].date())
    return [
        {
            "event_date": day,
            "active_users": len(users_of[day]),
            "new_users": sum(first == day for first in first_day.values()),
            **_measures(started[day]),
        }
        for day in sorted(users_of)
    ]


def _measures(plays: Sequence[Row]) -> Row:
    """What every daily table counts of the playbacks that started on its day."""
    return {
        "plays": len(plays),
        "counted_plays": sum(p["is_counted"] for p in plays),
        "watch_seconds": seconds(sum((p["watch_seconds"] or Decimal(0)) for p in plays)),
    }


def media_catalog(uploads: Iterable[ContentUpload], plays: Iterable[Row]) -> list[Row]:
    """`gold.media_catalog`: one row per media with an upload event, ordered by media."""
    first_play: dict[str, datetime] = {}
    for play in plays:
        first_play[play["media_id"]] = min(
            play["started_at"], first_play.get(play["media_id"], play["started_at"])
        )
    rows: dict[str, Row] = {}
    for upload in sorted(uploads, key=_in_time):
        row = rows.setdefault(upload.media_id, _blank_entry(upload.media_id, first_play.get(upload.media_id)))
        row.update(creator_id=upload.creator_id, title=upload.title, status=upload.status)
        if upload.genres:  # an empty list tells none: Protobuf cannot tell it from one that is missing
            row["genres"] = list(upload.genres)
        if upload.language is not None:
            row["language"] = upload.language
        if upload.duration_seconds is not None:
            row["duration_seconds"] = seconds(upload.duration_seconds)
        if row[_DATED_STATUS[upload.status]] is None:
            row[_DATED_STATUS[upload.status]] = upload.occurred_at
    return [rows[media] for media in sorted(rows)]


def _blank_entry(media_id: str, first_play_at: datetime | None) -> Row:
    empty = dict.fromkeys(
        ("creator_id", "title", "genres", "language", "duration_seconds", "status", *_DATED_STATUS.values())
    )
    return {"media_id": media_id, **empty, "first_play_at": first_play_at}


def _in_time(event: UserAction | ContentUpload) -> tuple[datetime, str]:
    return event.occurred_at, event.event_id


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> defaultdict[Any, list[Any]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
