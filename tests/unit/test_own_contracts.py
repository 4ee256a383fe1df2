"""Contracts as others may write them: the stream accepts what JSON Schema accepts, and nothing stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from encoded import WAYS, bronze, encoded
from pyspark.sql import functions as F
from test_decode import LIMITS, NOON, PLAY, records
from test_encodings import Told as Registry

from pipelines.config import Config
from pipelines.contracts import avro, decode, json_batches, load, protobuf, referee
from pipelines.contracts.reading import Told
from pipelines.contracts.referee import Verdict, judge
from pipelines.engine.sorting import sort_out

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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

    def add(fields: Json, files: dict[str, str] | None = None, **keywords: Any) -> None:
        schema = json.loads((folder / "user-action" / "2" / "schema.json").read_text())
        schema["properties"] |= fields
        version = folder / "user-action" / str(VERSION)
        version.mkdir()
        for name, text in {"schema.json": json.dumps(schema | keywords), **(files or {})}.items():
            (version / name).write_text(text)
        _forget()

    yield add
    monkeypatch.undo()
    _forget()


def play(more: str, version: int = VERSION) -> bytes:
    """A play with more fields, written as JSON."""
    return (json.dumps({**PLAY, "schemaVersion": version})[:-1] + f", {more}}}").encode()


def verdict_on(more: str) -> Verdict:
    return judge("user-action", play(more), Told(NOON), LIMITS, {})


def codes(verdict: Verdict) -> list[tuple[str, str]]:
    return [(reason.code, reason.field) for reason in verdict.reasons]


def who_takes(spark: SparkSession, values: list[bytes]) -> list[str]:
    """For each record whether the stream or the referee accepts it, or it is held."""
    accepted = decode.decode(records(spark, values), LIMITS).where("accepted").select("offset").collect()
    by_stream = {row.offset for row in accepted}
    verdicts = [judge("user-action", value, Told(NOON), LIMITS, {}) for value in values]
    texts = {n: v for n, v in enumerate(verdicts) if v.text is not None}
    assert by_stream <= texts.keys(), "what the stream accepts, the contract accepts"
    canonical = records(spark, [v.text.encode() for v in texts.values() if v.text])
    version = F.element_at(
        F.array(*[F.lit(v.version) for v in texts.values()]), F.col("offset").cast("int") + 1
    )
    again = decode.decode(canonical, LIMITS, version)
    assert again.where("accepted").count() == len(texts), "what the referee accepts must decode"
    takers = {**dict.fromkeys(texts, "referee"), **dict.fromkeys(by_stream, "stream")}
    return [takers.get(number, "held") for number in range(len(values))]


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


def test_a_reason_can_be_written_whatever_the_events_names(own: Own) -> None:
    own({}, additionalProperties={"type": "number"})
    (code, field), *_ = codes(verdict_on(r'"\ud800": "x"'))
    assert (code, field.encode()) == ("wrong_type", rb"\ud800")


def test_a_contract_is_judged_by_the_draft_that_it_names(own: Own) -> None:
    own({}, **{"$schema": DRAFT_2020, "dependentRequired": {"sessionId": ["region"]}})
    assert codes(verdict_on('"sessionId": "s"')) == [("dependentRequired", "")]
    assert verdict_on('"sessionId": "s", "region": "eu"').text is not None


def test_what_is_nested_too_deeply_to_be_judged_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*given: Any) -> Any:
        return endless(*given)

    monkeypatch.setattr(referee, "_faults", endless)
    assert codes(judge("user-action", json.dumps(PLAY).encode(), Told(NOON), LIMITS, {})) == [
        ("too_deep", "")
    ]


DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
TEXT = {"type": ["string", "null"]}
IF_PLAY = {"properties": {"action": {"const": "play"}}, "required": ["action"]}


def device(**fields: Any) -> Json:
    return {"device": {"type": ["object", "null"], "properties": fields}}


@pytest.mark.parametrize(
    ("fields", "keywords", "taken"),
    [
        pytest.param(
            device(platform={**TEXT, "maxLength": 2}),
            {},
            {'"device": {"platform": "tv"}': "referee", '"device": {"platform": "web"}': "held"},
            id="an unknown keyword inside an object",
        ),
        pytest.param(
            device(screen={"type": "object", "properties": {"name": {**TEXT, "pattern": "^a"}}}),
            {},
            {'"device": {"screen": {"name": "b"}}': "held", '"region": "eu"': "referee"},
            id="and two levels down",
        ),
        pytest.param(
            device(screen={"type": "object", "properties": {"name": TEXT}, "required": ["name"]}),
            {},
            {'"device": {"screen": {}}': "held", '"device": {"screen": {"name": "x"}}': "referee"},
            id="a required field inside an object",
        ),
        pytest.param(
            {"tags": {"type": "array", "items": {"type": "string", "enum": ["a"]}}},
            {},
            {'"tags": ["b"]': "held", '"tags": ["a"]': "referee"},
            id="items of an enum",
        ),
        pytest.param(
            {"tags": {"type": "array", "items": {"type": "string", "description": "A tag."}}},
            {},
            {'"tags": ["b"]': "stream", '"tags": null': "held"},
            id="items with a note",
        ),
        pytest.param(
            {"region": {**TEXT, "enum": ["eu"]}, "sessionId": {**TEXT, "const": "s"}},
            {},
            {
                '"region": null': "held",
                '"sessionId": null': "held",
                '"region": "us"': "held",
                '"region": "eu"': "stream",
                '"sessionId": "s"': "stream",
            },
            id="an enum without the null of its type",
        ),
        pytest.param(
            {},
            {"if": IF_PLAY, "then": {"properties": {"region": {"enum": ["eu"]}}}},
            {'"region": null': "held", '"region": "us"': "held", '"region": "eu"': "stream"},
            id="the same in a then",
        ),
        pytest.param(
            {"positionSeconds": NUMBER},
            {
                "if": {"properties": {"positionSeconds": {"minimum": 5}}, "required": ["positionSeconds"]},
                "then": {"required": ["region"]},
            },
            {'"positionSeconds": 5': "held", '"positionSeconds": 4': "referee"},
            id="a minimum in an if",
        ),
        pytest.param(
            {},
            {"if": {"required": ["sessionId"]}, "then": {"required": ["region"]}},
            {'"sessionId": null': "held", '"sessionId": "s"': "held", '"region": "eu"': "referee"},
            id="an if that null fulfils",
        ),
        pytest.param(
            {},
            {"if": {"properties": {"positionSeconds": {"type": "string"}}}, "then": {"required": ["region"]}},
            {'"positionSeconds": 5': "referee", '"sessionId": "s"': "held"},
            id="an if of another type",
        ),
        pytest.param(
            {"positionSeconds": {**NUMBER, "enum": [1]}},
            {},
            {'"positionSeconds": 1': "referee", '"positionSeconds": 1.00000000000000000001': "held"},
            id="an enum of numbers",
        ),
        pytest.param(
            {"sessionId": {**TEXT, "format": "email"}},
            {},
            {'"sessionId": "x"': "held", '"sessionId": "a@b.c"': "referee"},
            id="another format",
        ),
        pytest.param(
            {"startedAt": TIME},
            {},
            {
                '"startedAt": "0999-01-05T11:00:00Z"': "stream",
                '"startedAt": "2026-01-05t11:00:00z"': "referee",
                '"startedAt": "2026-01-05T11:00:00.1234567891Z"': "referee",
                '"startedAt": "2026-01-05T11:00:00+18:01"': "held",
                '"startedAt": "2026-01-05"': "held",
            },
            id="a second time",
        ),
        pytest.param(
            {},
            {"if": True, "then": {"required": ["nobody"], "properties": {"nothing": False}}},
            {'"nobody": 1': "referee", '"nothing": 1': "held"},
            id="fields that are not declared, and schemas that are true or false",
        ),
        pytest.param(
            {},
            {"$schema": DRAFT_2020, "dependentRequired": {"sessionId": ["region"]}},
            {
                '"sessionId": "s"': "held",
                '"sessionId": "s", "region": "eu"': "referee",
                '"region": "eu"': "referee",
            },
            id="a keyword of a later draft",
        ),
        pytest.param(
            {"tags": {"type": "array", "items": {"type": "string"}}, "startedAt": TIME},
            {"$schema": DRAFT_2020, "if": IF_PLAY, "then": {"required": ["region"]}},
            {
                '"region": "eu", "tags": ["a"]': "stream",
                '"region": "eu", "tags": [1]': "held",
                '"region": "eu", "startedAt": "soon"': "held",
                '"tags": ["a"]': "held",
            },
            id="a later draft of which all is compiled",
        ),
        pytest.param(
            {},
            {"if": IF_PLAY, "then": {"properties": {"positionSeconds": {"minimum": 1.1}}}},
            {
                '"positionSeconds": 1.2': "stream",
                '"positionSeconds": 1.1': "referee",
                '"positionSeconds": 1.09999999999999999999': "held",
            },
            id="a minimum in a then",
        ),
    ],
)
def test_the_stream_accepts_no_more_than_json_schema(
    own: Own, spark: SparkSession, fields: Json, keywords: Json, taken: dict[str, str]
) -> None:
    own(fields, **keywords)
    found = who_takes(spark, [play(more) for more in taken])
    assert dict(zip(taken, found, strict=True)) == taken


def test_an_older_version_keeps_its_minimum(own: Own, spark: SparkSession) -> None:
    own({"positionSeconds": NUMBER})
    least = '"positionSeconds": -1e-400'
    assert who_takes(spark, [play(least, 2), play(least, 3), play('"positionSeconds": 0', 2)]) == [
        "held",
        "referee",
        "stream",
    ]


def test_versions_may_differ_inside_objects_and_in_their_order(own: Own, spark: SparkSession) -> None:
    version_2 = SCHEMAS / "user-action" / "2"
    avro_2 = json.loads((version_2 / "schema.avsc").read_text())
    inner = next(field for field in avro_2["fields"] if field["name"] == "device")["type"][1]
    inner["fields"] = [{**inner["fields"][0], "name": "model"}, *reversed(inner["fields"])]
    line = "optional string app_version = 2;"
    proto = (version_2 / "schema.proto").read_text().replace(line, f"{line} optional string model = 3;")
    fields = device(platform=TEXT, appVersion=TEXT, model=TEXT)
    own(fields, {"schema.avsc": json.dumps(avro_2), "schema.proto": proto})
    whole = {"platform": "tv", "appVersion": "1"}
    told = {**whole, "model": "x"}
    events = [PLAY, *({**PLAY, "device": one} for one in (whole, {"platform": "tv"}, {}))]
    sent = [encoded(event, "user-action", 2, way) for event in events for way in WAYS]
    sent += [encoded({**PLAY, "device": told}, "user-action", 3, way) for way in WAYS]
    # Version 2 knows no model: that of a JSON event is its producer's own.
    sent.append(encoded({**PLAY, "device": told}, "user-action", 2, "json"))
    found = sort_out(bronze(spark, sent), Config(), Registry()).events  # type: ignore[arg-type]
    names = [decode.field("user-action", f"device.{name}").alias(name) for name in told]
    rows = [tuple(row)[1:] for row in found.select("offset", *names).sort("offset").collect()]
    known = [(None, None, None), ("tv", "1", None), ("tv", None, None), (None, None, None), ("tv", "1", "x")]
    assert rows == [*[row for row in known for _ in WAYS], ("tv", "1", None)]
