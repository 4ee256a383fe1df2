"""The reference's playbacks and clock, worked out by hand, clause by clause of docs/definitions.md."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from reference_events import MICRO, act, at, later, upload

from pipelines.simulate.reference import UserAction, known_durations, playbacks, seconds, stream_clock

LONG_AFTER = 10**6


def only(actions: list[UserAction], duration: str | None = None) -> dict[str, Any]:
    """The playback of the first action; `duration` is the media's known one."""
    uploads = [] if duration is None else [upload("up", duration=duration)]
    return next(p for p in playbacks(actions, uploads) if p["playback_id"] == actions[0].event_id)


def end(play: dict[str, Any]) -> tuple[str, datetime | None, Decimal | None]:
    return play["end_reason"], play["ended_at"], play["watch_seconds"]


class TestEndByTheNextEvent:
    @pytest.mark.parametrize(
        ("action", "reason"),
        [
            ("pause", "paused"),
            ("skip", "skipped"),
            ("complete", "completed"),
            ("play", "restarted"),
            ("resume", "restarted"),
        ],
    )
    def test_of_the_same_media(self, action: str, reason: str) -> None:
        play = only([act("a", "play", 0), act("b", action, 12.5)])
        assert end(play) == (reason, at(12.5), Decimal("12.500000"))

    @pytest.mark.parametrize("action", ["play", "pause", "skip", "resume", "seek", "complete"])
    def test_of_other_media_whatever_it_is(self, action: str) -> None:
        play = only([act("a", "play", 0), act("b", action, 5, media="n")])
        assert end(play) == ("switched", at(5), Decimal("5.000000"))

    def test_seeks_of_the_same_media_are_passed_over(self) -> None:
        actions = [act("a", "play", 0), act("b", "seek", 3), act("c", "seek", 4), act("d", "pause", 40)]
        assert end(only(actions)) == ("paused", at(40), Decimal("40.000000"))
        assert len(playbacks(actions, [])) == 1

    def test_events_of_other_users_do_not_end_it(self) -> None:
        play = only([act("a", "play", 0), act("b", "pause", 5, user="v"), act("c", "pause", 9)])
        assert end(play) == ("paused", at(9), Decimal("9.000000"))

    def test_resume_opens_as_play_does(self) -> None:
        play = only([act("a", "resume", 0, position="7.25"), act("b", "pause", 1)])
        assert end(play) == ("paused", at(1), Decimal("1.000000"))
        assert play["start_position_seconds"] == Decimal("7.250000")

    def test_actions_other_than_play_and_resume_open_nothing(self) -> None:
        actions = [act(str(n), a, n) for n, a in enumerate(("pause", "skip", "seek", "complete"))]
        assert playbacks(actions, []) == []

    def test_watch_seconds_are_exact_to_the_microsecond(self) -> None:
        play = only([act("a", "play", 0.1), act("b", "pause", 10_000.400001)])
        assert play["watch_seconds"] == Decimal("10000.300001")


class TestOrder:
    def test_input_order_does_not_matter(self) -> None:
        actions = [act("b", "pause", 9), act("c", "play", 20), act("a", "play", 0)]
        assert end(playbacks(actions, [])[0]) == ("paused", at(9), Decimal("9.000000"))

    def test_ties_in_time_go_by_event_id(self) -> None:
        # At one instant: a play of m, b completion of m.
        assert end(only([act("a", "play", 0), act("b", "complete", 0)])) == ("completed", at(0), Decimal(0))
        # The other way round the completion comes before the play, which stays open.
        assert end(only([act("b", "play", 0), act("a", "complete", 0)])) == ("open", None, None)

    def test_upper_case_sorts_before_lower_case_as_bytes_do(self) -> None:
        assert end(only([act("b", "play", 0), act("C", "pause", 0)])) == ("open", None, None)


class TestLimitWithKnownDuration:
    def test_next_event_exactly_at_the_limit_ends_it(self) -> None:
        play = only([act("a", "play", 0), act("b", "skip", 200)], duration="200")
        assert end(play) == ("skipped", at(200), Decimal("200.000000"))

    def test_next_event_a_microsecond_later_does_not(self) -> None:
        play = only([act("a", "play", 0), act("b", "skip", 200 + MICRO)], duration="200")
        assert end(play) == ("completed", at(200), Decimal("200.000000"))

    def test_position_shortens_the_limit(self) -> None:
        play = only([act("a", "play", 0, position="150.5"), act("b", "pause", 50)], duration="200")
        assert end(play) == ("completed", at(49.5), Decimal("49.500000"))

    @pytest.mark.parametrize("position", ["200", "200.000001", "9999"])
    def test_nothing_remains_at_or_behind_the_end(self, position: str) -> None:
        play = only([act("a", "play", 0, position=position), act("b", "pause", 5)], duration="200")
        assert end(play) == ("completed", at(0), Decimal(0))

    def test_nothing_remains_but_the_next_event_is_at_the_same_instant(self) -> None:
        play = only([act("a", "play", 0, position="200"), act("b", "pause", 0)], duration="200")
        assert end(play) == ("paused", at(0), Decimal(0))

    def test_without_next_event_the_clock_must_have_passed_the_limit(self) -> None:
        assert end(only([act("a", "play", 0), later(200)], "200")) == ("open", None, None)
        ended = ("completed", at(200), Decimal("200.000000"))
        assert end(only([act("a", "play", 0), later(200 + MICRO)], "200")) == ended

    def test_a_late_event_of_the_same_user_closes_without_the_clock(self) -> None:
        # It is in the future of its record, so that the clock stays at 10 s; still it comes after the limit.
        late = act("b", "pause", 500, recorded=10)
        assert end(only([act("a", "play", 0), late], "200")) == ("completed", at(200), Decimal("200.000000"))

    def test_only_seeks_follow(self) -> None:
        seek = act("b", "seek", 201)
        ended = ("completed", at(200), Decimal("200.000000"))
        assert end(only([act("a", "play", 0), seek], "200")) == ended
        assert end(only([act("a", "play", 0), act("b", "seek", 150)], "200")) == ("open", None, None)


