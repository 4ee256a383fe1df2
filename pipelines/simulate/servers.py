"""The streaming servers: which there are, when they fail, and what they report."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.simulate.clients import ClientStyle, make_event
from pipelines.simulate.records import SYSTEM_EVENT, Event

REGIONS: Mapping[str, float] = {"eu-west": 1.0, "us-east": -5.0, "ap-south": 5.5}
"""UTC offset of each region's viewers (hours)."""
_SERVERS_PER_REGION = 2
_STATUS_EVERY = timedelta(minutes=5)
_RESOURCES_EVERY = timedelta(minutes=10)
_DAYS_BETWEEN_OUTAGES = 2.0
_BUSIEST_HOUR = 20


@dataclass(frozen=True)
class Outage:
    """A server is not well in [started_at, ended_at); plays stop while it is down."""

    started_at: datetime
    ended_at: datetime
    status: str
    """`degraded` or `down`."""


@dataclass(frozen=True)
class Server:
    """A server and its outages, in order of time and apart."""

    server_id: str
    region: str
    outages: Sequence[Outage]

    def status_at(self, moment: datetime) -> str:
        """`up`, `degraded` or `down`."""
        index = bisect_right(self.outages, moment, key=lambda o: o.started_at) - 1
        if index >= 0 and moment < self.outages[index].ended_at:
            return self.outages[index].status
        return "up"

    def next_down(self, moment: datetime) -> datetime | None:
        """When it next goes down after `moment`; None: never."""
        falls = (o.started_at for o in self.outages if o.status == "down" and o.started_at > moment)
        return next(falls, None)


def make_servers(rng: random.Random, start: datetime, days: int) -> list[Server]:
    """Two servers in each region."""
    return [
        Server(f"{region}-{number}", region, _make_outages(rng, start, days))
        for region in REGIONS
        for number in range(1, _SERVERS_PER_REGION + 1)
    ]


def _make_outages(rng: random.Random, start: datetime, days: int) -> list[Outage]:
    outages: list[Outage] = []
    moment, end = start, start + timedelta(days=days)
    while True:
        moment += timedelta(days=rng.expovariate(1 / _DAYS_BETWEEN_OUTAGES))
        if moment >= end:
            return outages
        ended = moment + timedelta(minutes=rng.uniform(4, 90))
        if rng.random() < 0.5:
            # It ails before it falls: one incident of two outages.
            falls = moment + (ended - moment) * rng.uniform(0.1, 0.6)
            outages += [Outage(moment, falls, "degraded"), Outage(falls, ended, "down")]
        else:
            outages.append(Outage(moment, ended, rng.choice(("degraded", "down"))))
        moment = ended + timedelta(minutes=10)


def choose_server(rng: random.Random, servers: Sequence[Server], region: str, moment: datetime) -> Server:
    """One of the region's servers that is not down, else any in the region."""
    local = [server for server in servers if server.region == region]
    return rng.choice([server for server in local if server.status_at(moment) != "down"] or local)


def server_events(rng: random.Random, server: Server, start: datetime, end: datetime) -> Iterator[Event]:
    """Its status every 5 minutes and at each change, its resources every 10 minutes, in [start, end)."""
    style = ClientStyle.draw(rng, version=1, names_events=0.5)
    for moment, kind in sorted(_reports(rng, server, start, end)):
        fields: dict[str, Any] = {"serverId": server.server_id, "kind": kind, "region": server.region}
        status = server.status_at(moment)
        fields |= {"status": status} if kind == "status" else _resources(rng, status, server.region, moment)
        yield make_event(rng, style, SYSTEM_EVENT, server.server_id, fields, moment)


def _reports(
    rng: random.Random, server: Server, start: datetime, end: datetime
) -> Iterator[tuple[datetime, str]]:
    """When it reports, and which kind. A server that is down sends no resources."""
    lag = timedelta(seconds=rng.uniform(0, 59))
    for kind, every in (("status", _STATUS_EVERY), ("resource", _RESOURCES_EVERY)):
        moment = start + lag
        while moment < end:
            if kind == "status" or server.status_at(moment) != "down":
                yield moment, kind
            moment += every
    for outage in server.outages:
        for moment in (outage.started_at, outage.ended_at):
            if start <= moment < end:
                yield moment, "status"


def _resources(rng: random.Random, status: str, region: str, moment: datetime) -> dict[str, float]:
    hour = (moment.hour + moment.minute / 60 + REGIONS[region]) % 24
    load = 0.55 + 0.35 * math.cos((hour - _BUSIEST_HOUR) / 24 * math.tau)
    strain = 1.4 if status == "degraded" else 1.0
    return {
        "cpuPercent": round(min(100.0, 100 * load * strain * rng.uniform(0.7, 1.0)), 2),
        "memoryPercent": round(min(100.0, 40 + 40 * load * strain * rng.uniform(0.9, 1.1)), 2),
        "bandwidthMbps": round(900 * load * rng.uniform(0.8, 1.2), 3),
    }
