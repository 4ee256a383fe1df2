"""The contracts' files agree, released ones never change, and it is told what a new one breaks for whom."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main as cli
from pipelines.contracts import load, protobuf
from pipelines.contracts.agreement import disagreements
from pipelines.contracts.compatibility import MODES, Direction, breaks, breaks_of
from pipelines.contracts.load import Contract, Settings
from pipelines.contracts.released import fingerprints
from pipelines.contracts.schema_ids import match
from pipelines.errors import ReelhouseError

SCHEMAS = Path(__file__).parents[2] / "schemas"

Json = dict[str, Any]

OPTIONAL_TEXT: Json = {"type": ["string", "null"]}
KIND = {"type": "string", "enum": ["start", "stop"]}
SCHEMA: Json = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": "urn:test:shift:1",
    "title": "shift",
    "type": "object",
    "required": ["timestamp", "kind"],
    "properties": {
        "timestamp": {"type": "string", "format": "date-time"},
        "kind": KIND,
        "loadPercent": {"type": ["number", "null"], "minimum": 0},
        "tags": {"type": ["array", "null"], "items": {"type": "string"}},
        "device": {"type": ["object", "null"], "properties": {"appVersion": {"type": ["string", "null"]}}},
        "title": {"type": ["string", "null"], "description": "A field whose name is a keyword."},
    },
}
DEVICE: Json = {
    "type": "record",
    "name": "Device",
    "fields": [{"name": "appVersion", "type": ["null", "string"], "default": None}],
}
AVRO: Json = {
    "type": "record",
    "name": "Shift",
    "namespace": "test",
    "fields": [
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["start", "stop"]}},
        {"name": "loadPercent", "type": ["null", "double"], "default": None},
        {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": None},
        {"name": "device", "type": ["null", DEVICE], "default": None},
        {"name": "title", "type": ["null", "string"], "default": None},
    ],
}
PROTO = """syntax = "proto3";
package test;
import "google/protobuf/timestamp.proto";
// A shift.
message Shift {
  enum Kind {
    KIND_UNSPECIFIED = 0;
    KIND_START = 1;
    KIND_STOP = 2;
  }
  message Device {
    optional string app_version = 1;
  }
  optional google.protobuf.Timestamp timestamp = 1;
  optional Kind kind = 2;
  optional double load_percent = 3;
  repeated string tags = 4;
  optional Device device = 5;
  optional string title = 6;
}
"""


def copied(value: Json) -> Json:
    return json.loads(json.dumps(value))


def write(folder: Path, schema: Json = SCHEMA, avro: Json = AVRO, proto: str = PROTO) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "schema.avsc").write_text(json.dumps(avro))
    (folder / "schema.proto").write_text(proto)


Make = Callable[..., Contract]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a version's files and loads them."""

    def made(version: int = 1, schema: Json = SCHEMA, **files: Any) -> Contract:
        folder = tmp_path / str(version)
        write(folder, schema, **files)
        return Contract("shift", version, schema, folder)

    return made


def with_field(name: str, field: Json | None, required: bool | None = None) -> Json:
    """The schema with another field, or without one."""
    schema = copied(SCHEMA)
    schema["properties"].pop(name, None)
    if field is not None:
        schema["properties"][name] = field
    if required is not None:
        others = [one for one in schema["required"] if one != name]
        schema["required"] = [*others, name] if required else others
    return schema


def with_avro(of: str, **changed: Any) -> Json:
    avro = copied(AVRO)
    next(field for field in avro["fields"] if field["name"] == of).update(changed)
    return avro


# Agreement


def test_files_that_say_the_same_agree(make: Make) -> None:
    assert disagreements(make()) == []


def without_default(avro: Json) -> Json:
    avro["fields"][2].pop("default")
    return avro


def reordered(avro: Json) -> Json:
    avro["fields"].reverse()
    return avro


