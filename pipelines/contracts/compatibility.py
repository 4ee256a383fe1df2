"""Compares versions of an event: what breaks for whom when a new one is released, in each format.

Avro is judged by the official library. For JSON Schema and Protobuf there is none in Python: their rules are
here, for the keywords that contracts use. What they cannot compare counts as a break.

Producers send the fields that their version declares, and consumers ignore those that theirs does not: a
record tells its version. So a new optional field breaks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from pipelines.contracts import avro as avro_files
from pipelines.contracts import protobuf as protobuf_files
from pipelines.contracts.clash import Clash, listed
from pipelines.contracts.json_clashes import meaning, object_clashes
from pipelines.contracts.load import Contract
from pipelines.contracts.protobuf import type_of, types_of
from pipelines.errors import ReelhouseError


class Direction(Enum):
    """Who reads whose events."""

    BACKWARD = "who reads by the new version understands events of the old one"
    FORWARD = "who reads by the old version understands events of the new one"


_BOTH = (Direction.BACKWARD, Direction.FORWARD)
_DIRECTIONS = {"NONE": (), "BACKWARD": _BOTH[:1], "FORWARD": _BOTH[1:], "FULL": _BOTH}
_TRANSITIVE = "_TRANSITIVE"
MODES = (*_DIRECTIONS, *(f"{name}{_TRANSITIVE}" for name in list(_DIRECTIONS)[1:]))
"""As Confluent's registry has them: against the version before, or (transitive) against all before."""


@dataclass(frozen=True)
class Break:
    """One thing that breaks, and for whom."""

    event_type: str
    format: str
    """`json`, `avro` or `protobuf`."""
    writer: int
    """The version that producers write."""
    reader: int
    """The version that the consumer reads by."""
    clash: Clash

    def __str__(self) -> str:
        where = f"{self.event_type} {self.writer} → {self.reader} ({self.format})"
        reads = f"a consumer that reads by version {self.reader} {self.clash.consumer}"
        return f"{where}: {reads}, which producers of version {self.writer} {self.clash.producer}"


def breaks_of(new: Contract, earlier: Sequence[Contract], mode: str) -> list[Break]:
    """What a version breaks that the mode does not allow. `earlier`: the versions before it, oldest first.

    Raises ReelhouseError: the mode is none, or a file cannot be read (`contract_unreadable`).
    """
    if mode not in MODES:
        message = f"the compatibility of {new.event_type} is {mode!r}; make it one of {', '.join(MODES)}"
        raise ReelhouseError(message, code="contract_unreadable")
    against = earlier if mode.endswith(_TRANSITIVE) else earlier[-1:]
    found = [
        one
        for old in against
        for direction in _DIRECTIONS[mode.removesuffix(_TRANSITIVE)]
        for one in breaks(old, new, direction)
    ]
    return list(dict.fromkeys(found))


def breaks(old: Contract, new: Contract, direction: Direction) -> list[Break]:
    """What breaks between two versions in one direction, in all formats."""
    reader, writer = (new, old) if direction is Direction.BACKWARD else (old, new)
    found = [
        Break(new.event_type, name, writer.version, reader.version, clash)
        for name, clashes in (
            ("json", object_clashes(meaning(reader.schema), meaning(writer.schema))),
            ("avro", _avro_clashes(avro_files.schema(reader), avro_files.schema(writer))),
            ("protobuf", _protobuf_clashes(protobuf_files.file_of(reader), protobuf_files.file_of(writer))),
        )
        for clash in clashes
    ]
    # In both directions: once a number has no owner, it is the later versions' events that are misread.
    misread = _number_clashes(protobuf_files.file_of(old), protobuf_files.file_of(new))
    return found + [Break(new.event_type, "protobuf", new.version, old.version, clash) for clash in misread]


# Avro


def _avro_clashes(reader: avro.schema.Schema, writer: avro.schema.Schema) -> Iterator[Clash]:
    problem = _unresolved(reader, writer)
    if problem is None:
        return
    # The library's verdict holds for the whole; asked again by field, it also says where.
    of_fields = list(_avro_field_clashes(reader, writer))
    yield from of_fields or [Clash(f"cannot resolve the record ({problem})", "write")]


