"""How events reach the broker: mostly at once, some out of order, late or twice, and broken records between.

Every record's time is before the simulation's end: a delay that would pass it is drawn anew within it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from pipelines.simulate.clients import encode, encode_anew
from pipelines.simulate.faults import FaultMaker
from pipelines.simulate.records import Delivery, Event, to_milliseconds

_SHARE_LATE = 0.02
_SHARE_DISORDERED = 0.1
_SHARE_COPIED = 0.01
_SHARE_REWRITTEN = 0.001
_SHARE_BROKEN = 0.01
_MINUTE, _DAY = 60.0, 86_400.0


class Courier:
    """Delivers events until `end`."""

    def __init__(self, rng: random.Random, end: datetime) -> None:
        self._rng = rng
        # The last moment at which a record may arrive.
        self._end = end - timedelta(milliseconds=1)
        self._faults = FaultMaker(rng)

    def deliver(self, event: Event) -> Iterator[Delivery]:
        """The record of `event`, perhaps copies of it at any distance, perhaps a broken record beside it."""
        rng = self._rng
        arrival = self._after(event.happened_at, self._delay())
        first = _delivery(event, arrival, encode(event))
        yield first
        if rng.random() < _SHARE_COPIED:
            copied = self._after(arrival, _log_uniform(rng, 0.01, 6 * _DAY))
            yield _delivery(event, copied, encode(event))
        if rng.random() < _SHARE_REWRITTEN:
            rewritten = self._after(arrival, _log_uniform(rng, 1, 3 * _DAY))
            yield _delivery(event, rewritten, encode_anew(rng, event))
        if rng.random() < _SHARE_BROKEN:
            yield self._faults.break_event(event, first.timestamp_ms)

    def _delay(self) -> float:
        """Seconds from the event to the broker."""
        kind = self._rng.random()
        if kind < _SHARE_LATE:
            return _log_uniform(self._rng, _MINUTE, 4 * _DAY)
        if kind < _SHARE_LATE + _SHARE_DISORDERED:
            return self._rng.uniform(1, _MINUTE)
        return 0.02 + self._rng.expovariate(5)

    def _after(self, moment: datetime, delay: float) -> datetime:
        arrival = moment + timedelta(seconds=delay)
        if arrival <= self._end:
            return arrival
        return moment + max(timedelta(0), self._end - moment) * self._rng.random()


def _delivery(event: Event, arrival: datetime, value: bytes) -> Delivery:
    return Delivery(to_milliseconds(arrival), event.event_type, event.key, value, event.headers, event)


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Every order of magnitude between `low` and `high` is as likely as the next."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