@pytest.mark.parametrize(
    ("avro", "sentence"),
    [
        (reordered(copied(AVRO)), "its first field is title; it must be timestamp"),
        (
            without_default(copied(AVRO)),
            'loadPercent is optional (without "default": null) number; by schema.json it is optional number',
        ),
        (with_avro("title", name="name"), "title is missing; schema.json has it"),
        (with_avro("title", name="name"), "name is not in schema.json"),
        (
            with_avro("kind", type={"type": "enum", "name": "Kind", "symbols": ["stop", "start"]}),
            "kind is required string, one of stop, start; "
            "by schema.json it is required string, one of start, stop",
        ),
        (
            with_avro("kind", type="string"),
            "kind is required string; by schema.json it is required string, one of start, stop",
        ),
        (
            with_avro("loadPercent", type="double"),
            "loadPercent is required number; by schema.json it is optional number",
        ),
        (
            with_avro("loadPercent", type=["null", "float"]),
            "loadPercent is optional float; by schema.json it is optional number",
        ),
        (
            with_avro("timestamp", type={"type": "long", "logicalType": "timestamp-millis"}),
            "timestamp is required long (timestamp-millis); by schema.json it is required date-time",
        ),
        (
            with_avro("tags", type=["null", {"type": "array", "items": "long"}]),
            "tags is optional array of long; by schema.json it is optional array of string",
        ),
        (
            with_avro("device", type=["null", {**DEVICE, "fields": []}]),
            "device.appVersion is missing; schema.json has it",
        ),
        ({"type": "array", "items": "string"}, "it is of type array; it must be a record"),
    ],
)
def test_avro_that_says_otherwise_is_told(make: Make, avro: Json, sentence: str) -> None:
    assert f"shift 1, schema.avsc: {sentence}" in disagreements(make(avro=avro))


@pytest.mark.parametrize(
    ("line", "instead", "sentence"),
    [
        ("optional string title = 6;", "", "title is missing; schema.json has it"),
        ("string title = 6;", "string title = 6; optional string more = 7;", "more is not in schema.json"),
        ("optional double", "optional float", "loadPercent is float; by schema.json it is number"),
        ("optional double", "double", "is number (not declared optional, so that missing is read as empty)"),
        ("optional double load_percent = 3;", "oneof one { double load_percent = 3; }", "number in a oneof"),
        ("repeated string", "optional string", "tags is string; by schema.json it is array of string"),
        ("optional google.protobuf.Timestamp", "optional string", "by schema.json it is date-time"),
        ("optional string app_version = 1;", "", "device.appVersion is missing; schema.json has it"),
        ("KIND_STOP = 2", "KIND_STOP = 2; KIND_LATE = 3", "kind is string, one of start, stop, late;"),
        ("KIND_STOP = 2", "STOP = 2", "kind is string, one of start, STOP;"),
        ("KIND_UNSPECIFIED", "KIND_NONE", "whose value 0 is not …_UNSPECIFIED"),
        ("load_percent = 3", "loadPercent = 3", "loadPercent in Shift must be written in snake_case"),
        ("message Shift", "message Other {}\nmessage Shift", "it has 2 messages; it must have one"),
        ("message Shift {", "enum Room { A = 0; }\nmessage Shift {", "the enum Room is beside the message;"),
        ('syntax = "proto3"', 'syntax = "proto2"', 'it must begin with syntax = "proto3"'),
    ],
)
def test_protobuf_that_says_otherwise_is_told(make: Make, line: str, instead: str, sentence: str) -> None:
    told = disagreements(make(proto=PROTO.replace(line, instead)))
    assert [one for one in told if one.startswith("shift 1, schema.proto: ") and sentence in one], told


def test_a_value_that_not_all_formats_can_say_is_told(make: Make) -> None:
    schema = with_field("kind", {"type": "string", "enum": ["start-up", "stop"]})
    (told, *_) = disagreements(make(schema=schema))
    assert told == (
        "shift 1, schema.json: kind has the value 'start-up'; "
        "only a-z, 0-9 and _ can be said in all three files"
    )


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (
            with_field("tags", {"type": "array", "items": {"type": "number"}}),
            "tags is array of number; it must",
        ),
        (
            with_field("tags", {"type": ["array", "null"]}),
            "tags is array of untyped; it must be array of string",
        ),
        (
            with_field("title", OPTIONAL_TEXT, required=True),
            "title is required and may be null, which only JSON",
        ),
        (
            with_field("device", {**SCHEMA["properties"]["device"], "required": ["appVersion"]}),
            "device.appVersion is required and may be null",
        ),
    ],
)
def test_a_field_that_no_row_can_hold_is_told(make: Make, schema: Json, sentence: str) -> None:
    told = disagreements(make(schema=schema))
    assert [one for one in told if one.startswith(f"shift 1, schema.json: {sentence}")], told


def test_a_message_needs_no_package(make: Make) -> None:
    contract = make(proto=PROTO.replace("package test;\n", ""))
    assert disagreements(contract) == []
    event = {"timestamp": "2026-01-05T11:00:00.000000Z", "kind": "stop"}
    assert protobuf.read(protobuf.write(event, contract), contract) == event


def test_a_field_without_a_type_is_told(make: Make) -> None:
    for field in (True, {}):
        schema = copied(SCHEMA)
        schema["properties"]["title"] = field
        expected = "title is optional string; by schema.json it is optional untyped"
        assert f"shift 1, schema.avsc: {expected}" in disagreements(make(schema=schema))


