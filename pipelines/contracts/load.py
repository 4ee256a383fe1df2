"""Loads the contracts, `schemas/<event>/<version>/`, and says what their fields are.

`schema.json` is the source of truth; `schema.avsc` and `schema.proto` say the same for the other encodings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import ReelhouseError

if TYPE_CHECKING:
    from importlib.abc import Traversable
if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A wheel carries the contracts inside the package, a checkout beside it. On a cluster the wheel is not
# unpacked: so they are read as resources, which need not be files.
_FOLDERS: tuple[Traversable, ...] = (
    files("pipelines") / "_schemas",
    Path(__file__).resolve().parent.parent.parent / "schemas",
)

Fields = Mapping[str, dict[str, Any]]
"""Fields by name, with the JSON Schema of each."""
NOTES = frozenset({"title", "description"})
KEYWORDS = frozenset({"$schema", "$id", "type", "required", "properties", "if", "then"})
FIELD_KEYWORDS = frozenset({"type", "enum", "const", "minimum", "format", "items", "properties"})
"""JSON Schema's keywords that the stream compiles and `schemas check` compares: of an event, of a field."""


@dataclass(frozen=True)
class Settings:
    """What holds for every version of an event: its `contract.toml`."""

    identity: tuple[str, ...]
    """The fields, in order, that identify an event whose producer gave it no identity."""
    compatibility: str
    """What a new version may change: NONE, BACKWARD, FORWARD or FULL, with or without _TRANSITIVE."""


@dataclass(frozen=True, eq=False)
class Contract:
    """One version of one event."""

    event_type: str
    version: int
    schema: dict[str, Any]
    """JSON Schema, draft-07 or the later one that it names."""
    folder: Traversable
    """Where the files of the version are."""

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """The declared fields, with the schema of each."""
        found: dict[str, dict[str, Any]] = self.schema["properties"]
        return found

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that every event has."""
        return tuple(self.schema.get("required", ()))


def kind_of(field: dict[str, Any]) -> str:
    """`string`, `number`, `array`, `object` or `date-time`: a field's type, null apart."""
    types = field["type"] if isinstance(field["type"], list) else [field["type"]]
    kind = next(str(t) for t in types if t != "null")
    return "date-time" if kind == "string" and field.get("format") == "date-time" else kind


def is_date_time(field: dict[str, Any]) -> bool:
    """Whether a field is a time."""
    return kind_of(field) == "date-time"


def allows_null(field: Any) -> bool:
    """Whether the schema of a field, or what an `if` or `then` says of it, accepts null."""
    if not isinstance(field, dict):  # `true` and `false` are schemas too
        return bool(field)
    is_listed = None in field.get("enum", [None]) and field.get("const") is None
    return is_listed and "null" in field.get("type", "null")


@cache
def text_of(contract: Contract, name: str) -> str:
    """The text of a file of a version. Raises ReelhouseError (`contract_unreadable`)."""
    file = contract.folder / name
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error


@cache
def contracts_folder() -> Traversable:
    """The folder `schemas/`. Raises ReelhouseError (`contract_unreadable`)."""
    folder = next((f for f in _FOLDERS if f.is_dir()), None)
    if folder is None:
        message = "there are no contracts; install the package whole, or add schemas/"
        raise ReelhouseError(message, code="contract_unreadable")
    return folder


@cache
def event_types() -> tuple[str, ...]:
    """Every event that has a contract, in the order of their names."""
    folders = contracts_folder().iterdir()
    return tuple(sorted(f.name for f in folders if (f / "contract.toml").is_file()))


@cache
def settings(event_type: str) -> Settings:
    """What holds for every version of an event. Raises ReelhouseError (`contract_unreadable`)."""
    file = contracts_folder() / event_type / "contract.toml"
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
        return Settings(tuple(told["identity"]), str(told["compatibility"]))
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(file, error) from error


@cache
def contracts(event_type: str) -> dict[int, Contract]:
    """The versions of an event, oldest first. Raises ReelhouseError (`contract_unreadable`)."""
    found: dict[int, Contract] = {}
    event = contracts_folder() / event_type
    for folder in event.iterdir() if event.is_dir() else ():
        file = folder / "schema.json"
        if not file.is_file():
            continue
        try:
            schema, version = json.loads(file.read_text(encoding="utf-8")), int(folder.name)
        except ValueError as error:
            raise unreadable(file, error) from error
        found[version] = Contract(event_type, version, schema, folder)
    return dict(sorted(found.items()))


def all_contracts() -> list[Contract]:
    """Every version of every event, oldest first. Raises ReelhouseError (`contract_unreadable`)."""
    return [contract for event_type in event_types() for contract in contracts(event_type).values()]


def unreadable(file: Traversable, error: Exception) -> ReelhouseError:
    """What to raise for a file of a contract that cannot be read."""
    message = f"the contract {file} cannot be read ({error}); correct it"
    return ReelhouseError(message, code="contract_unreadable")


def all_fields(event_type: str) -> dict[str, dict[str, Any]]:
    """The fields of every version together, inside objects too; a newer version's word counts."""
    fields: dict[str, dict[str, Any]] = {}
    for contract in contracts(event_type).values():
        fields = _merged(fields, contract.fields)
    return fields


def _merged(older: Fields, newer: Fields) -> dict[str, dict[str, Any]]:
    merged = {**older, **newer}
    for name in older.keys() & newer.keys():
        if "properties" in older[name] and "properties" in newer[name]:
            inner = _merged(older[name]["properties"], newer[name]["properties"])
            merged[name] = {**newer[name], "properties": inner}
    return merged


@cache
def text_fields() -> frozenset[str]:
    """The fields, by path (`device.platform`), that a version of an event has as text."""
    every = (contract for event_type in event_types() for contract in contracts(event_type).values())
    return frozenset(path for contract in every for path in _texts(contract.fields))


def _texts(fields: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, field in fields.items():
        kind = kind_of(field)
        if kind in ("string", "date-time"):
            yield above + name
        elif kind == "object":
            yield from _texts(field["properties"], f"{above}{name}.")
