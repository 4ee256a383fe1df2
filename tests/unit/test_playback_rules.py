"""Each playback rule both ways: what breaks it, and what comes near and does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from reference_events import MICRO, NOON, act, upload

from pipelines.gold import playback_rules, quality_results
from pipelines.silver import user_actions
from pipelines.simulate.model import DEFAULT_START, simulate
from pipelines.simulate.reference import ContentUpload, UserAction, known_durations, playbacks
from pipelines.simulate.truth import Truth

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Events = list[UserAction]
Found = tuple[int, int, "str | None"]
"""checked, violations, example."""
Cases = dict[str, tuple[Events, "Found | None"]]
"""Events, and what the rule finds on noon's day; None: it looks at nothing."""

DAY = 24 * 3600
UPLOADS = [
    *(upload("1", media="m", duration="100"), upload("2", media="x", duration="200")),
    *(upload("3", media="long", duration="100000"), upload("4", media="untold")),
]
SESSIONS = {"u": "s", "v": "s", "w": "t"}
"""By user; other users tell none."""

PAUSES: Cases = {
    "after its play or resume": (
        [act("a", "play", 0), act("b", "pause", 9), act("c", "resume", 20), act("d", "pause", 30)],
        (2, 0, None),
    ),
    "first of all": ([act("a", "pause", 0)], (1, 1, "a")),
    "again and again, the least is the example": (
        [act("a", "play", 0), act("d", "pause", 7), act("c", "pause", 8), act("b", "pause", 9)],
        (3, 2, "b"),
    ),
    "after its own seeks": (
        [act("a", "play", 0), act("b", "seek", 5), act("c", "seek", 6), act("d", "pause", 9)],
        (1, 0, None),
    ),
    "after nothing but its own seek": ([act("a", "seek", 5), act("b", "pause", 9)], (1, 1, "b")),
    "after a seek of other media, which ends the play": (
        [act("a", "play", 0), act("b", "seek", 5, media="x"), act("c", "seek", 6), act("d", "pause", 9)],
        (1, 1, "d"),
    ),
    "after a play of other media": ([act("a", "play", 0, media="x"), act("b", "pause", 9)], (1, 1, "b")),
    "after a play of another user": ([act("a", "play", 0, user="v"), act("b", "pause", 9)], (1, 1, "b")),
    "after a skip": ([act("a", "play", 0), act("b", "skip", 5), act("c", "pause", 9)], (1, 1, "c")),
    "after the play's limit": ([act("a", "play", 0), act("b", "pause", 150)], (1, 0, None)),
    "delivered before its play": ([act("a", "pause", 9), act("b", "play", 0, recorded=500)], (1, 0, None)),
    "at the instant of its play, by event id": ([act("b", "pause", 0), act("a", "play", 0)], (1, 0, None)),
    "at that instant, before it": ([act("a", "pause", 0), act("b", "play", 0)], (1, 1, "a")),
    "a day after its play": ([act("a", "play", -DAY), act("b", "pause", 0)], (1, 0, None)),
    "more than a day after its play": ([act("a", "play", -DAY - MICRO), act("b", "pause", 0)], (1, 1, "b")),
    "no pause at all": (
        [act("a", "skip", 0), act("b", "seek", 1, media="x"), act("c", "complete", 2)],
        None,
    ),
}
POSITIONS: Cases = {
    "more than a second beyond": (
        [act("a", "pause", 0, position="101.000001"), act("b", "skip", 1, position="101")],
        (2, 1, "a"),
    ),
    "whatever the action": (
        [act("b", "seek", 0, position="300"), act("a", "play", 1, position="300"), act("c", "play", 2)],
        (2, 2, "a"),
    ),
    "of a longer media": ([act("a", "play", 0, media="x", position="199")], (1, 0, None)),
    "of unknown media, or of unknown length": (
        [act("a", "play", 0, media="?", position="1e6"), act("b", "play", 1, media="untold", position="1e6")],
        None,
    ),
}


def watched(seconds: float, until: str | None, action: str = "pause", start: str | None = "10") -> Events:
    """A play from position `start`, and its end at position `until`."""
    return [act("a", "play", 0, position=start), act("b", action, seconds, position=until)]