def test_what_is_no_json_schema_is_told(make: Make) -> None:
    (told,) = disagreements(make(schema=with_field("kind", {"type": "text"})))
    assert told.startswith("shift 1, schema.json is no JSON Schema: 'text'")


@pytest.mark.parametrize(
    "named",
    [
        *("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft-07/schema"),
        *("https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema#"),
    ],
)
def test_a_schema_may_be_of_a_later_draft(make: Make, named: str) -> None:
    assert disagreements(make(schema={**SCHEMA, "$schema": named})) == []
    wrong = {**SCHEMA, "$schema": named, "dependentRequired": {"tags": "title"}}
    told = disagreements(make(schema=wrong))
    assert bool(told) == ("draft-07" not in named)  # which does not know the word
    assert all("is no JSON Schema: 'title' is not of type 'array'" in one for one in told)


@pytest.mark.parametrize(
    "named", ["http://json-schema.org/draft-04/schema#", "https://json-schema.org/2020-12/schema", 7]
)
def test_a_schema_of_another_draft_is_told(make: Make, named: Any) -> None:
    (told,) = disagreements(make(schema={**SCHEMA, "$schema": named}))
    assert told.startswith(f"shift 1, schema.json: $schema is {named!r}; it must be one of json-schema.org/")


@pytest.mark.parametrize("file", ["schema.avsc", "schema.proto"])
@pytest.mark.parametrize("content", ["{", None])
def test_a_file_that_cannot_be_read_is_an_error_with_its_name(
    make: Make, file: str, content: str | None
) -> None:
    contract = make()
    if content is None:
        (contract.folder / file).unlink()
    else:
        (contract.folder / file).write_text(content)
    with pytest.raises(ReelhouseError, match=f"{file} cannot be read") as raised:
        disagreements(contract)
    assert raised.value.code == "contract_unreadable"


# Compatibility


def told(old: Contract, new: Contract, direction: Direction, format_name: str) -> list[str]:
    found = [one for one in breaks(old, new, direction) if one.format == format_name]
    return [str(one).partition(": a consumer that reads by version ")[2] for one in found]


BACKWARD, FORWARD = Direction.BACKWARD, Direction.FORWARD


def added() -> dict[str, Any]:
    """The files with an optional field, room, more."""
    avro = copied(AVRO)
    avro["fields"].append({"name": "room", "type": ["null", "string"], "default": None})
    proto = PROTO.replace("title = 6;", "title = 6; optional string room = 7;")
    return {"schema": with_field("room", OPTIONAL_TEXT), "avro": avro, "proto": proto}


@pytest.mark.parametrize("direction", list(Direction))
def test_an_optional_field_more_breaks_nobody(make: Make, direction: Direction) -> None:
    assert breaks(make(1), make(2, **added()), direction) == []


def test_an_enum_value_more_breaks_who_reads_by_the_old_version_in_every_format(make: Make) -> None:
    symbols = {"type": "enum", "name": "Kind", "symbols": ["start", "stop", "late"]}
    new = make(
        2,
        with_field("kind", {"type": "string", "enum": ["start", "stop", "late"]}),
        avro=with_avro("kind", type=symbols),
        proto=PROTO.replace("KIND_STOP = 2;", "KIND_STOP = 2; KIND_LATE = 3;"),
    )
    assert breaks(make(1), new, BACKWARD) == []
    assert [str(one) for one in breaks(make(1), new, FORWARD)] == [
        "shift 2 → 1 (json): a consumer that reads by version 1 refuses kind 'late', "
        "which producers of version 2 send",
        "shift 2 → 1 (avro): a consumer that reads by version 1 does not know kind 'late', "
        "which producers of version 2 write",
        "shift 2 → 1 (protobuf): a consumer that reads by version 1 does not know Kind `KIND_LATE = 3`, "
        "which producers of version 2 write",
    ]


CONDITION: Json = {"properties": {"kind": {"const": "stop"}}, "required": ["kind"]}
OTHER_CONDITION: Json = {"properties": {"kind": {"const": "start"}}, "required": ["kind"]}


def conditional(then: Json, kinds: Json = KIND, condition: Json = CONDITION) -> Json:
    return {**with_field("kind", kinds), "if": condition, "then": then}


