"""The reference's measures, daily tables and catalogue, worked out by hand (docs/definitions.md)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from reference_events import act, at, later, upload

from pipelines.simulate.reference import compute, playbacks


def judged(
    watched: float | None, duration: str | None, action: str = "pause", position: str | None = None
) -> dict[str, Any]:
    """The playback that `action` ends after `watched` seconds (None: it is open) of a media."""
    actions = [act("a", "play", 0, position=position)]
    actions += [] if watched is None else [act("b", action, watched)]
    return playbacks(actions, [] if duration is None else [upload("up", duration=duration)])[0]


class TestIsCounted:
    @pytest.mark.parametrize(
        ("duration", "watched", "counted"),
        [
            (None, 29.999999, False),
            (None, 30, True),
            ("200", 29.999999, False),
            ("200", 30, True),
            ("60", 29.999999, False),  # 60 s is not shorter than 60 s
            ("60", 30, True),
            ("59.999999", 29.999999, False),  # half is 29.9999995
            ("59.999999", 30, True),
            ("20", 9.999999, False),
            ("20", 10, True),
            ("0", 0, True),
        ],
    )
    def test_thirty_seconds_or_half_of_short_media(
        self, duration: str | None, watched: float, counted: bool
    ) -> None:
        play = judged(watched, duration)
        assert play["is_counted"] is counted

    def test_not_while_it_is_open(self) -> None:
        assert judged(None, "0.5")["is_counted"] is False


class TestIsCompleted:
    def test_by_the_end_reason_whatever_was_watched(self) -> None:
        assert judged(1, "200", "complete")["is_completed"] is True
        assert judged(1, None, "complete")["is_completed"] is True

    @pytest.mark.parametrize(
        ("position", "watched", "completed"),
        [(None, 190, True), (None, 189.999999, False), ("100", 90, True), ("100", 89.999999, False)],
    )
    def test_from_95_percent_of_the_duration(
        self, position: str | None, watched: float, completed: bool
    ) -> None:
        play = judged(watched, "200", "skip", position)
        assert (play["end_reason"], play["is_completed"]) == ("skipped", completed)

    def test_not_without_a_known_duration(self) -> None:
        assert judged(9000, None, "skip")["is_completed"] is False

    def test_not_while_it_is_open(self) -> None:
        assert judged(None, "200", position="199")["is_completed"] is False


class TestDaily:
    """Two days around midnight, twelve hours (43,200 s) after noon of January 5."""

    MIDNIGHT = 43_200.0
    MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        m = self.MIDNIGHT
        actions = [
            act("a", "play", m - 10, user="u"),  # Monday; skipped early on Tuesday after 15 s
            act("b", "skip", m + 5, user="u"),
            act("c", "skip", m + 6, user="u"),  # ends nothing, still a skip
            act("d", "play", m - 100, user="v"),  # Monday; paused after 40 s
            act("e", "pause", m - 60, user="v"),
            act("f", "play", m - 50, user="v"),  # Monday; skipped after exactly 30 s: not early
            act("g", "skip", m - 20, user="v"),
            act("h", "play", m, user="w"),  # Tuesday from its first instant; completed after 5 s
            act("i", "complete", m + 5, user="w"),
            act("j", "play", m + 7, user="w"),  # open
            act("k", "skip", m - 5, media="n", user="w"),  # Monday: a row without plays
            act("l", "seek", m + 8, media="n", user="x"),  # no row of media_daily, but an active user
        ]
        return compute(actions, [])

    def test_media_daily(self) -> None:
        assert self.tables()["media_daily"] == [
            self.media("m", self.MONDAY, plays=3, counted=2, viewers=2, watch="85", skips=1),
            self.media("m", self.TUESDAY, plays=2, viewers=1, watch="5", skips=2, early=1, completions=1),
            self.media("n", self.MONDAY, skips=1),
        ]

    def media(
        self,
        media: str,
        day: date,
        plays: int = 0,
        counted: int = 0,
        viewers: int = 0,
        watch: str = "0",
        skips: int = 0,
        early: int = 0,
        completions: int = 0,
    ) -> dict[str, Any]:
        return {
            "media_id": media,
            "event_date": day,
            "plays": plays,
            "counted_plays": counted,
            "unique_viewers": viewers,
            "watch_seconds": Decimal(watch),
            "skips": skips,
            "early_skips": early,
            "completions": completions,
        }

    def test_audience_daily(self) -> None:
        names = ("event_date", "active_users", "new_users", "plays", "counted_plays", "watch_seconds")
        rows = [tuple(row[name] for name in names) for row in self.tables()["audience_daily"]]
        assert rows == [
            (self.MONDAY, 3, 3, 3, 2, Decimal(85)),
            (self.TUESDAY, 3, 1, 2, 0, Decimal(5)),
        ]

    def test_abandoned_plays_count_as_plays_of_no_length(self) -> None:
        row = compute([act("a", "play", 0), later(20_000)], [])["media_daily"][0]
        assert row == self.media("m", self.MONDAY, plays=1, viewers=1)

    def test_nothing_gives_nothing(self) -> None:
        empty = {"playbacks": [], "media_daily": [], "audience_daily": [], "media_catalog": []}
        assert compute([], []) == empty


class TestMediaCatalog:
    def test_current_state_first_times_and_latest_known_facts(self) -> None:
        uploads = [
            upload("d", 40, status="removed", title="New title", creator="c2"),
            upload("a", 10, status="uploaded", genres=("drama",), language="en"),
            upload("c", 30, duration="95", genres=(), title="Old title"),
            upload("b", 20, duration="100", genres=("news", "kids")),
        ]
        actions = [act("q", "resume", 60), act("p", "play", 50), act("o", "seek", 5)]
        assert compute(actions, uploads)["media_catalog"] == [
            {
                "media_id": "m",
                "creator_id": "c2",
                "title": "New title",
                "genres": ["news", "kids"],
                "language": "en",
                "duration_seconds": Decimal("95.000000"),
                "status": "removed",
                "uploaded_at": at(10),
                "processed_at": None,
                "published_at": at(20),
                "removed_at": at(40),
                "first_play_at": at(50),
            }
        ]

    def test_ties_go_by_event_id(self) -> None:
        uploads = [upload("b", 10, title="Second"), upload("a", 10, title="First", status="processed")]
        row = compute([], uploads)["media_catalog"][0]
        assert (row["title"], row["status"], row["first_play_at"]) == ("Second", "published", None)

    def test_media_without_upload_have_no_row(self) -> None:
        assert compute([act("a", "play", 0)], [])["media_catalog"] == []
