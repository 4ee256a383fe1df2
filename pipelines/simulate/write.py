"""Writes a simulation into a folder: the records to publish, and the truth beside them.

- `events.ndjson`: one envelope a line, in delivery order, as `reelhouse produce` publishes them: `topic`,
  `key`, `value` (text, or null for a tombstone) or `value_base64` (bytes that are not UTF-8), `headers`,
  `timestamp_ms`.
- `truth/counts.json`, and `truth/<table>.ndjson` for each gold table that `reference.py` defines.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.errors import ReelhouseError
from pipelines.simulate.model import DEFAULT_START, simulate
from pipelines.simulate.records import CONTENT_UPLOAD, SYSTEM_EVENT, USER_ACTION, Delivery, from_milliseconds
from pipelines.simulate.truth import Counts, Truth, to_json

EVENTS_FILE, TRUTH_FOLDER, COUNTS_FILE = "events.ndjson", "truth", "counts.json"
TOPICS: Mapping[str, str] = {
    USER_ACTION: "media.user-actions",
    CONTENT_UPLOAD: "media.content-uploads",
    SYSTEM_EVENT: "media.system-events",
}
"""Topic by event type."""

Progress = Callable[[int, float], None]
"""Called now and then with: records written (count), share of the simulated time that is done (0 to 1)."""

_PROGRESS_EVERY = 2_000


def write_simulation(
    directory: str | Path,
    users: int,
    days: int,
    seed: int,
    *,
    start: datetime = DEFAULT_START,
    topics: Mapping[str, str] = TOPICS,
    on_progress: Progress | None = None,
) -> Counts:
    """Write `events.ndjson` and `truth/` into `directory`, replacing what was there; returns the counts.

    The same arguments write the same bytes. The truth needs memory for every valid event: about 1 KB each.
    Raises ReelhouseError (`not_writable`) for a folder that cannot be written.
    """
    folder = _make_folder(Path(directory))
    truth = Truth()
    with (folder / EVENTS_FILE).open("w", encoding="utf-8", newline="\n") as file:
        for written, delivery in enumerate(simulate(users, days, seed, start), 1):
            truth.add(delivery)
            file.write(json.dumps(envelope(delivery, topics), ensure_ascii=False) + "\n")
            if on_progress and written % _PROGRESS_EVERY == 0:
                gone = from_milliseconds(delivery.timestamp_ms) - start
                on_progress(written, min(1.0, max(0.0, gone.total_seconds() / (days * 86_400))))
    for table, rows in truth.tables().items():
        _write_rows(folder / TRUTH_FOLDER / f"{table}.ndjson", rows)
    facts = {"users": users, "days": days, "seed": seed, "start": to_json(start)}
    counts = json.dumps(facts | truth.counts.to_json(), indent=2)
    (folder / TRUTH_FOLDER / COUNTS_FILE).write_text(counts + "\n", encoding="utf-8")
    return truth.counts


def _make_folder(folder: Path) -> Path:
    try:
        (folder / TRUTH_FOLDER).mkdir(parents=True, exist_ok=True)
        (folder / EVENTS_FILE).touch()
    except OSError as error:
        message = f"the folder {folder} cannot be written ({error.strerror}); choose another with --out"
        raise ReelhouseError(message, code="not_writable") from error
    return folder


def envelope(delivery: Delivery, topics: Mapping[str, str] = TOPICS) -> dict[str, Any]:
    """The line of a delivery, as `reelhouse produce` reads it."""
    return {
        "topic": topics[delivery.event_type],
        "key": delivery.key,
        **_value(delivery.value),
        "headers": dict(delivery.headers),
        "timestamp_ms": delivery.timestamp_ms,
    }


def _value(value: bytes | None) -> dict[str, str | None]:
    try:
        return {"value": None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value or b"").decode()}


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            plain = {name: to_json(value) for name, value in row.items()}
            file.write(json.dumps(plain, ensure_ascii=False) + "\n")
