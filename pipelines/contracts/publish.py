"""Registers the contracts in a schema registry, for producers that write Confluent's wire format.

Subjects: serializers look under `<topic>-value` (TopicNameStrategy, their default), and a subject is for one
kind of schema, since the registry compares its versions. The strategies by the record's name do not part the
kinds either: Avro and Protobuf have the same full name here. So Avro has `<topic>-value`; Protobuf and JSON
Schema have `<topic>-value-protobuf` and `<topic>-value-json`, which their serializers are told as the name of
the subject. Readers do not need subjects: a record carries the schema's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.contracts.load import Contract, contracts, text_of
from pipelines.errors import UsageError
from pipelines.registry import Registry, SchemaRefusedError


@dataclass(frozen=True)
class _Encoding:
    kind: str
    file: str
    subject: str


_ENCODINGS = {
    "avro": _Encoding("AVRO", "schema.avsc", "{topic}-value"),
    "protobuf": _Encoding("PROTOBUF", "schema.proto", "{topic}-value-protobuf"),
    "json": _Encoding("JSON", "schema.json", "{topic}-value-json"),
}
ENCODINGS = tuple(_ENCODINGS)
"""The encodings of every contract."""


def require_encodings(names: Iterable[str]) -> None:
    """Raises UsageError (`unknown_encoding`) for a name that is none of ENCODINGS."""
    for name in names:
        if name not in ENCODINGS:
            message = f"there is no encoding {name}; use {', '.join(ENCODINGS)}"
            raise UsageError(message, code="unknown_encoding")


@dataclass(frozen=True)
class Published:
    """A version of an event, registered in one encoding."""

    event_type: str
    version: int
    encoding: str
    subject: str
    schema_id: int


def publish(
    registry: Registry, topics_by_event_type: Mapping[str, str], encodings: Iterable[str] = ENCODINGS
) -> list[Published]:
    """Register every version of the events, oldest first; what is registered already keeps its id.

    Raises UsageError for an encoding that is none of ENCODINGS, and the errors of `Registry.register`.
    """
    chosen = tuple(encodings)
    require_encodings(chosen)
    return [
        _publish(registry, contract, topic, encoding)
        for event_type, topic in topics_by_event_type.items()
        for encoding in chosen
        for contract in contracts(event_type).values()
    ]


def _publish(registry: Registry, contract: Contract, topic: str, encoding: str) -> Published:
    how = _ENCODINGS[encoding]
    subject, text = how.subject.format(topic=topic), text_of(contract, how.file)
    try:
        number = registry.register(subject, how.kind, text)
    except SchemaRefusedError as error:
        if not (error.incompatible and how.kind == "JSON"):
            raise
        # By the rules of registries an object that lets unknown fields in, as ours, may not gain a field:
        # some unknown field may have had its name. Our contracts are compared by rules of their own.
        registry.accept_any(subject)
        number = registry.register(subject, how.kind, text)
    return Published(contract.event_type, contract.version, encoding, subject, number)


def ids_of(published: Iterable[Published]) -> dict[tuple[str, int, str], int]:
    """The registry's id by event type, version and encoding."""
    return {(one.event_type, one.version, one.encoding): one.schema_id for one in published}
