"""What the ids of Confluent's wire format mean: asked from the registry, matched with the contracts.

Wire format: a byte 0, the schema's id in four bytes (big-endian), for Protobuf the place of the message, and
the payload.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipelines.config import Config
from pipelines.contracts import avro, protobuf
from pipelines.contracts.load import Contract, all_contracts
from pipelines.errors import ReelhouseError

MAGIC = 0
PREFIX_BYTES = 5


@dataclass(frozen=True)
class KnownSchema:
    """A registered schema, as far as it is one of the contracts'."""

    encoding: str
    """`json`, `avro` or `protobuf`."""
    versions: Mapping[tuple[str, tuple[int, ...]], int]
    """Version by event type and place of the message in its file (Protobuf; else empty)."""

    def version(self, event_type: str, place: tuple[int, ...] = ()) -> int | None:
        """The contract's version; None: the schema is none of this event's."""
        return self.versions.get((event_type, place))


@dataclass(frozen=True)
class UnknownId:
    """An id that could not be asked or is not known, and why."""

    code: str
    """`unknown_schema_id` or `registry_unavailable`."""
    message: str


Meanings = Mapping[int, KnownSchema | UnknownId]
"""By schema id what it means."""


@dataclass
class SchemaIds:
    """Asks the registry for ids: each that it knows once, the others again after a while."""

    config: Config
    _known: dict[int, KnownSchema] = field(default_factory=dict)
    _failed: dict[int | None, tuple[float, UnknownId]] = field(default_factory=dict)
    """By id when it was asked last, in vain; under None: when the registry did not answer."""

    def meanings(self, ids: Iterable[int]) -> Meanings:
        """What each id means; never raises."""
        return {number: self._meaning(number) for number in sorted(ids)}

    def _meaning(self, number: int) -> KnownSchema | UnknownId:
        if number in self._known:
            return self._known[number]
        for failed in (number, None):
            asked, failure = self._failed.get(failed, (0.0, None))
            if failure and time.monotonic() - asked < self.config.registry.retry_seconds:
                return failure
        found = self._asked(number)
        if isinstance(found, KnownSchema):
            self._known[number] = found
        else:
            is_down = found.code == "registry_unavailable"
            self._failed[None if is_down else number] = time.monotonic(), found
        return found

    def _asked(self, number: int) -> KnownSchema | UnknownId:
        if self.config.registry.url is None:
            message = (
                f"it begins as Confluent's wire format with schema {number}, and registry.url is not set"
            )
            return UnknownId("unknown_schema_id", message)
        from pipelines.registry import Registry  # only who asks needs an HTTP client

        try:
            found = Registry.of(self.config.registry).schema(number)
        except ReelhouseError as error:
            return UnknownId(error.code, str(error))
        return match(found.kind, found.text)


def match(kind: str, text: str) -> KnownSchema:
    """A registered schema (`AVRO`, `JSON`, `PROTOBUF`) as the contracts' versions that it equals."""
    if kind == "PROTOBUF":
        shapes = {protobuf.shape(c): (c.event_type, c.version) for c in all_contracts()}
        places = {(name, shape): place for place, name, shape in protobuf.messages(text)}
        found = {(shapes[s][0], place): shapes[s][1] for s, place in places.items() if s in shapes}
        return KnownSchema("protobuf", found)
    is_same = avro.is_same if kind == "AVRO" else _is_same_json
    nowhere: tuple[int, ...] = ()
    same = {(c.event_type, nowhere): c.version for c in all_contracts() if is_same(text, c)}
    return KnownSchema(kind.lower(), same)


def _is_same_json(text: str, contract: Contract) -> bool:
    try:
        return bool(json.loads(text) == contract.schema)
    except (ValueError, RecursionError):
        return False


def schema_id(value: bytes) -> int:
    """The id in a record of the wire format."""
    return int.from_bytes(value[1:PREFIX_BYTES], "big")
