"""The identity of events in plain Python; the digests were made with printf and sha256sum."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from pipelines.simulate.identity import identity
from pipelines.simulate.reference import event_identity

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
ACTION = {"userId": "u", "action": "play", "timestamp": NOON, "mediaId": "m"}
CLOUD = {"ce_source": "/players/", "ce_id": "7"}


class TestEventIdentity:
    def test_is_the_digest_of_the_canonical_text(self) -> None:
        # printf 'user-action\nu\nplay\n2026-01-05T12:00:00.000000Z\nm' | sha256sum
        expected = "89b4dbddd4bba7ac06076488f288b2c0ff21623890d1a65f806266feca4d78d6"
        assert event_identity("user-action", ACTION) == expected

    def test_is_the_same_for_the_same_instant_in_another_offset(self) -> None:
        elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
        other = event_identity("user-action", {**ACTION, "timestamp": elsewhere})
        assert other == event_identity("user-action", ACTION)

    def test_fields_cannot_run_into_each_other(self) -> None:
        one = event_identity("user-action", {**ACTION, "userId": "u\nplay"})
        two = event_identity("user-action", {**ACTION, "userId": "u\\nplay"})
        assert one != two
        three = {"mediaId": "a\nb", "creatorId": "c", "title": "", "status": "s", "timestamp": NOON}
        four = {"mediaId": "a", "creatorId": "b\nc", "title": "", "status": "s", "timestamp": NOON}
        assert event_identity("content-upload", three) != event_identity("content-upload", four)

    def test_other_fields_do_not_matter(self) -> None:
        more = {**ACTION, "region": "eu"}
        assert event_identity("user-action", more) == event_identity("user-action", ACTION)

    def test_newlines_and_backslashes_are_escaped_and_text_is_utf8(self) -> None:
        # printf 'content-upload\na\\nb\\\\c\nc\nCaf\xc3\xa9\npublished\n2026-01-05T12:00:00.000000Z' | …
        event = {"mediaId": "a\nb\\c", "creatorId": "c", "title": "Café", "status": "published"}
        expected = "4d0e4a9c57a3c269e6d587d6abf3aa99c942f1afcf5d97f26c4a65560e8a4d67"
        assert event_identity("content-upload", {**event, "timestamp": NOON}) == expected

    def test_of_a_system_event(self) -> None:
        # printf 'system-event\ns\nstatus\n2026-01-05T12:00:00.000000Z' | sha256sum
        event = {"serverId": "s", "kind": "status", "timestamp": NOON}
        expected = "cfa288885671d5e99acd354c358fa9f79d6c67a8e53b8b90588c005ab4882668"
        assert event_identity("system-event", event) == expected


class TestIdentity:
    def test_event_id_comes_first(self) -> None:
        assert identity("user-action", {**ACTION, "eventId": "e"}, CLOUD) == "e"

    def test_then_the_cloud_events_headers(self) -> None:
        assert identity("user-action", {**ACTION, "eventId": None}, CLOUD) == "/players/|7"

    def test_source_and_id_cannot_run_into_each_other(self) -> None:
        pairs = [("/players/1", "11"), ("/players/11", "1"), ("/players/1|1", "1"), ("/players/1", "1|1")]
        cloud = [{"ce_source": source, "ce_id": own} for source, own in pairs]
        assert len({identity("user-action", ACTION, headers) for headers in cloud}) == len(pairs)

    def test_an_empty_one_is_none(self) -> None:
        assert identity("user-action", {**ACTION, "eventId": ""}, CLOUD) == "/players/|7"
        for empty in ({**CLOUD, "ce_id": ""}, {**CLOUD, "ce_source": ""}):
            assert identity("user-action", ACTION, empty) == event_identity("user-action", ACTION)

    def test_then_the_digest(self) -> None:
        assert identity("user-action", ACTION, {"ce_id": "7"}) == event_identity("user-action", ACTION)
