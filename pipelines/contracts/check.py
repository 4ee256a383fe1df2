"""Everything that can be wrong with the contracts: what `reelhouse schemas check` looks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipelines.contracts.agreement import disagreements
from pipelines.contracts.compatibility import breaks_of
from pipelines.contracts.load import contracts, event_types, settings
from pipelines.contracts.released import Lock, changes
from pipelines.errors import ReelhouseError


class Fault(NamedTuple):
    """One thing that is wrong."""

    check: str
    """`agreement`, `released` or `compatibility`."""
    event: str
    fault: str


def faults(lock: Lock) -> Iterator[Fault]:
    """What is wrong with the working contracts, by event."""
    for event in sorted({*event_types(), *lock}):
        if event not in event_types():
            yield Fault("released", event, f"{event} is released and gone; put its folder back in schemas/")
            continue
        unsound = [line for contract in contracts(event).values() for line in _lines(disagreements, contract)]
        yield from (Fault("agreement", event, line) for line in unsound)
        # A file that cannot be read is told once.
        changed = [line for line in _lines(_changes, event, lock) if line not in unsound]
        yield from (Fault("released", event, line) for line in changed)
        # Files that contradict one another are not worth comparing with other versions.
        broken = [] if unsound else _lines(_breaks, event, lock)
        yield from (Fault("compatibility", event, line) for line in broken)


def _lines(check: Callable[..., list[str]], *arguments: object) -> list[str]:
    """What a check says; a file that it cannot read is a fault as well."""
    try:
        return check(*arguments)
    except ReelhouseError as error:
        return [str(error)]


def _changes(event: str, lock: Lock) -> list[str]:
    return changes(lock, event, contracts(event), settings(event))


def _breaks(event: str, lock: Lock) -> list[str]:
    """Each version against those before it: a new one by the mode of now, a released one by its own."""
    versions, released = list(contracts(event).values()), lock.get(event, {})
    found = []
    for place, new in enumerate(versions):
        mode = (released.get(new.version) or settings(event)).compatibility
        found += breaks_of(new, versions[:place], mode)
    return [str(one) for one in found]
