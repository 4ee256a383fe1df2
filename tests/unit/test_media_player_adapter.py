"""The adapter of the real media-player events; the counts were taken from the CSV by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.media_player import ACTIONS, adapt, main, read

SOURCE = Path(__file__).parents[2] / "data" / "media_player_events" / "events.csv"


@pytest.fixture(scope="module")
def envelopes() -> list[dict[str, Any]]:
    return list(adapt(read(SOURCE)))


def events(envelopes: list[dict[str, Any]], topic: str) -> list[dict[str, Any]]:
    return [json.loads(e["value"]) for e in envelopes if e["topic"] == topic]


def test_the_counts(envelopes: list[dict[str, Any]]) -> None:
    assert len(read(SOURCE)) == 248
    actions = Counter(event["action"] for event in events(envelopes, "media.user-actions"))
    assert actions == {"play": 78, "pause": 56, "seek": 43, "complete": 6}
    assert len(events(envelopes, "media.content-uploads")) == 3
    assert len(envelopes) == 183 + 3


def test_other_player_events_are_left_out() -> None:
    left_out = Counter(row["event_type"] for row in read(SOURCE) if row["event_type"] not in ACTIONS)
    assert left_out == {
        "playbackqualitychange": 48,
        "percentprogress": 9,
        "volumechange": 7,
        "playbackratechange": 1,
    }


def test_the_first_event_as_a_whole(envelopes: list[dict[str, Any]]) -> None:
    first = next(e for e in envelopes if e["topic"] == "media.user-actions")
    assert {name: first[name] for name in ("key", "headers", "timestamp_ms")} == {
        "key": "8386d9a2-fb0c-4567-b20a-a6c73c0d6e1c",
        "headers": {},
        "timestamp_ms": 1_642_506_987_816,  # 2022-01-18 11:56:27.816
    }
    assert json.loads(first["value"]) == {
        "schemaVersion": 2,
        "eventId": "99226fef-58b9-4501-89c5-818d53c50359",
        "userId": "8386d9a2-fb0c-4567-b20a-a6c73c0d6e1c",
        "action": "play",
        "timestamp": "2022-01-18T11:56:27.815Z",
        "mediaId": "html-dbt",
        "sessionId": "f93e8a1e-1fa0-444d-bf13-9cc5c2eecb34",
        "positionSeconds": 0.0,
        "device": {"platform": "web"},
    }


def test_the_media_are_published_at_their_first_event_with_their_duration(
    envelopes: list[dict[str, Any]],
) -> None:
    names = ("eventId", "mediaId", "creatorId", "title", "status", "timestamp", "durationSeconds")
    uploads = [tuple(u[name] for name in names) for u in events(envelopes, "media.content-uploads")]
    html, first, second = "html-dbt", "yt-dbt-coalesce-2021", "yt-dbt-coalesce-2022"
    assert uploads == [
        (f"{html}-published", html, "snowplow", html, "published", "2022-01-18T11:56:27.815Z", 1887.0),
        (f"{first}-published", first, "snowplow", first, "published", "2022-01-18T21:23:57.381Z", 1887.0),
        (f"{second}-published", second, "snowplow", second, "published", "2022-01-20T19:17:13.125Z", 1889.0),
    ]


def test_records_are_in_the_order_of_their_times(envelopes: list[dict[str, Any]]) -> None:
    times = [e["timestamp_ms"] for e in envelopes]
    assert times == sorted(times)


def test_what_the_source_leaves_empty() -> None:
    row = dict.fromkeys(read(SOURCE)[0], "")
    row |= {"event_id": "e", "user_id": "u", "media_id": "m", "event_type": "ended"}
    upload, action = adapt([{**row, "ts": "2022-01-18 11:56:28"}])
    assert (upload["timestamp_ms"], action["timestamp_ms"]) == (1_642_506_988_000, 1_642_506_988_000)
    event = json.loads(action["value"])
    assert (event["action"], event["timestamp"]) == ("complete", "2022-01-18T11:56:28.000Z")
    assert "positionSeconds" not in event
    assert "durationSeconds" not in json.loads(upload["value"])


def test_as_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "events.ndjson"
    assert main([str(SOURCE), str(target)]) == 0
    assert capsys.readouterr().out == f"wrote 186 events to {target}\n"
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert written == list(adapt(read(SOURCE)))
    assert main([]) == 2