CLAIMS: Cases = {
    "as long as the clock": (watched(30, "40"), (1, 0, None)),
    "less, for it stalled": (watched(300, "40", "complete"), (1, 0, None)),
    "five seconds more": (watched(30, "45"), (1, 0, None)),
    "more than five seconds": (watched(30, "45.000001", "skip"), (1, 1, "b")),
    "a tenth more": (watched(1000, "1110"), (1, 0, None)),
    "more than a tenth": (watched(1000, "1110.000001", "complete"), (1, 1, "b")),
    "from a resume": (
        [act("a", "resume", 0, position="0"), act("b", "pause", 9, position="90")],
        (1, 1, "b"),
    ),
    "the end delivered first": (watched(30, "90")[::-1], (1, 1, "b")),
    "no position at the end": (watched(30, None), None),
    "no position at the start": (watched(30, "90", start=None), None),
    "a seek between": ([*watched(30, "90"), act("aa", "seek", 5, position="70")], None),
    "other media between": ([*watched(30, "90"), act("aa", "skip", 5, media="x", position="70")], None),
    "of other media": ([act("a", "play", 0, position="0"), act("b", "skip", 9, "x", position="90")], None),
    "up to the next play": ([act("a", "play", 0, position="0"), act("b", "play", 9, position="90")], None),
    "from a pause": ([act("a", "pause", 0, position="0"), act("b", "skip", 9, position="90")], None),
    "a day later": (
        [act("a", "play", -DAY, position="0"), act("b", "skip", 0, position="9e9")],
        (1, 1, "b"),
    ),
    "more than a day later": (
        [act("a", "play", -DAY, position="0"), act("b", "skip", MICRO, position="9e9")],
        None,
    ),
}


def one(user: str, start: float, end: float, media: str = "long") -> Events:
    """A playback, named by its user and start."""
    name = f"{user}{start:g}"
    return [act(name, "play", start, media, user), act(f"{name}-end", "pause", end, media, user)]


OVERLAPS: Cases = {
    "one after the other": ([*one("u", 0, 10), *one("v", 10, 20), *one("u", 20, 30)], (3, 0, None)),
    "by a microsecond": ([*one("u", 0, 10 + MICRO), *one("v", 10, 20)], (2, 1, "v10")),
    "of other media": ([*one("u", 0, 10), *one("v", 5, 20, "x")], (2, 1, "v5")),
    "of a resume": ([act("r", "resume", 0), act("p", "pause", 10), *one("v", 5, 20)], (2, 1, "v5")),
    "within one that began long before": (
        [*one("u", 0, 100), *one("v", 30, 40), *one("v", 10, 20)],
        (3, 2, "v10"),
    ),
    "at one instant": ([*one("v", 0, 10), *one("u", 0, 5)], (2, 1, "v0")),
    "of another session": ([*one("u", 0, 10), *one("w", 5, 20)], (2, 0, None)),
    "of no session": ([*one("nobody", 0, 10), *one("none", 5, 20)], None),
    "of no length": ([*one("u", 0, 10), *one("v", 5, 5)], (1, 0, None)),
    "of no known end": ([act("a", "play", 0, "?"), *one("v", 5, 10)], (1, 0, None)),
    "of a day or more": ([*one("u", -DAY, 5), *one("v", 0, 10)], (1, 0, None)),
    "of nearly a day": ([*one("u", -DAY + MICRO, 5), *one("v", 0, 10)], (1, 1, "v0")),
}
CASES = {
    "pause_without_play": PAUSES,
    "position_beyond_duration": POSITIONS,
    "watch_time_above_wall_clock": CLAIMS,
    "overlapping_playbacks": OVERLAPS,
}
NAMES = [(rule, name) for rule, cases in CASES.items() for name in cases]


def actions_frame(
    spark: SparkSession, events: Iterable[UserAction], sessions: Mapping[str, str]
) -> DataFrame:
    """The events as rows of silver, with their users' sessions."""
    names = user_actions.TABLE.column_names
    rows = [{**vars(event), "session_id": sessions.get(event.user_id)} for event in events]
    return spark.createDataFrame([tuple(map(row.get, names)) for row in rows], user_actions.TABLE.schema())


def playbacks_frame(
    spark: SparkSession, events: Sequence[UserAction], uploads: Iterable[ContentUpload]
) -> DataFrame:
    """What the rules read of the playbacks, by the reference, which the table equals."""
    names = ("playback_id", "started_at", "ended_at")
    rows = [tuple(row[name] for name in names) for row in playbacks(events, uploads)]
    return spark.createDataFrame(rows, "playback_id string, started_at timestamp, ended_at timestamp")


def frames(
    spark: SparkSession,
    events: Sequence[UserAction],
    uploads: Sequence[ContentUpload],
    sessions: Mapping[str, str],
) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Actions, playbacks and the catalogue."""
    known = {u.media_id: None for u in uploads} | known_durations(uploads)
    catalog = spark.createDataFrame(list(known.items()), "media_id string, duration_seconds decimal(18,6)")
    return actions_frame(spark, events, sessions), playbacks_frame(spark, events, uploads), catalog


@pytest.fixture(scope="module")
def findings(spark: SparkSession) -> dict[tuple[str, str], Found]:
    """What each case's rule finds: all cases at once, with users and a day of their own."""
    events: Events = []
    sessions: dict[str, str] = {}
    days = {}
    for number, (rule, name) in enumerate(NAMES):
        shift, prefix = timedelta(days=4 * number), f"{number}/"
        days[(NOON + shift).date(), rule] = (rule, name), prefix
        for event in CASES[rule][name][0]:
            user = prefix + event.user_id
            at, recorded = event.occurred_at + shift, event.record_timestamp + shift
            moved = replace(event, event_id=prefix + event.event_id, user_id=user, occurred_at=at)
            events.append(replace(moved, record_timestamp=recorded))
            if event.user_id in SESSIONS:
                sessions[user] = prefix + SESSIONS[event.user_id]
    found = {}
    for row in playback_rules.playback_rules(*frames(spark, events, UPLOADS, sessions)).collect():
        if (row.event_date, row.rule) in days:
            case, prefix = days[row.event_date, row.rule]
            example = None if row.example is None else row.example.removeprefix(prefix)
            found[case] = (row.checked, row.violations, example)
    return found


