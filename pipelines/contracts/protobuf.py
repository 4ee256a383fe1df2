"""Protobuf by the official runtime; protoc itself compiles the contracts' `.proto` files, when needed."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timezone
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from pipelines.contracts.load import Contract, text_of, unreadable
from pipelines.contracts.times import format_time, parse_time

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 to 9999
TIMESTAMP = "google.protobuf.Timestamp"
_DEEPEST_INDEXES = 10

Path_ = tuple[int, ...]
"""Where a message stands in its file: index of the message, of the one nested in it …"""
Types = Mapping[str, DescriptorProto | EnumDescriptorProto]
"""By full name, as fields tell it, for instance `.reelhouse.media.UserAction.Action`."""


def schema_text(contract: Contract) -> str:
    """The text of the version's `schema.proto`."""
    return text_of(contract, "schema.proto")


def compiled(text: str) -> FileDescriptorProto:
    """What protoc makes of a `.proto` text. Raises ValueError."""
    return _compiled_set(text).file[-1]


@cache
def _compiled_set(text: str) -> FileDescriptorSet:
    """The file and, before it, those that it imports: protoc knows Google's own."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder, as_file(files("grpc_tools") / "_proto") as known:
        source, out = Path(folder, "schema.proto"), Path(folder, "out")
        source.write_text(text, encoding="utf-8")
        arguments = [
            "protoc",
            f"-I{folder}",
            f"-I{known}",
            "--include_imports",
            f"--descriptor_set_out={out}",
        ]
        if protoc.main([*arguments, str(source)]) != 0:
            raise ValueError("protoc cannot compile it")
        return FileDescriptorSet.FromString(out.read_bytes())


def file_of(contract: Contract) -> FileDescriptorProto:
    """The version's schema, compiled. Raises ReelhouseError (`contract_unreadable`)."""
    return FileDescriptorSet.FromString(files_of(contract)).file[-1]


@cache
def files_of(contract: Contract) -> bytes:
    """The version's schema after the files that it imports: a FileDescriptorSet, serialized.

    Raises ReelhouseError (`contract_unreadable`).
    """
    try:
        return _compiled_set(schema_text(contract)).SerializeToString()
    except ValueError as error:
        raise unreadable(contract.folder / "schema.proto", error) from error


@cache
def class_of(files: bytes) -> type[Message]:
    """The first message of the last file, in a pool of its own: versions share their names."""
    found = FileDescriptorSet.FromString(files)
    pool = DescriptorPool()
    for file in found.file:
        pool.Add(file)
    own = found.file[-1]
    name = f"{own.package}.{own.message_type[0].name}".lstrip(".")  # a file may have no package
    return GetMessageClass(pool.FindMessageTypeByName(name))


def messages(text: str) -> Iterator[tuple[Path_, str, bytes]]:
    """Every message of a schema as a registry gives it: its place, its full name, its shape.

    The text is a `.proto`, or a descriptor in base64, as Confluent's Python client registers it. None when it
    is neither.
    """
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (DecodeError, ValueError):
        try:
            file = compiled(text)
        except ValueError:
            return
    yield from _nested(file.message_type, (), file.package)


def _nested(found: Sequence[DescriptorProto], place: Path_, scope: str) -> Iterator[tuple[Path_, str, bytes]]:
    for index, message in enumerate(found):
        name = f"{scope}.{message.name}" if scope else message.name
        yield (*place, index), name, _shape(message)
        yield from _nested(message.nested_type, (*place, index), name)


def shape(contract: Contract) -> tuple[str, bytes]:
    """Full name and shape of the contract's message."""
    _, name, found = next(messages(schema_text(contract)))
    return name, found


def _shape(message: DescriptorProto) -> bytes:
    """What counts on the wire, as bytes to compare: names in JSON are derived, and may be left out."""
    bare = DescriptorProto()
    bare.CopyFrom(message)
    for one in (bare, *bare.nested_type):
        for field in one.field:
            field.ClearField("json_name")
    return bare.SerializeToString(deterministic=True)


