"""Contracts as others may write them: the stream accepts what JSON Schema accepts, and nothing stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_decode import LIMITS, NOON, PLAY

from pipelines.contracts import avro, decode, json_batches, load, protobuf, referee
from pipelines.contracts.reading import Told
from pipelines.contracts.referee import Verdict, judge

SCHEMAS = Path(__file__).parents[2] / "schemas"
VERSION = 3
Json = dict[str, Any]
Own = Callable[..., None]


def _forget() -> None:
    """What is kept of the contracts for the life of a process."""
    for module in (load, decode, json_batches, referee, avro, protobuf):
        for kept in vars(module).values():
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Adds a version 3 of user-action: version 2 with other fields and keywords."""
    folder = tmp_path / "schemas"
    shutil.copytree(SCHEMAS, folder)
    monkeypatch.setattr(load, "_FOLDERS", (folder,))

    def add(fields: Json, **keywords: Any) -> None:
        schema = json.loads((folder / "user-action" / "2" / "schema.json").read_text())
        schema["properties"] |= fields
        version = folder / "user-action" / str(VERSION)
        version.mkdir()
        (version / "schema.json").write_text(json.dumps(schema | keywords))
        _forget()

    yield add
    monkeypatch.undo()
    _forget()


def verdict_on(more: str) -> Verdict:
    """The verdict on a play with more fields, written as JSON."""
    value = json.dumps({**PLAY, "schemaVersion": VERSION})[:-1] + f", {more}}}"
    return judge("user-action", value.encode(), Told(NOON), LIMITS, {})


def codes(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.code, reason.field) for reason in verdict.reasons]


NUMBER = {"type": ["number", "null"]}
TIME = {"type": ["string", "null"], "format": "date-time"}


def test_numbers_and_times_inside_objects_are_judged(own: Own) -> None:
    screen = {"type": "object", "properties": {"inches": NUMBER, "madeAt": TIME}}
    own({"device": {"type": ["object", "null"], "properties": {"screen": screen}}})
    assert codes(verdict_on('"device": {"screen": {"inches": 1e30}}')) == [
        ("out_of_range", "device.screen.inches")
    ]
    assert codes(verdict_on('"device": {"screen": {"madeAt": "2026-01-05T11:00:00+19:00"}}')) == [
        ("bad_timestamp", "device.screen.madeAt")
    ]
    told = '{"inches": 5.12345678, "madeAt": "2026-01-05t13:00:00.1234567891+02:00", "x": 1}'
    text = verdict_on(f'"device": {{"screen": {told}}}').text
    assert text is not None
    assert json.loads(text)["device"] == {
        "screen": {"inches": 5.123457, "madeAt": "2026-01-05T11:00:00.123456Z"}
    }


def test_a_second_time_of_an_event_is_told_as_the_first(own: Own) -> None:
    own({"startedAt": TIME})
    text = verdict_on('"startedAt": "1026-01-05t11:00:00.1234567891z"').text  # of any year
    assert text is not None
    assert json.loads(text)["startedAt"] == "1026-01-05T11:00:00.123456Z"
    assert codes(verdict_on('"startedAt": "soon"')) == [("bad_timestamp", "startedAt")]


def test_what_a_keyword_stumbles_over_is_held(own: Own) -> None:
    own({"positionSeconds": {**NUMBER, "multipleOf": 0.5}})
    (reason,) = verdict_on('"positionSeconds": 1e30').reasons
    assert reason.code == "undecodable"
    assert "InvalidOperation" in reason.message


def test_what_is_nested_too_deeply_to_be_judged_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*given: Any) -> Any:
        return endless(*given)

    monkeypatch.setattr(referee, "_faults", endless)
    assert codes(judge("user-action", json.dumps(PLAY).encode(), Told(NOON), LIMITS, {})) == [
        ("too_deep", "")
    ]
