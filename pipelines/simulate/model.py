"""The viewer model: what a population does with a catalogue over some days, as records in delivery order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Any

from pipelines.simulate.catalogue import Catalogue, make_catalogue, upload_events
from pipelines.simulate.clients import make_event, new_id
from pipelines.simulate.delivery import Courier
from pipelines.simulate.records import USER_ACTION, Delivery, Event, to_milliseconds
from pipelines.simulate.servers import Server, make_servers, server_events
from pipelines.simulate.viewers import Viewer, make_viewer, visits
from pipelines.simulate.watching import Step, visit

DEFAULT_START = datetime(2026, 1, 5, tzinfo=timezone.utc)
"""A Monday; the simulated time lies in the past, so that no record comes from the future."""
DEFAULT_USERS, DEFAULT_DAYS, DEFAULT_SEED = 400, 7, 1
"""Together about 100,000 records."""

_SMALLEST_CATALOGUE = 40
_USERS_PER_MEDIA = 2
_SHARE_WRONG_CLOCK = 0.003
_SHARE_WITHOUT_POSITION = 0.05


def simulate(users: int, days: int, seed: int, start: datetime = DEFAULT_START) -> Iterator[Delivery]:
    """The records of `users` viewers over `days` from `start` (UTC), ordered by their time at the broker.

    The same arguments give the same records. Held in memory at a time: one day, and what is delayed.
    """
    end = start + timedelta(days=days)
    catalogue = make_catalogue(
        _generator(seed, "catalogue"), max(_SMALLEST_CATALOGUE, users // _USERS_PER_MEDIA), start, days
    )
    servers = make_servers(_generator(seed, "servers"), start, days)
    courier = Courier(_generator(seed, "delivery"), end)
    audience = [_Audience(seed, number, days, catalogue, servers) for number in range(1, users + 1)]
    pending: list[Delivery] = []
    for event in _backstage_events(seed, catalogue, servers, start, end):
        pending.extend(courier.deliver(event))
    for day in range(days):
        for member in audience:
            for event in member.events_of_day(day, start, end):
                pending.extend(courier.deliver(event))
        # Whatever is generated for the coming days arrives on them: up to midnight nothing more can come.
        due, pending = _split(pending, start + timedelta(days=day + 1))
        yield from due


def _generator(seed: int, name: str) -> random.Random:
    """A generator of its own for each part: text seeds are hashed by SHA-512, the same everywhere."""
    return random.Random(f"{seed}/{name}")


def _backstage_events(
    seed: int, catalogue: Catalogue, servers: Sequence[Server], start: datetime, end: datetime
) -> Iterator[Event]:
    uploads = upload_events(_generator(seed, "uploads"), catalogue)
    fleet = (server_events(_generator(seed, s.server_id), s, start, end) for s in servers)
    for event in chain(uploads, *fleet):
        if event.happened_at < end:
            yield event


def _split(pending: list[Delivery], midnight: datetime) -> tuple[list[Delivery], list[Delivery]]:
    """The records before `midnight` by time, and the rest; an original stays before its copies."""
    pending.sort(key=lambda delivery: delivery.timestamp_ms)
    limit = to_milliseconds(midnight)
    due = [delivery for delivery in pending if delivery.timestamp_ms < limit]
    return due, pending[len(due) :]


class _Audience:
    """One viewer through the simulation, with a generator of its own."""

    def __init__(
        self, seed: int, number: int, days: int, catalogue: Catalogue, servers: Sequence[Server]
    ) -> None:
        self._rng = _generator(seed, f"viewer/{number}")
        self._viewer = make_viewer(self._rng, number, days)
        self._catalogue, self._servers = catalogue, servers
        self._busy_until: datetime | None = None

    def events_of_day(self, day: int, start: datetime, end: datetime) -> Iterator[Event]:
        """The events of the visits that begin on the day with index `day`, none at or after `end`."""
        if day < self._viewer.joins_on:
            return
        for moment in visits(self._rng, self._viewer, start + timedelta(days=day)):
            # Nobody watches twice at a time: who is still watching does not come anew.
            if self._busy_until is None or moment > self._busy_until:
                for step in self._visit(moment):
                    self._busy_until = step.moment + timedelta(minutes=1)
                    if step.moment < end:
                        yield self._event(step)

    def _visit(self, moment: datetime) -> Iterator[Step]:
        session = new_id(self._rng)
        return visit(self._rng, self._viewer, self._catalogue, self._servers, moment, session)

    def _event(self, step: Step) -> Event:
        rng, viewer = self._rng, self._viewer
        wrong = rng.random() < _SHARE_WRONG_CLOCK
        error = timedelta(seconds=rng.uniform(-6 * 3600, 20 * 3600) if wrong else 0)
        fields = _action_fields(rng, viewer, step)
        return make_event(rng, viewer.style, USER_ACTION, viewer.user_id, fields, step.moment, error)


def _action_fields(rng: random.Random, viewer: Viewer, step: Step) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "userId": viewer.user_id,
        "action": step.action,
        "mediaId": step.media.media_id,
    }
    if viewer.style.version == 1:
        return fields
    if rng.random() >= _SHARE_WITHOUT_POSITION:
        fields["positionSeconds"] = step.position
    return fields | {
        "sessionId": step.session_id,
        "device": {"platform": viewer.platform, "appVersion": viewer.app_version},
        "region": viewer.region,
        "serverId": step.server.server_id,
    }
