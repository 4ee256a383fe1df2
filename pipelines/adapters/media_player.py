"""Maps Snowplow media-player events (CSV) to envelopes for `reelhouse produce`.

Source: `data/media_player_events/events.csv`, 248 events of the integration tests of
snowplow/dbt-snowplow-media-player, tag 0.5.3.

| player event | becomes | events |
| --- | --- | --- |
| `play` | user-action `play` (the player tells no `resume` apart) | 78 |
| `pause` | user-action `pause` | 56 |
| `seek`, `seeked` | user-action `seek` | 43 |
| `ended` | user-action `complete` | 6 |
| `playbackqualitychange`, `percentprogress`, `volumechange`, `playbackratechange` | left out | 65 |
| the first event of a media | content-upload `published`, and its duration | 3 |

User actions are version 2: `eventId`, `sessionId`, `positionSeconds` from the player, `timestamp` = `ts`,
platform `web`. The record's time is `collector_ts`, or `ts` when that is empty. An upload says `published` at
the time of the media's first event, with title = media id and creator `snowplow`. No server is known, so
there are no system events.

    python -m pipelines.adapters.media_player data/media_player_events/events.csv OUT.ndjson
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ACTIONS = {"play": "play", "pause": "pause", "seek": "seek", "seeked": "seek", "ended": "complete"}
"""User action by player event; every other player event is left out."""
TOPICS: Mapping[str, str] = {"user-action": "media.user-actions", "content-upload": "media.content-uploads"}
"""Topic by event type."""
CREATOR = "snowplow"

Row = Mapping[str, str]
Envelope = dict[str, Any]


def adapt(rows: Iterable[Row], topics: Mapping[str, str] = TOPICS) -> Iterator[Envelope]:
    """The envelopes of player events, in the order of their record times; uploads before actions."""
    ordered = sorted(rows, key=lambda row: _time(row["ts"]))
    uploads = [_upload(row, topics["content-upload"]) for row in _first_of_each_media(ordered)]
    actions = [_action(row, topics["user-action"]) for row in ordered if row["event_type"] in ACTIONS]
    yield from sorted(uploads + actions, key=lambda envelope: int(envelope["timestamp_ms"]))


def read(path: Path) -> list[Row]:
    """The rows of a CSV file of player events."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(source: Path, target: Path, topics: Mapping[str, str] = TOPICS) -> int:
    """Adapt the CSV file `source` into the NDJSON file `target`; returns the number of envelopes."""
    lines = [json.dumps(envelope, ensure_ascii=False) for envelope in adapt(read(source), topics)]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def _first_of_each_media(ordered: Iterable[Row]) -> list[Row]:
    first: dict[str, Row] = {}
    for row in ordered:
        first.setdefault(row["media_id"], row)
    return list(first.values())


def _action(row: Row, topic: str) -> Envelope:
    event: dict[str, Any] = {
        "schemaVersion": 2,
        "eventId": row["event_id"],
        "userId": row["user_id"],
        "action": ACTIONS[row["event_type"]],
        "timestamp": _rfc3339(row["ts"]),
        "mediaId": row["media_id"],
        "sessionId": row["session_id"],
        "device": {"platform": "web"},
    }
    if row["position_sec"]:
        event["positionSeconds"] = float(row["position_sec"])
    return _envelope(topic, row["user_id"], event, row["collector_ts"] or row["ts"])


def _upload(row: Row, topic: str) -> Envelope:
    event: dict[str, Any] = {
        "eventId": f"{row['media_id']}-published",
        "mediaId": row["media_id"],
        "creatorId": CREATOR,
        "title": row["media_id"],
        "status": "published",
        "timestamp": _rfc3339(row["ts"]),
    }
    if row["duration_sec"]:
        event["durationSeconds"] = float(row["duration_sec"])
    return _envelope(topic, row["media_id"], event, row["ts"])


def _envelope(topic: str, key: str, event: dict[str, Any], recorded: str) -> Envelope:
    return {
        "topic": topic,
        "key": key,
        "value": json.dumps(event, ensure_ascii=False, separators=(",", ":")),
        "headers": {},
        "timestamp_ms": _milliseconds(_time(recorded)),
    }


def _time(text: str) -> datetime:
    """`2022-01-18 11:56:27.815`, UTC; the source cuts trailing zeros of the fraction, and maybe all of it."""
    layout = "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S"
    return datetime.strptime(text, layout).replace(tzinfo=timezone.utc)


def _rfc3339(text: str) -> str:
    return _time(text).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def main(arguments: Sequence[str]) -> int:
    """`IN.csv OUT.ndjson`: exit code 0, or 2 when they are not given."""
    if len(arguments) != 2:
        print("usage: python -m pipelines.adapters.media_player IN.csv OUT.ndjson", file=sys.stderr)
        return 2
    count = write(Path(arguments[0]), Path(arguments[1]))
    print(f"wrote {count} events to {arguments[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