class TestLimitWithUnknownDuration:
    FOUR_HOURS = 4 * 3600

    def test_next_event_exactly_after_four_hours_ends_it(self) -> None:
        play = only([act("a", "play", 0), act("b", "pause", self.FOUR_HOURS)])
        assert end(play) == ("paused", at(self.FOUR_HOURS), Decimal("14400.000000"))

    def test_later_it_was_abandoned(self) -> None:
        play = only([act("a", "play", 0), act("b", "complete", self.FOUR_HOURS + MICRO)])
        assert end(play) == ("abandoned", None, None)
        assert (play["is_counted"], play["is_completed"]) == (False, False)

    def test_without_next_event_it_is_open_until_the_clock_has_passed(self) -> None:
        assert end(only([act("a", "play", 0), later(self.FOUR_HOURS)])) == ("open", None, None)
        abandoned = only([act("a", "play", 0), later(self.FOUR_HOURS + MICRO)])
        assert end(abandoned) == ("abandoned", None, None)

    def test_position_does_not_matter(self) -> None:
        play = only([act("a", "play", 0, position="9000"), act("b", "pause", self.FOUR_HOURS)])
        assert play["end_reason"] == "paused"


class TestClock:
    def test_is_the_greatest_of_the_earlier_times(self) -> None:
        ahead = act("a", "play", 5000, recorded=10)
        late = act("b", "play", 20, recorded=LONG_AFTER)
        assert stream_clock([ahead, late]) == at(20)

    def test_is_unknown_without_events(self) -> None:
        assert stream_clock([]) is None

    def test_a_wrong_clock_ahead_does_not_close_plays(self) -> None:
        ahead = act("b", "play", 5000, user="v", recorded=10)
        assert end(only([act("a", "play", 0), ahead], "200")) == ("open", None, None)

    def test_late_delivery_does_not_close_plays(self) -> None:
        late = act("b", "play", 20, user="v", recorded=LONG_AFTER)
        assert end(only([act("a", "play", 0), late], "200")) == ("open", None, None)


class TestKnownDuration:
    def test_is_the_latest_by_event_time(self) -> None:
        uploads = [upload("x", 50, duration="90"), upload("y", 10, duration="200")]
        assert known_durations(uploads) == {"m": Decimal("90.000000")}

    def test_ties_go_by_event_id(self) -> None:
        uploads = [upload("y", 10, duration="200"), upload("x", 10, duration="90")]
        assert known_durations(uploads) == {"m": Decimal("200.000000")}

    def test_events_without_one_leave_it(self) -> None:
        uploads = [upload("x", 10, duration="90"), upload("y", 50, status="removed")]
        assert known_durations(uploads) == {"m": Decimal("90.000000")}

    def test_applies_to_plays_before_it_was_known(self) -> None:
        actions = [act("a", "play", 0), act("b", "pause", 500)]
        play = playbacks(actions, [upload("up", 9999, duration="200")])[0]
        assert end(play) == ("completed", at(200), Decimal("200.000000"))

    def test_of_another_media_does_not_matter(self) -> None:
        play = playbacks(
            [act("a", "play", 0), act("b", "pause", 500)], [upload("up", media="n", duration="9")]
        )
        assert play[0]["end_reason"] == "paused"


def test_a_playback_carries_the_opening_events_context() -> None:
    opening = act("a", "play", 0, platform="tv", region="eu", server_id="s1")
    closing = act("b", "pause", 40, platform="web", region="us", server_id="s2")
    assert playbacks([opening, closing], []) == [
        {
            "playback_id": "a",
            "user_id": "u",
            "media_id": "m",
            "started_at": at(0),
            "ended_at": at(40),
            "end_reason": "paused",
            "watch_seconds": Decimal("40.000000"),
            "start_position_seconds": None,
            "is_counted": True,
            "is_completed": False,
            "platform": "tv",
            "region": "eu",
            "server_id": "s1",
        }
    ]


def test_seconds_round_half_up_to_six_decimals() -> None:
    assert seconds("1.0000005") == Decimal("1.000001")
    assert seconds(1811.5631578947368) == Decimal("1811.563158")
    assert seconds(3) == Decimal("3.000000")
