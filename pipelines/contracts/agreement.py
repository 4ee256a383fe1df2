"""Checks that a version's `schema.avsc` and `schema.proto` say what its `schema.json` says.

`schema.json` is the source of truth. Each file is read into the same plain picture, shapes by path, and the
pictures are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import avro.schema
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from jsonschema.exceptions import SchemaError

from pipelines.contracts import avro as avro_files
from pipelines.contracts import protobuf as protobuf_files
from pipelines.contracts.load import Contract
from pipelines.contracts.protobuf import Types, type_of, types_of
from pipelines.contracts.referee import DRAFTS, draft_of

_FIRST = "timestamp"
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_WORD = re.compile(r"[a-z][a-z0-9_]*")
_ZERO = "_UNSPECIFIED"
_TEXTS = "array of string"
_AVRO_KINDS = {"string": "string", "double": "number", "record": "object", "enum": "string"}
_PROTOBUF_KINDS = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_DOUBLE: "number",
    FieldDescriptorProto.TYPE_ENUM: "string",
}
_TIMESTAMP = ".google.protobuf.Timestamp"


@dataclass(frozen=True)
class Shape:
    """What a field is, in the words of `schema.json`."""

    kind: str
    presence: str
    """`required` or `optional`; empty where the format does not tell them apart."""
    values: tuple[str, ...] = ()
    """The values that an enum allows, in order."""

    def __str__(self) -> str:
        values = f", one of {', '.join(self.values)}" if self.values else ""
        return f"{self.presence} {self.kind}{values}".strip()


Shapes = Mapping[str, Shape]
"""By path, for instance `device.platform`."""


def disagreements(contract: Contract) -> list[str]:
    """Where the files of a version contradict one another, as sentences; none: they agree.

    Raises ReelhouseError (`contract_unreadable`).
    """
    draft = draft_of(contract.schema)
    if draft is None:
        named = contract.schema["$schema"]
        return [f"{_name(contract, 'json')}: $schema is {named!r}; it must be one of {', '.join(DRAFTS)}"]
    try:
        draft.check_schema(contract.schema)
    except SchemaError as error:
        return [f"{_name(contract, 'json')} is no JSON Schema: {error.message}"]
    told = _json_shapes(contract.schema, "")
    faults = {
        "json": [*_unusable_words(told), *_unreadable_fields(contract.schema, told)],
        "avsc": _avro_faults(avro_files.schema(contract), told),
        "proto": _protobuf_faults(protobuf_files.file_of(contract), told),
    }
    return [f"{_name(contract, kind)}: {fault}" for kind, found in faults.items() for fault in found]


def _name(contract: Contract, kind: str) -> str:
    return f"{contract.event_type} {contract.version}, schema.{kind}"


def _unusable_words(told: Shapes) -> Iterator[str]:
    for path, shape in told.items():
        for value in shape.values:
            if not _WORD.fullmatch(value):
                yield f"{path} has the value {value!r}; only a-z, 0-9 and _ can be said in all three files"


def _unreadable_fields(schema: Mapping[str, Any], told: Shapes) -> Iterator[str]:
    """What JSON Schema can say and no row, or not every format."""
    for path, shape in told.items():
        if shape.kind.startswith("array") and shape.kind != _TEXTS:
            yield f"{path} is {shape.kind}; it must be {_TEXTS}"
    for path in _required_nulls(schema, ""):
        yield f"{path} is required and may be null, which only JSON can say; it may be either"


def _required_nulls(schema: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not isinstance(field, dict):
            continue
        if name in schema.get("required", ()) and "null" in field.get("type", ()):
            yield f"{above}{name}"
        yield from _required_nulls(field, f"{above}{name}.")


def _differences(found: Shapes, told: Shapes) -> Iterator[str]:
    for path, shape in told.items():
        if path not in found:
            yield f"{path} is missing; schema.json has it"
        elif found[path] != shape:
            yield f"{path} is {found[path]}; by schema.json it is {shape}"
    yield from (f"{path} is not in schema.json" for path in found if path not in told)


def _json_shapes(schema: Mapping[str, Any], above: str) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for name, field in schema.get("properties", {}).items():
        if not isinstance(field, dict):
            found[f"{above}{name}"] = Shape("untyped", "optional")
            continue
        types = field.get("type", "untyped")
        types = types if isinstance(types, list) else [types]
        is_required = name in schema.get("required", ()) and "null" not in types
        values = tuple(str(value) for value in field.get("enum", ()) if value is not None)
        path = f"{above}{name}"
        found[path] = Shape(_json_kind(field, types), "required" if is_required else "optional", values)
        if "object" in types:
            found.update(_json_shapes(field, f"{path}."))
    return found


def _json_kind(field: Mapping[str, Any], types: list[str]) -> str:
    kind = " or ".join(str(one) for one in types if one != "null")
    if kind == "array":
        items = field.get("items")
        return f"array of {items.get('type', 'untyped') if isinstance(items, dict) else 'untyped'}"
    return str(field["format"]) if kind == "string" and "format" in field else kind


def _avro_faults(schema: avro.schema.Schema, told: Shapes) -> Iterator[str]:
    if not isinstance(schema, avro.schema.RecordSchema):
        yield f"it is of type {schema.type}; it must be a record"
        return
    if schema.fields and schema.fields[0].name != _FIRST:
        # A plain event then begins with its time, never with the byte 0, which marks Confluent's wire format.
        yield f"its first field is {schema.fields[0].name}; it must be {_FIRST}"
    yield from _differences(_avro_shapes(schema, "", told), told)


def _avro_shapes(record: avro.schema.RecordSchema, above: str, told: Shapes) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for field in record.fields:
        path, inner, presence = f"{above}{field.name}", field.type, "required"
        if isinstance(inner, avro.schema.UnionSchema) and [s.type for s in inner.schemas][:1] == ["null"]:
            has_default = field.has_default and field.default is None
            presence = "optional" if has_default else 'optional (without "default": null)'
            inner = inner.schemas[1] if len(inner.schemas) == 2 else inner
        symbols = tuple(inner.symbols) if isinstance(inner, avro.schema.EnumSchema) else ()
        found[path] = Shape(_avro_kind(inner), presence, symbols)
        if isinstance(inner, avro.schema.RecordSchema) and _is_object(path, told):
            found.update(_avro_shapes(inner, f"{path}.", told))
    return found


def _is_object(path: str, told: Shapes) -> bool:
    # Only as deep as schema.json goes: Avro and Protobuf allow types that hold themselves.
    return path in told and told[path].kind == "object"


def _avro_kind(schema: avro.schema.Schema) -> str:
    logical = schema.props.get("logicalType")
    if schema.type == "long" and logical == "timestamp-micros":
        return "date-time"
    if logical:
        return f"{schema.type} ({logical})"
    if isinstance(schema, avro.schema.ArraySchema):
        return f"array of {_avro_kind(schema.items)}"
    if isinstance(schema, avro.schema.UnionSchema):
        return f"union of {', '.join(s.type for s in schema.schemas)}"
    return _AVRO_KINDS.get(schema.type, schema.type)


def _protobuf_faults(file: FileDescriptorProto, told: Shapes) -> Iterator[str]:
    if file.syntax != "proto3":
        yield 'it must begin with syntax = "proto3"'
        return
    if len(file.message_type) != 1:
        yield f"it has {len(file.message_type)} messages; it must have one, with the others inside"
        return
    for enum in file.enum_type:  # a registered message would count as the contract's, whatever its words
        yield f"the enum {enum.name} is beside the message; it must be inside"
    types = types_of(file)
    root = f".{file.package}.{file.message_type[0].name}" if file.package else f".{file.message_type[0].name}"
    # Protobuf knows no required fields: all tell their presence, and the contract decides.
    expected = {path: replace(shape, presence="") for path, shape in told.items()}
    yield from _differences(_protobuf_shapes(root, types, "", told), expected)
    for name, found in types.items():
        for field in found.field if isinstance(found, DescriptorProto) else ():
            if not _SNAKE.fullmatch(field.name):
                yield f"{field.name} in {name.rpartition('.')[2]} must be written in snake_case"


def _protobuf_shapes(message: str, types: Types, above: str, told: Shapes) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    declared = types[message]
    for field in declared.field if isinstance(declared, DescriptorProto) else ():
        path, own = f"{above}{field.json_name}", types.get(field.type_name)
        kind = _protobuf_kind(field, own)
        is_enum = isinstance(own, EnumDescriptorProto)
        found[path] = _protobuf_enum(kind, own) if is_enum else Shape(kind, "")
        if isinstance(own, DescriptorProto) and _is_object(path, told):
            found.update(_protobuf_shapes(field.type_name, types, f"{path}.", told))
    return found


def _protobuf_kind(field: FieldDescriptorProto, own: object) -> str:
    if field.type_name == _TIMESTAMP:
        kind = "date-time"
    elif isinstance(own, DescriptorProto):
        kind = "object"
    else:
        kind = _PROTOBUF_KINDS.get(field.type, type_of(field))
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"array of {kind}"
    if field.proto3_optional:
        return kind
    if field.HasField("oneof_index"):
        return f"{kind} in a oneof"
    tells_presence = field.type == FieldDescriptorProto.TYPE_MESSAGE
    return kind if tells_presence else f"{kind} (not declared optional, so that missing is read as empty)"


def _protobuf_enum(kind: str, enum: EnumDescriptorProto) -> Shape:
    zero, *others = sorted(enum.value, key=lambda value: value.number)
    if zero.number != 0 or not zero.name.endswith(_ZERO):
        return Shape(f"{kind} (whose value 0 is not …{_ZERO})", "", tuple(v.name for v in enum.value))
    prefix = zero.name.removesuffix("UNSPECIFIED")
    return Shape(kind, "", tuple(_word(v.name, prefix) for v in others))


def _word(name: str, prefix: str) -> str:
    """`ACTION_PLAY` is `play`; a name that does not follow the rule is told as it is."""
    return name.removeprefix(prefix).lower() if name.startswith(prefix) else name