@pytest.mark.parametrize(
    ("old", "new", "backward", "forward"),
    [
        pytest.param(
            SCHEMA,
            with_field("title", {"type": "string"}, required=True),
            [
                "2 refuses events without title, which producers of version 1 may send",
                "2 refuses title null, which producers of version 1 may send",
            ],
            [],
            id="a field becomes required",
        ),
        pytest.param(
            SCHEMA,
            with_field("title", None),
            [],
            [],
            id="an optional field goes",
        ),
        pytest.param(
            SCHEMA,
            with_field("kind", None, required=False),
            [],
            ["1 refuses events without kind, which producers of version 2 may send"],
            id="a required field goes",
        ),
        pytest.param(
            SCHEMA,
            with_field("title", {"type": ["number", "null"]}),
            ["2 expects title as number or null, which producers of version 1 send as string"],
            ["1 expects title as string or null, which producers of version 2 send as number"],
            id="another type",
        ),
        pytest.param(
            with_field("size", {"type": "integer"}),
            with_field("size", {"type": "number"}),
            [],
            ["1 expects size as integer, which producers of version 2 send as number"],
            id="a wider number",
        ),
        pytest.param(
            SCHEMA,
            with_field("loadPercent", {"type": ["number", "null"], "minimum": 1}),
            ["2 refuses loadPercent below 1, which producers of version 1 may send"],
            [],
            id="a higher minimum",
        ),
        pytest.param(
            SCHEMA,
            with_field("loadPercent", {"type": ["number", "null"]}),
            [],
            ["1 refuses loadPercent below 0, which producers of version 2 may send"],
            id="no minimum",
        ),
        pytest.param(
            with_field("title", {"type": "string", "enum": ["a", "b"]}),
            with_field("title", {"type": "string"}),
            [],
            ["1 knows for title only 'a', 'b', which producers of version 2 do not keep to"],
            id="no enum any more",
        ),
        pytest.param(
            with_field("title", {"type": ["string", "null"], "enum": ["a", "b", None]}),
            with_field("title", {"type": "string", "const": "a"}),
            ["2 refuses title 'b', null, which producers of version 1 send"],
            [],
            id="enum to const",
        ),
        pytest.param(
            SCHEMA,
            with_field("timestamp", {"type": "string"}),
            [],
            ["1 expects timestamp as date-time, which producers of version 2 do not promise"],
            id="no format any more",
        ),
        pytest.param(
            SCHEMA,
            with_field("tags", {"type": ["array", "null"], "items": {"type": ["string", "null"]}}),
            [],
            ["1 refuses tags[] null, which producers of version 2 may send"],
            id="items",
        ),
        pytest.param(
            SCHEMA,
            with_field("device", {"type": "object", "properties": {"appVersion": {"type": "string"}}}),
            [
                "2 refuses device null, which producers of version 1 may send",
                "2 refuses device.appVersion null, which producers of version 1 may send",
            ],
            [],
            id="inside an object",
        ),
        pytest.param(
            SCHEMA,
            with_field("title", {**OPTIONAL_TEXT, "maxLength": 9}),
            [
                "2 may refuse title, which producers of version 1 send: "
                "the keyword 'maxLength' cannot be compared; leave it out"
            ],
            [
                "1 may refuse title, which producers of version 2 send: "
                "the keyword 'maxLength' cannot be compared; leave it out"
            ],
            id="an unknown keyword of a field",
        ),
        pytest.param(
            with_field("title", {**OPTIONAL_TEXT, "maxLength": 9}),
            with_field("title", {**OPTIONAL_TEXT, "maxLength": 9, "description": "Shown."}),
            [],
            [],
            id="an unknown keyword of a field that stays as it is",
        ),
        pytest.param(
            SCHEMA,
            {**SCHEMA, "additionalProperties": False},
            [
                "2 may refuse events, which producers of version 1 send: "
                "the keyword 'additionalProperties' cannot be compared; leave it out"
            ],
            [
                "1 may refuse events, which producers of version 2 send: "
                "the keyword 'additionalProperties' cannot be compared; leave it out"
            ],
            id="an unknown keyword of the event",
        ),
        pytest.param(
            SCHEMA,
            conditional({"required": ["title"]}),
            [
                "2 refuses events without title if " + json.dumps(CONDITION) + ", "
                "which producers of version 1 may send"
            ],
            [],
            id="a condition more",
        ),
        pytest.param(
            conditional({"required": ["title"]}),
            conditional({"required": ["title", "tags"]}),
            [
                "2 refuses events without tags if " + json.dumps(CONDITION) + ", "
                "which producers of version 1 may send"
            ],
            [],
            id="a stricter condition",
        ),
        pytest.param(
            conditional({"required": ["title"], "properties": {"title": {"enum": ["a"]}}}),
            conditional({"required": ["title"], "properties": {"title": {"enum": ["a", "b"]}}}),
            [],
            ["1 refuses title 'b' if " + json.dumps(CONDITION) + ", which producers of version 2 send"],
            id="a condition that allows more",
        ),
        pytest.param(
            with_field("kind", {"type": "string", "enum": ["start"]}),
            conditional({"required": ["title"]}),
            [],
            ["1 refuses kind 'stop', which producers of version 2 send"],
            id="a condition of a new value only",
        ),
        pytest.param(
            SCHEMA,
            {
                **with_field("room", OPTIONAL_TEXT),
                "if": {"properties": {"room": {"const": "a"}}, "required": ["room"]},
                "then": {"required": ["title"]},
            },
            [],
            [],
            id="a condition of a new field only",
        ),
        pytest.param(
            conditional({"required": ["title"]}),
            conditional({"required": ["title"]}, condition=OTHER_CONDITION),
            [
                "2 refuses events without title if " + json.dumps(OTHER_CONDITION) + ", "
                "which producers of version 1 may send"
            ],
            [
                "1 refuses events without title if " + json.dumps(CONDITION) + ", "
                "which producers of version 2 may send"
            ],
            id="another condition",
        ),
        pytest.param(
            with_field("tags", {"type": "array", "items": [{"type": "string"}]}),
            with_field("tags", {"type": "array", "items": False}),
            [
                "2 may refuse tags[], which producers of version 1 send: "
                "the keyword 'items by position' cannot be compared; leave it out",
                "2 may refuse tags[], which producers of version 1 send: "
                "the keyword 'not' cannot be compared; leave it out",
            ],
            [
                "1 may refuse tags[], which producers of version 2 send: "
                "the keyword 'items by position' cannot be compared; leave it out",
                "1 may refuse tags[], which producers of version 2 send: "
                "the keyword 'not' cannot be compared; leave it out",
            ],
            id="schemas that are lists or true and false",
        ),
    ],
)
def test_json_breaks(make: Make, old: Json, new: Json, backward: list[str], forward: list[str]) -> None:
    first, second = make(1, old), make(2, new)
    assert told(first, second, BACKWARD, "json") == backward
    assert told(first, second, FORWARD, "json") == forward


