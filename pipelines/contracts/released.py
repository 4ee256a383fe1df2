"""The lock file `schemas/released.json`: what every released version was when it was released.

A released version never changes: records of it are in Kafka and in bronze, and consumers read by it. Each
file has a fingerprint of what it means, so that layout, comments and descriptions may still be improved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from pipelines.contracts import avro as avro_files
from pipelines.contracts import protobuf as protobuf_files
from pipelines.contracts.json_clashes import meaning
from pipelines.contracts.load import (
    Contract,
    Settings,
    all_contracts,
    contracts_folder,
    settings,
    unreadable,
)
from pipelines.errors import ReelhouseError

if TYPE_CHECKING:
    from importlib.abc import Traversable


@dataclass(frozen=True)
class Released:
    """What is remembered of a released version."""

    compatibility: str
    """The mode that it was held to, and is still."""
    identity: tuple[str, ...]
    fingerprints: Mapping[str, str]
    """By name of the file: SHA-256 of what it means."""


Lock = dict[str, dict[int, Released]]
"""By event and version."""


def lock_file() -> Traversable:
    """Where the lock is."""
    return contracts_folder() / "released.json"


def read_lock() -> Lock:
    """The released versions; none when there is no lock. Raises ReelhouseError (`contract_unreadable`)."""
    file = lock_file()
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return {event: {int(v): _released(one) for v, one in found.items()} for event, found in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(file, error) from error


def _released(told: Mapping[str, Any]) -> Released:
    return Released(str(told["compatibility"]), tuple(told["identity"]), dict(told["fingerprints"]))


def as_it_is(contract: Contract, told: Settings) -> Released:
    """What the lock would hold of a version now. Raises ReelhouseError (`contract_unreadable`)."""
    return Released(told.compatibility, told.identity, fingerprints(contract))


def fingerprints(contract: Contract) -> dict[str, str]:
    """By name of the file: SHA-256 of what it means. Raises ReelhouseError (`contract_unreadable`)."""
    avro_files.schema(contract)  # so that a file that is no Avro is told by its name
    return {
        "schema.json": _digest(_canonical(meaning(contract.schema))),
        "schema.avsc": _digest(_canonical(_without_doc(json.loads(avro_files.schema_text(contract))))),
        "schema.proto": _digest(_descriptor(protobuf_files.file_of(contract))),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _without_doc(value: Any) -> Any:
    """An Avro schema without documentation.

    More than Avro's canonical form, which leaves out defaults, aliases and logical types: readers go by them.
    """
    if isinstance(value, dict):
        return {key: _without_doc(inner) for key, inner in value.items() if key != "doc"}
    return [_without_doc(inner) for inner in value] if isinstance(value, list) else value


def _descriptor(file: FileDescriptorProto) -> bytes:
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("name")
    return bytes(bare.SerializeToString(deterministic=True))


def changes(lock: Lock, event_type: str, working: Mapping[int, Contract], told: Settings) -> list[str]:
    """What differs from what was released, as sentences; none: the released versions are as they were."""
    found = []
    for version, released in lock.get(event_type, {}).items():
        name = f"{event_type} {version}"
        if version not in working:
            found.append(
                f"{name} is released and gone; put it back: records and consumers of it may still come"
            )
            continue
        now = as_it_is(working[version], told)
        for file, fingerprint in now.fingerprints.items():
            if released.fingerprints.get(file) != fingerprint:
                fix = f"a released version never changes: put it back, and make version {max(working) + 1}"
                found.append(f"{name}, {file} is not what was released; {fix}")
        if released.identity != now.identity:
            was = ", ".join(released.identity)
            found.append(f"{name} was released with the identity {was}; put it back in contract.toml")
    return found


def release(lock: Lock) -> list[Contract]:
    """Record the versions that the lock does not hold yet, and return them."""
    added = [one for one in all_contracts() if one.version not in lock.get(one.event_type, {})]
    for one in added:
        lock.setdefault(one.event_type, {})[one.version] = as_it_is(one, settings(one.event_type))
    told = {
        event: {str(version): asdict(lock[event][version]) for version in sorted(lock[event])}
        for event in sorted(lock)
    }
    file = lock_file()
    if not isinstance(file, Path):
        message = f"{file} is inside a wheel and cannot be written; release from a checkout"
        raise ReelhouseError(message, code="contracts_unwritable")
    file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return added
