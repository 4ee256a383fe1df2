"""How a viewer watches: the actions of one visit, from the first play to the last."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.simulate.catalogue import Catalogue, Media
from pipelines.simulate.servers import Server, choose_server
from pipelines.simulate.viewers import Viewer, choose_media

_MEAN_PLAYS = 7
_SHARE_AUTOPLAY = 0.1
_SHARE_PART_WAY = 0.08
# Viewers stay for a few hours at the most, however long the films are.
_LONGEST_VISIT = timedelta(hours=5)


@dataclass(frozen=True)
class Step:
    """One action of a viewer."""

    moment: datetime
    action: str
    media: Media
    position: float
    """Position in the media (seconds)."""
    session_id: str
    server: Server


@dataclass(frozen=True)
class Outcome:
    """How one media was watched: the steps, when it was over, and whether the viewer stays."""

    steps: list[Step]
    over_at: datetime
    stays: bool


def visit(
    rng: random.Random,
    viewer: Viewer,
    catalogue: Catalogue,
    servers: Sequence[Server],
    start: datetime,
    session_id: str,
) -> Iterator[Step]:
    """The steps of one visit that begins at `start`; later steps never come before earlier ones."""
    moment = start
    for _ in range(1 + int(rng.expovariate(1 / _MEAN_PLAYS))):
        media = choose_media(rng, viewer, catalogue, moment)
        if media is None or moment > start + _LONGEST_VISIT:
            return
        server = choose_server(rng, servers, viewer.region, moment)
        outcome = _Watch(rng, viewer, media, server, session_id).run(moment)
        yield from outcome.steps
        if not outcome.stays:
            return
        # Autoplay starts the next at the very instant of the end: ties in time are part of life.
        pause = 0.0 if rng.random() < _SHARE_AUTOPLAY else rng.uniform(1.5, 90)
        moment = outcome.over_at + timedelta(seconds=pause)


class _Watch:
    """One media watched by one viewer."""

    def __init__(
        self, rng: random.Random, viewer: Viewer, media: Media, server: Server, session_id: str
    ) -> None:
        self._rng, self._viewer, self._media = rng, viewer, media
        self._server, self._session_id = server, session_id
        self._steps: list[Step] = []
        self._knows_all_actions = viewer.style.version >= 2

    def run(self, start: datetime) -> Outcome:
        """Play until the viewer finishes, skips, leaves, or the server falls."""
        rng, length = self._rng, self._media.length_at(start)
        position = round(rng.uniform(0, length * 0.8), 3) if rng.random() < _SHARE_PART_WAY else 0.0
        leaves_at, ending = self._intention(position, length)
        self._add(start, "play", position)
        moment = start
        for _ in range(int(rng.expovariate(1.1))):
            watched = rng.uniform(2, max(3.0, leaves_at - position))
            if position + watched >= leaves_at:
                break
            position = round(position + watched, 3)
            moment, position = self._interrupt(moment + timedelta(seconds=watched), position, leaves_at)
        over_at = moment + timedelta(seconds=max(1.0, leaves_at - position))
        return self._end(moment, over_at, leaves_at, ending)

    def _intention(self, position: float, length: float) -> tuple[float, str]:
        """The position where the viewer means to end, and how: completion follows the fit with its taste."""
        rng, fit = self._rng, self._viewer.fit(self._media)
        if rng.random() < 0.1 + 0.75 * fit:
            return length, "complete"
        patience = min(length - position, 5 + rng.expovariate(1 / (20 + 0.4 * fit * length)))
        ending = rng.choices(("skip", "pause", "vanish"), weights=(6, 2, 2))[0]
        return round(position + max(1.0, patience), 3), ending

    def _interrupt(self, moment: datetime, position: float, leaves_at: float) -> tuple[datetime, float]:
        """A pause with its resume, or a seek; returns when and where it goes on."""
        rng = self._rng
        if self._knows_all_actions and rng.random() < 0.45:
            # Players report the position before or after the jump; here it is the one after.
            target = round(rng.uniform(max(0.0, position - 60), min(leaves_at, position + 120)), 3)
            self._add(moment, "seek", target)
            return moment, target
        self._add(moment, "pause", position)
        back = moment + timedelta(seconds=2 + rng.expovariate(1 / 100))
        self._add(back, "resume" if self._knows_all_actions else "play", position)
        return back, position

    def _end(self, moment: datetime, over_at: datetime, leaves_at: float, ending: str) -> Outcome:
        fall = self._server.next_down(moment)
        if fall is not None and fall < over_at:
            # The stream stops without a word from the player; half of the viewers try again.
            return Outcome(self._steps, fall, self._rng.random() < 0.5)
        if ending == "complete" and (not self._knows_all_actions or self._rng.random() < 0.15):
            # Version 1 has no `complete`, and some players forget it.
            return Outcome(self._steps, over_at, True)
        if ending == "vanish":
            return Outcome(self._steps, over_at, False)
        self._add(over_at, ending, leaves_at)
        return Outcome(self._steps, over_at, ending != "pause" or self._rng.random() < 0.3)

    def _add(self, moment: datetime, action: str, position: float) -> None:
        self._steps.append(Step(moment, action, self._media, position, self._session_id, self._server))