def without_title_avro() -> Json:
    avro = copied(AVRO)
    avro["fields"].pop()
    return avro


@pytest.mark.parametrize(
    ("new", "backward", "forward"),
    [
        pytest.param(without_title_avro(), [], [], id="an optional field goes"),
        pytest.param(
            {**AVRO, "fields": AVRO["fields"][1:]},
            [],
            ["1 needs timestamp (it has no default), which producers of version 2 do not write"],
            id="a required field goes",
        ),
        pytest.param(
            with_avro("loadPercent", type="double"),
            [
                "2 cannot resolve loadPercent (reader type: double not compatible with writer type: null), "
                "which producers of version 1 write"
            ],
            [],
            id="no null any more",
        ),
        pytest.param(
            with_avro("title", type=["null", "long"]),
            [
                "2 cannot resolve title (reader union lacking writer type: STRING), "
                "which producers of version 1 write"
            ],
            [
                "1 cannot resolve title (reader union lacking writer type: LONG), "
                "which producers of version 2 write"
            ],
            id="another type",
        ),
        pytest.param(
            {**AVRO, "name": "Duty"},
            ["2 cannot resolve the record (expected: test.Shift), which producers of version 1 write"],
            ["1 cannot resolve the record (expected: test.Duty), which producers of version 2 write"],
            id="another name",
        ),
    ],
)
def test_avro_breaks(make: Make, new: Json, backward: list[str], forward: list[str]) -> None:
    first, second = make(1), make(2, avro=new)
    assert told(first, second, BACKWARD, "avro") == backward
    assert told(first, second, FORWARD, "avro") == forward