def _avro_field_clashes(reader: avro.schema.Schema, writer: avro.schema.Schema) -> Iterator[Clash]:
    written = {field.name: field for field in getattr(writer, "fields", ())}
    for field in getattr(reader, "fields", ()):
        if field.name not in written:
            if not field.has_default:
                yield Clash(f"needs {field.name} (it has no default)", "do not write")
            continue
        other = written[field.name].type
        unknown = [symbol for symbol in _symbols(other) if symbol not in _symbols(field.type)]
        problem = _unresolved(field.type, other)
        if problem and unknown and _symbols(field.type):
            yield Clash(f"does not know {field.name} {listed(unknown)}", "write")
        elif problem:
            yield Clash(f"cannot resolve {field.name} ({problem})", "write")


def _unresolved(reader: avro.schema.Schema, writer: avro.schema.Schema) -> str | None:
    """The library's words for why the reader cannot resolve the writer's data; None: it can."""
    found = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    if found.compatibility is SchemaCompatibilityType.compatible:
        return None
    kinds = {kind.value.replace("_", " ") for kind in found.incompatibilities}
    return "; ".join(sorted(found.messages) or sorted(kinds))


def _symbols(schema: avro.schema.Schema) -> list[str]:
    branches = schema.schemas if isinstance(schema, avro.schema.UnionSchema) else [schema]
    return [s for branch in branches if isinstance(branch, avro.schema.EnumSchema) for s in branch.symbols]


# Protobuf


def _protobuf_clashes(reader: FileDescriptorProto, writer: FileDescriptorProto) -> Iterator[Clash]:
    if _root(reader) != _root(writer):
        yield Clash(f"reads the message {_root(reader)}", f"write as {_root(writer)}")
        return
    written = types_of(writer)
    for name, own in types_of(reader).items():
        other = written.get(name)
        if isinstance(own, DescriptorProto) and isinstance(other, DescriptorProto):
            yield from _message_clashes(own, other)
        elif isinstance(own, EnumDescriptorProto) and isinstance(other, EnumDescriptorProto):
            yield from _enum_clashes(own, other)


def _root(file: FileDescriptorProto) -> str:
    return f"{file.package}.{file.message_type[0].name} of {file.syntax or 'proto2'}"


def _message_clashes(reader: DescriptorProto, writer: DescriptorProto) -> Iterator[Clash]:
    by_number = {field.number: field for field in reader.field}
    by_name = {field.name: field for field in reader.field}
    for field in writer.field:
        own = by_number.get(field.number)
        if own is None and field.name in by_name:
            own = by_name[field.name]
        if own and _declaration(own) != _declaration(field):
            yield Clash(f"reads `{_declaration(own)}` in {reader.name}", f"write as `{_declaration(field)}`")


def _declaration(field: FieldDescriptorProto) -> str:
    """A field as a `.proto` writes it: all that a reader must know of it."""
    if field.proto3_optional:
        label = "optional "
    elif field.HasField("oneof_index"):
        label = "oneof "
    else:
        label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    return f"{label}{type_of(field)} {field.name} = {field.number}"


def _enum_clashes(reader: EnumDescriptorProto, writer: EnumDescriptorProto) -> Iterator[Clash]:
    known = {value.number: value.name for value in reader.value}
    unknown = [v for v in writer.value if v.number not in known]
    if unknown:
        told = ", ".join(f"{v.name} = {v.number}" for v in unknown)
        yield Clash(f"does not know {reader.name} `{told}`", "write")
    for value in writer.value:
        name = known.get(value.number, value.name)
        if name != value.name:
            told = f"`{value.name} = {value.number}`"
            yield Clash(f"reads `{name} = {value.number}` in {reader.name}", f"write as {told}")


def _number_clashes(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[Clash]:
    """Numbers that went without being reserved, or that were reserved and are used again."""
    later = types_of(new)
    for name, was in types_of(old).items():
        now = later.get(name)
        if now is None:
            continue
        used, before = _numbers(now), _numbers(was)
        for number in before.keys() - used.keys():
            if not _is_reserved(now, number):
                told = f"no longer write and do not keep free: `reserved {number};` is missing"
                yield Clash(f"reads {before[number]} = {number} of {was.name}", told)
        for number in used.keys() - before.keys():
            if _is_reserved(was, number):
                expects = f"or an older one takes number {number} of {was.name} for what was removed"
                yield Clash(expects, f"write as {used[number]}")


def _numbers(found: DescriptorProto | EnumDescriptorProto) -> dict[int, str]:
    members = found.field if isinstance(found, DescriptorProto) else found.value
    return {member.number: member.name for member in members}


def _is_reserved(found: DescriptorProto | EnumDescriptorProto, number: int) -> bool:
    # The end belongs to the range of an enum, and not to that of a message.
    last = 0 if isinstance(found, EnumDescriptorProto) else 1
    return any(one.start <= number <= one.end - last for one in found.reserved_range)
