"""Loads the contracts, `schemas/<event>/<version>/schema.json`, and says what their fields are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.errors import ReelhouseError

_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel carries the contracts inside the package, a checkout beside it.
_FOLDERS = (_PACKAGE / "_schemas", _PACKAGE.parent / "schemas")

CANONICAL_FIELDS = {
    "user-action": ("userId", "action", "timestamp", "mediaId"),
    "content-upload": ("mediaId", "creatorId", "title", "status", "timestamp"),
    "system-event": ("serverId", "kind", "timestamp"),
}
"""By event type: the fields, in order, that identify an event whose producer gave it no identity."""


@dataclass(frozen=True)
class Contract:
    """One version of one event."""

    event_type: str
    version: int
    schema: dict[str, Any]
    """JSON Schema, draft-07."""

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


def is_nullable(field: dict[str, Any]) -> bool:
    """Whether a field may be null."""
    return isinstance(field["type"], list) and "null" in field["type"]


@cache
def contracts(event_type: str) -> dict[int, Contract]:
    """The versions of an event, oldest first. Raises ReelhouseError (`contract_unreadable`)."""
    folder = next((f / event_type for f in _FOLDERS if (f / event_type).is_dir()), None)
    if folder is None:
        message = f"there are no contracts of {event_type}; install the package whole, or add schemas/"
        raise ReelhouseError(message, code="contract_unreadable")
    found: dict[int, Contract] = {}
    for file in folder.glob("*/schema.json"):
        try:
            version = int(file.parent.name)
            found[version] = Contract(event_type, version, json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            message = f"the contract {file} cannot be read ({error}); correct it"
            raise ReelhouseError(message, code="contract_unreadable") from error
    return dict(sorted(found.items()))


def all_fields(event_type: str) -> dict[str, dict[str, Any]]:
    """The fields of every version together; a newer version's word counts."""
    fields: dict[str, dict[str, Any]] = {}
    for contract in contracts(event_type).values():
        fields.update(contract.fields)
    return fields