@pytest.mark.parametrize(
    ("line", "instead", "backward", "forward"),
    [
        pytest.param(
            "optional string title = 6;",
            "optional double title = 6;",
            [
                "2 reads `optional double title = 6` in Shift, "
                "which producers of version 1 write as `optional string title = 6`"
            ],
            [
                "1 reads `optional string title = 6` in Shift, "
                "which producers of version 2 write as `optional double title = 6`"
            ],
            id="another type",
        ),
        pytest.param(
            "title = 6;",
            "name = 6;",
            [
                "2 reads `optional string name = 6` in Shift, "
                "which producers of version 1 write as `optional string title = 6`"
            ],
            [
                "1 reads `optional string title = 6` in Shift, "
                "which producers of version 2 write as `optional string name = 6`"
            ],
            id="another name",
        ),
        pytest.param(
            "optional string title = 6;",
            "string title = 6;",
            [
                "2 reads `string title = 6` in Shift, "
                "which producers of version 1 write as `optional string title = 6`"
            ],
            [
                "1 reads `optional string title = 6` in Shift, "
                "which producers of version 2 write as `string title = 6`"
            ],
            id="no presence any more",
        ),
        pytest.param(
            "optional string title = 6;",
            "repeated string title = 6;",
            [
                "2 reads `repeated string title = 6` in Shift, "
                "which producers of version 1 write as `optional string title = 6`"
            ],
            [
                "1 reads `optional string title = 6` in Shift, "
                "which producers of version 2 write as `repeated string title = 6`"
            ],
            id="repeated",
        ),
        pytest.param(
            "optional string title = 6;",
            "reserved 6; optional string title = 7;",
            [
                "2 reads `optional string title = 7` in Shift, "
                "which producers of version 1 write as `optional string title = 6`"
            ],
            [
                "1 reads `optional string title = 6` in Shift, "
                "which producers of version 2 write as `optional string title = 7`"
            ],
            id="another number",
        ),
        pytest.param("optional string title = 6;", "reserved 6;", [], [], id="a field goes and is reserved"),
        pytest.param(
            "optional string app_version = 1;",
            "",
            [
                "1 reads app_version = 1 of Device, which producers of version 2 no longer write "
                "and do not keep free: `reserved 1;` is missing"
            ],
            [
                "1 reads app_version = 1 of Device, which producers of version 2 no longer write "
                "and do not keep free: `reserved 1;` is missing"
            ],
            id="a field goes",
        ),
        pytest.param(
            "KIND_STOP = 2;",
            "reserved 2;",
            ["2 does not know Kind `KIND_STOP = 2`, which producers of version 1 write"],
            [],
            id="an enum value goes and is reserved",
        ),
        pytest.param(
            "KIND_STOP = 2;",
            "KIND_END = 2;",
            ["2 reads `KIND_END = 2` in Kind, which producers of version 1 write as `KIND_STOP = 2`"],
            ["1 reads `KIND_STOP = 2` in Kind, which producers of version 2 write as `KIND_END = 2`"],
            id="an enum value has another name",
        ),
        pytest.param(
            "message Shift",
            "message Duty",
            [
                "2 reads the message test.Duty of proto3, "
                "which producers of version 1 write as test.Shift of proto3"
            ],
            [
                "1 reads the message test.Shift of proto3, "
                "which producers of version 2 write as test.Duty of proto3"
            ],
            id="the message has another name",
        ),
    ],
)
def test_protobuf_breaks(
    make: Make, line: str, instead: str, backward: list[str], forward: list[str]
) -> None:
    first, second = make(1), make(2, proto=PROTO.replace(line, instead))
    assert told(first, second, BACKWARD, "protobuf") == backward
    assert told(first, second, FORWARD, "protobuf") == forward


def test_an_enum_value_that_goes_unreserved_is_told_once(make: Make) -> None:
    old, new = make(1), make(2, proto=PROTO.replace("KIND_STOP = 2;", ""))
    missing = (
        "1 reads KIND_STOP = 2 of Kind, which producers of version 2 no longer write "
        "and do not keep free: `reserved 2;` is missing"
    )
    assert told(old, new, FORWARD, "protobuf") == [missing]
    assert [missing in str(one) for one in breaks_of(new, [old], "FULL")].count(True) == 1


def test_a_reserved_number_is_not_used_again(make: Make) -> None:
    old = make(1, proto=PROTO.replace("optional string title = 6;", "reserved 6 to 7;"))
    for number, expected in ((7, 1), (8, 0)):
        new = make(2, proto=PROTO.replace("title = 6;", f"title = {number}; reserved 6;"))
        found = told(old, new, BACKWARD, "protobuf")
        assert len(found) == expected, found
    taken = make(2, proto=PROTO)
    assert told(old, taken, BACKWARD, "protobuf") == [
        "1 or an older one takes number 6 of Shift for what was removed, "
        "which producers of version 2 write as title"
    ]


def test_modes_tell_who_is_compared_with_whom(make: Make) -> None:
    narrow = with_field("kind", {"type": "string", "enum": ["start"]})
    first, second, third = make(1), make(2, narrow), make(3, narrow)

    def complaining(new: Contract, *earlier: Contract) -> list[str]:
        return [mode for mode in MODES if breaks_of(new, earlier, mode)]

    # Who reads by the narrow versions refuses events of the first; they do not differ from one another.
    assert complaining(second, first) == ["BACKWARD", "FULL", "BACKWARD_TRANSITIVE", "FULL_TRANSITIVE"]
    assert complaining(third, first, second) == ["BACKWARD_TRANSITIVE", "FULL_TRANSITIVE"]
    assert complaining(third, second) == []
    # And were the first made after the narrow one, who reads by that one would refuse its events.
    assert complaining(first, second) == ["FORWARD", "FULL", "FORWARD_TRANSITIVE", "FULL_TRANSITIVE"]