def types_of(file: FileDescriptorProto) -> Types:
    """Every message and enum that a file declares."""
    scope = f".{file.package}" if file.package else ""
    return dict(_declared(scope, [*file.message_type, *file.enum_type]))


def _declared(scope: str, found: list[Any]) -> Iterator[tuple[str, DescriptorProto | EnumDescriptorProto]]:
    for one in found:
        name = f"{scope}.{one.name}"
        yield name, one
        if isinstance(one, DescriptorProto):
            yield from _declared(name, [*one.nested_type, *one.enum_type])


def type_of(field: FieldDescriptorProto) -> str:
    """The type as a `.proto` writes it."""
    if field.type_name:
        return str(field.type_name).removeprefix(".")
    return str(FieldDescriptorProto.Type.Name(field.type)).removeprefix("TYPE_").lower()


def without_indexes(payload: bytes) -> tuple[Path_, bytes]:
    """The place of the message that Confluent's wire format names before it, and the message.

    Raises ValueError: the bytes tell none.
    """
    count, at = _zigzag(payload, 0)
    if count == 0:
        return (0,), payload[at:]
    if not 0 < count <= _DEEPEST_INDEXES:
        raise ValueError(f"{count} is no number of message indexes")
    place = []
    for _ in range(count):
        index, at = _zigzag(payload, at)
        place.append(index)
    return tuple(place), payload[at:]


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length number and where the next byte is."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise ValueError("the message indexes are cut off")
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return (number >> 1) ^ -(number & 1), at


def read(payload: bytes, contract: Contract) -> dict[str, Any]:
    """The event as JSON would tell it. Raises ValueError with a sentence: the bytes are no such message."""
    try:
        return _event(class_of(files_of(contract)).FromString(payload))
    except DecodeError as error:
        what = f"no Protobuf of {contract.event_type} version {contract.version}"
        raise ValueError(f"{what}: {error}") from error


def _event(message: Message) -> dict[str, Any]:
    return {
        field.json_name: _value(field, value)
        for field, value in message.ListFields()
        if _is_told(field, value)
    }


def _is_told(field: FieldDescriptor, value: Any) -> bool:
    """Protobuf's enums have a value 0 for what is not told."""
    return not (field.enum_type and value == 0)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type:
        return symbols(field.enum_type).get(value, str(value))
    if field.message_type is None:
        return list(value) if field.is_repeated else value
    if field.message_type.full_name != TIMESTAMP:
        return _event(value)
    try:
        return format_time(value.ToDatetime(timezone.utc))
    except ValueError:  # no time at all: told as it is, for the referee to refuse
        return f"{value.seconds} s, {value.nanos} ns"


def is_time(seconds: Any, nanos: Any) -> Any:
    """Whether these, numbers or arrays of them, are in the range of a `google.protobuf.Timestamp`."""
    is_day = (seconds >= _FIRST_SECOND) & (seconds <= _LAST_SECOND)
    return is_day & (nanos >= 0) & (nanos < 1_000_000_000)


@cache
def symbols(enum: EnumDescriptor) -> dict[int, str]:
    """The contract's words for an enum's numbers: `ACTION_PLAY` is `play`; 0, not told, has none."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {v.number: v.name.removeprefix(prefix).lower() for v in enum.values if v.number}


def write(event: Mapping[str, Any], contract: Contract) -> bytes:
    """The message of an event. Raises ValueError: the event does not fulfil the contract."""
    message = class_of(files_of(contract))()
    try:
        _fill(message, event)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(str(error)) from error
    return message.SerializeToString()


def _fill(message: Message, event: Mapping[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        value = event.get(field.json_name)
        if value is None:
            continue
        if field.is_repeated:
            getattr(message, field.name).extend(value)
        elif field.enum_type:
            numbers = {word: number for number, word in symbols(field.enum_type).items()}
            setattr(message, field.name, numbers[value])
        elif field.message_type is None:
            setattr(message, field.name, value)
        elif field.message_type.full_name == TIMESTAMP:
            getattr(message, field.name).FromDatetime(parse_time(value))
        else:
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), value)