@pytest.mark.parametrize(("rule", "name"), NAMES)
def test_rule(findings: dict[tuple[str, str], Found], rule: str, name: str) -> None:
    assert findings.get((rule, name)) == CASES[rule][name][1]


def test_plays_of_one_identity_are_of_their_own_sessions(spark: SparkSession) -> None:
    """As a faulty producer gives it to many: `undefined`."""
    events = [
        *(act("undefined", "play", 0), act("a", "pause", 10)),
        *(act("undefined", "play", 100, user="v"), act("b", "pause", 110, user="v")),
    ]
    found = playback_rules.playback_rules(*frames(spark, events, UPLOADS, {"u": "s", "v": "t"}))
    (row,) = found.where("rule = 'overlapping_playbacks'").collect()
    assert (row.checked, row.violations) == (2, 0)


def test_days_end_at_midnight_utc(spark: SparkSession) -> None:
    """An end counts on its own day, an overlap on the day of the later start."""
    midnight = DAY / 2
    events = [
        *(act("a", "play", midnight - 9, position="0"), act("b", "pause", midnight, position="120")),
        *(act("c", "play", midnight - MICRO, user="v"), act("d", "pause", midnight + 1, user="v")),
        act("e", "pause", midnight - MICRO, user="w"),
    ]
    found = playback_rules.playback_rules(*frames(spark, events, UPLOADS, SESSIONS))
    assert set(found.columns) < set(quality_results.TABLE.column_names)
    first, second = NOON.date(), NOON.date() + timedelta(days=1)
    assert sorted(map(tuple, found.collect()), key=lambda row: row[1:3]) == [
        ("gold.playbacks", "overlapping_playbacks", first, 2, 1, "c"),
        ("silver.user_actions", "pause_without_play", first, 1, 1, "e"),
        ("silver.user_actions", "pause_without_play", second, 2, 0, None),
        ("silver.user_actions", "position_beyond_duration", first, 1, 0, None),
        ("silver.user_actions", "position_beyond_duration", second, 1, 1, "b"),
        ("silver.user_actions", "watch_time_above_wall_clock", second, 1, 1, "b"),
    ]


def simulated(clocks_are_right: bool) -> Truth:
    """What 30 viewers do in 3 days, some with a wrong clock.

    Right clocks also tell the play that begins by itself from the end that it follows, by a microsecond: at
    one instant, event ids decide which comes first.
    """
    truth = Truth()
    for delivery in simulate(30, 3, 3):
        event = delivery.event
        if event is not None and clocks_are_right:
            later = timedelta(microseconds=event.fields.get("action") == "play")
            delivery = replace(delivery, event=replace(event, occurred_at=event.happened_at + later))
        truth.add(delivery)
    return truth


def test_viewers_with_right_clocks_break_no_rule(spark: SparkSession) -> None:
    """One session for each user: one user's playbacks never overlap, nor add up to more than the clock."""
    truth = simulated(clocks_are_right=True)
    own = {event.user_id: event.user_id for event in truth.actions}
    rows = playback_rules.playback_rules(*frames(spark, truth.actions, truth.uploads, own)).collect()
    assert Counter(row.rule for row in rows) == dict.fromkeys(CASES, 3)
    assert min(row.checked for row in rows) > 50
    assert [row for row in rows if row.violations] == []


def test_a_day_needs_no_more_than_the_day_before(spark: SparkSession) -> None:
    truth = simulated(clocks_are_right=False)
    shared = {event.user_id: event.user_id[-1] for event in truth.actions}
    actions, plays, catalog = frames(spark, truth.actions, truth.uploads, shared)
    day = DEFAULT_START.date() + timedelta(days=2)
    since = f"DATE'{day - timedelta(days=playback_rules.LOOKBACK_DAYS)}'"

    def of_day(*given: DataFrame) -> list[tuple[Any, ...]]:
        counts = playback_rules.playback_rules(*given).where(f"event_date = DATE'{day}'")
        return sorted(map(tuple, counts.collect()))

    whole = of_day(actions, plays, catalog)
    assert {row[1] for row in whole if row[4]} >= {"pause_without_play", "overlapping_playbacks"}
    recent = actions.where(f"occurred_at >= {since}"), plays.where(f"started_at >= {since}")
    assert of_day(*recent, catalog) == whole
