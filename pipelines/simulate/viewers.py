"""Who watches: where, on what, how often, and what they like."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.simulate.catalogue import GENRES, Catalogue, Media
from pipelines.simulate.clients import ClientStyle
from pipelines.simulate.servers import REGIONS

_PLATFORMS = ("web", "ios", "android", "tv")
_APP_VERSIONS = ("4.1.0", "4.2.3", "5.0.1")
_SHARE_VERSION_1 = 0.3
_VISITS_PER_DAY = 4.0
_TRIES = 5
# Viewers per local hour of the day, relative: quiet nights, a lunch hill, an evening peak.
_RHYTHM = (3, 1, 1, 1, 1, 2, 4, 7, 8, 6, 6, 8, 11, 9, 7, 7, 9, 12, 16, 20, 22, 20, 14, 7)


@dataclass(frozen=True)
class Viewer:
    """A viewer; nothing of it changes during the simulation."""

    user_id: str
    region: str
    platform: str
    app_version: str
    style: ClientStyle
    taste: Mapping[str, float]
    """How much each genre is liked, 0 to 1."""
    visits_per_day: float
    joins_on: int
    """First day (index) of the simulation on which it may watch."""

    def fit(self, media: Media) -> float:
        """How well a media suits, 0 to 1: mostly its best genre, partly their mean."""
        liked = [self.taste[genre] for genre in media.genres]
        return 0.7 * max(liked) + 0.3 * sum(liked) / len(liked)


def make_viewer(rng: random.Random, number: int, days: int) -> Viewer:
    """The viewer with this number; most are there from the first day, the others join later."""
    version = 1 if rng.random() < _SHARE_VERSION_1 else 2
    favourites = rng.sample(GENRES, 2)
    return Viewer(
        user_id=f"user-{number:06}",
        region=rng.choices(tuple(REGIONS), weights=(5, 4, 3))[0],
        platform=rng.choice(_PLATFORMS),
        app_version=rng.choice(_APP_VERSIONS),
        style=ClientStyle.draw(rng, version, names_events=0.9 if version == 2 else 0.0),
        taste={g: rng.uniform(0.7, 1) if g in favourites else rng.uniform(0, 0.6) for g in GENRES},
        visits_per_day=_VISITS_PER_DAY * rng.lognormvariate(-0.125, 0.5),
        joins_on=0 if rng.random() < 0.8 else rng.randrange(days),
    )


def visits(rng: random.Random, viewer: Viewer, day: datetime) -> Iterator[datetime]:
    """When the viewer comes on the UTC day that begins at `day`, in order of time."""
    offset = REGIONS[viewer.region]
    weights = [_RHYTHM[math.floor((hour + offset) % 24)] for hour in range(24)]
    hours = rng.choices(range(24), weights=weights, k=_poisson(rng, viewer.visits_per_day))
    yield from sorted(day + timedelta(hours=hour, seconds=rng.uniform(0, 3600)) for hour in hours)


def _poisson(rng: random.Random, mean: float) -> int:
    """Knuth's method: fine for the small means here."""
    threshold, count, product = math.exp(-mean), 0, rng.random()
    while product > threshold:
        count += 1
        product *= rng.random()
    return count


def choose_media(rng: random.Random, viewer: Viewer, catalogue: Catalogue, moment: datetime) -> Media | None:
    """A public media, by popularity and taste; None when nothing was found in a few tries."""
    fallback = None
    for _ in range(_TRIES):
        media = catalogue.draw(rng)
        if media.can_be_watched(moment):
            fallback = media
            if rng.random() < 0.15 + 0.85 * viewer.fit(media):
                return media
    return fallback