def test_an_unknown_mode_is_an_error_that_names_the_modes(make: Make) -> None:
    with pytest.raises(ReelhouseError, match="'BOTH'; make it one of NONE, BACKWARD"):
        breaks_of(make(), [], "BOTH")


# The lock, and the command line


CACHED = (load.contracts_folder, load.event_types, load.settings, load.contracts)


def forget() -> None:
    for one in CACHED:
        one.cache_clear()


@pytest.fixture
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of contracts with one released event, which the command line reads instead of ours."""
    folder = tmp_path / "schemas"
    write(folder / "shift" / "1")
    set_mode(folder, "BACKWARD")
    monkeypatch.setattr(load, "_FOLDERS", (folder,))
    assert run("release") == 0
    yield folder
    forget()


def set_mode(folder: Path, mode: str, identity: str = '["kind", "timestamp"]') -> None:
    told = f'identity = {identity}\ncompatibility = "{mode}"\n'
    (folder / "shift" / "contract.toml").write_text(told)


def run(*arguments: str) -> int:
    """The exit code of `reelhouse schemas …`, as in a process of its own."""
    forget()
    return cli.main(["schemas", *arguments])


def test_the_contracts_of_this_repository_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == 0
    assert capsys.readouterr().out == ""


def test_every_version_of_this_repository_is_released(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--format", "json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["event"], r["version"]) for r in rows if not r["released"]] == []
    assert {(r["event"], r["version"]) for r in rows} == {
        (path.parts[-3], int(path.parts[-2])) for path in SCHEMAS.glob("*/*/schema.json")
    }


def test_layout_and_descriptions_of_a_released_version_may_change(schemas: Path) -> None:
    schema, avro = copied(SCHEMA), copied(AVRO)
    schema["title"] = "Another title"
    schema["properties"]["kind"]["description"] = "What it is."
    avro["fields"][1]["doc"] = "What it is."
    write(schemas / "shift" / "1", dict(reversed(schema.items())), avro, f"// Note.\n{PROTO}\n\n")
    (schemas / "shift" / "1" / "schema.json").write_text(json.dumps(schema, indent=4))
    assert run("check") == 0


@pytest.mark.parametrize(
    ("file", "was", "now"),
    [
        ("schema.json", '"minimum": 0', '"minimum": 1'),
        ("schema.avsc", '"namespace": "test"', '"namespace": "tests"'),
        ("schema.avsc", '"name": "appVersion"', '"aliases": ["v"], "name": "appVersion"'),
        ("schema.proto", "title = 6", "title = 7"),
    ],
)
def test_a_released_version_that_changed_is_a_fault(
    schemas: Path, capsys: pytest.CaptureFixture[str], file: str, was: str, now: str
) -> None:
    path = schemas / "shift" / "1" / file
    text = path.read_text()
    path.write_text(text.replace(was, now))
    assert path.read_text() != text
    for verb in ("check", "release"):
        capsys.readouterr()
        assert run(verb) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"shift 1, {file} is not what was released; "
            "a released version never changes: put it back, and make version 2"
        ]


def test_a_field_called_title_counts_in_the_fingerprint(make: Make) -> None:
    assert (
        fingerprints(make(1))["schema.json"]
        != fingerprints(make(1, with_field("title", None)))["schema.json"]
    )


def test_a_released_version_that_is_gone_is_a_fault(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(schemas / "shift" / "2")
    shutil.rmtree(schemas / "shift" / "1")
    assert run("check") == 1
    assert "shift 1 is released and gone; put it back" in capsys.readouterr().out
    shutil.rmtree(schemas / "shift")
    assert run("check") == 1
    assert "shift is released and gone; put its folder back in schemas/" in capsys.readouterr().out


def test_a_released_file_that_cannot_be_read_is_told_once(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (schemas / "shift" / "1" / "schema.avsc").write_text("{")
    assert run("check") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "schema.avsc cannot be read" in line


def test_another_identity_is_a_fault(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_mode(schemas, "BACKWARD", '["timestamp"]')
    assert run("check") == 1
    assert capsys.readouterr().out == (
        "shift 1 was released with the identity kind, timestamp; put it back in contract.toml\n"
    )


def test_a_lock_that_is_gone_or_broken_is_a_fault(schemas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = schemas / "released.json"
    for content in ("[]", '{"shift": {"1": {}}}', "{"):
        lock.write_text(content)
        assert run("check") == 1
        assert "released.json cannot be read" in capsys.readouterr().err
    lock.unlink()
    assert run("check") == 1
    assert capsys.readouterr().out == "schemas/released.json holds no version; put it back\n"


def test_a_new_version_that_breaks_somebody_is_not_released(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_title = PROTO.replace("  optional string title = 6;", "")
    write(schemas / "shift" / "2", with_field("title", None), without_title_avro(), without_title)
    lock = (schemas / "released.json").read_text()
    for verb in ("check", "release"):
        capsys.readouterr()
        assert run(verb) == 1
        assert capsys.readouterr().out.splitlines() == [
            "shift 2 → 1 (protobuf): a consumer that reads by version 1 reads title = 6 of Shift, which "
            "producers of version 2 no longer write and do not keep free: `reserved 6;` is missing"
        ]
    assert (schemas / "released.json").read_text() == lock


def test_a_new_version_that_breaks_nobody_is_released_once(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(schemas / "shift" / "2", **added())
    assert run("check") == 0
    capsys.readouterr()
    assert run("list", "--format", "json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["version"], row["released"]) for row in rows] == [(1, True), (2, False)]
    assert run("release") == 0
    assert capsys.readouterr().out == "shift 2 is released\n"
    assert sorted(json.loads((schemas / "released.json").read_text())["shift"]) == ["1", "2"]
    assert run("release") == 0
    assert "nothing is new" in capsys.readouterr().err


def test_a_released_version_is_held_to_the_mode_of_its_release(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stricter = copied(added())
    stricter["schema"]["properties"]["loadPercent"]["minimum"] = 1
    write(schemas / "shift" / "2", **stricter)
    assert run("check") == 1
    set_mode(schemas, "NONE")
    assert run("release") == 0
    set_mode(schemas, "BACKWARD")
    assert run("check") == 0
    lock = schemas / "released.json"
    lock.write_text(lock.read_text().replace('"NONE"', '"BACKWARD"'))
    capsys.readouterr()
    assert run("check") == 1
    assert "shift 1 → 2 (json)" in capsys.readouterr().out


def test_faults_of_every_event_are_told_for_programs_too(
    schemas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(schemas / "shift" / "2", proto="nonsense")
    set_mode(schemas, "BOTH", '["kind"]')
    capsys.readouterr()
    assert run("check", "--format", "json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["check"], row["event"]) for row in rows] == [("agreement", "shift"), ("released", "shift")]
    assert "schema.proto cannot be read" in rows[0]["fault"]
    shutil.rmtree(schemas / "shift" / "2")
    write(schemas / "shift" / "2", **added())
    assert run("check") == 1
    assert "the compatibility of shift is 'BOTH'; make it one of" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["list", "check"])
def test_no_spark_is_loaded(verb: str) -> None:
    program = (
        "import sys; from pipelines.cli.main import main; "
        f"code = main(['schemas', {verb!r}]); print('pyspark' in sys.modules, code)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False 0"


def test_the_settings_of_every_event_name_a_mode_and_required_fields() -> None:
    forget()
    for event in load.event_types():
        told: Settings = load.settings(event)
        assert told.compatibility in MODES
        for contract in load.contracts(event).values():
            assert set(told.identity) <= set(contract.required)


# Schemas of a registry


def registered(change: Callable[[str], str]) -> dict[tuple[str, tuple[int, ...]], int]:
    """The versions that a changed schema of user-action 2 counts as."""
    text = (SCHEMAS / "user-action" / "2" / "schema.avsc").read_text()
    return dict(match("AVRO", change(text)).versions)


@pytest.mark.parametrize(
    ("old", "new", "is_known"),
    [
        ("", "", True),
        ('"doc": "When', '"doc": "Moment when', True),
        ('"type": "string"', '"type": {"type": "string", "avro.java.string": "String"}', True),
        ("timestamp-micros", "timestamp-millis", False),
        (', "logicalType": "timestamp-micros"', "", False),
        ('"string"', '{"type": "string", "logicalType": "uuid"}', False),
        ('"platform"', '"plattform"', False),
    ],
)
def test_a_registered_avro_schema_counts_when_it_reads_the_same(old: str, new: str, is_known: bool) -> None:
    known = {("user-action", ()): 2} if is_known else {}
    assert registered(lambda text: text.replace(old, new) if old else text) == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        '{"type": "int", "logicalType": {"a": 1}}',
        '{"type": "enum", "name": "E", "symbols": 5}',
        '{"type": "array", "items": ' * 2000 + '"int"' + "}" * 2000,
    ],
)
@pytest.mark.parametrize("kind", ["AVRO", "JSON", "PROTOBUF"])
def test_an_odd_schema_of_a_registry_is_no_contract(kind: str, text: str) -> None:
    assert match(kind, text).versions == {}
