"""One thing that does not go together between two versions of an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Clash(NamedTuple):
    """What a consumer does, and what producers do that does not go with it."""

    consumer: str
    producer: str


def listed(values: Sequence[Any]) -> str:
    """Values for people."""
    return ", ".join("null" if value is None else repr(value) for value in values)
