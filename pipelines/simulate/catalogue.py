"""The media: who made them, of which genres, how long, how popular, and when they came and went."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from pipelines.simulate.clients import ClientStyle, make_event
from pipelines.simulate.records import CONTENT_UPLOAD, Event

GENRES = ("drama", "comedy", "documentary", "music", "news", "sport", "kids", "thriller")
LANGUAGES = ("en", "de", "fr", "hi", "es", "pt-BR")
# Kind of media: share of the catalogue, shortest and longest (seconds).
_LENGTHS = ((0.14, 8, 59), (0.6, 120, 330), (0.2, 1_200, 3_000), (0.06, 4_800, 8_400))
_BEFORE_START_DAYS = 20
_SHARE_BEFORE_START = 0.7
_SHARE_WITHOUT_DURATION = 0.06
_SHARE_REMOVED = 0.05
_SHARE_CUT_AGAIN = 0.04
_WORDS = (
    ("Silent", "Golden", "Northern", "Broken", "Electric", "Distant", "Crimson", "Café", "Midnight", "夜の"),
    ("River", "Harbour", "Signal", "Garden", "Machine", "Letters", "Horizon", "Carnival", "Étude", "電車"),
)


@dataclass(frozen=True)
class Media:
    """A media and its life; times are UTC."""

    media_id: str
    creator_id: str
    title: str
    genres: tuple[str, ...]
    language: str | None
    seconds: float
    """Its true length, which decides how long viewers can watch."""
    tells_duration: bool
    """Whether its uploads say the duration."""
    uploaded_at: datetime
    processed_at: datetime
    published_at: datetime
    removed_at: datetime | None
    cut_again_at: datetime | None
    """When it is published again in another cut, 10 % shorter; None: never."""

    def length_at(self, moment: datetime) -> float:
        """Seconds of the cut that is shown at `moment`."""
        return self.seconds if self._is_first_cut(moment) else round(self.seconds * 0.9, 3)

    def _is_first_cut(self, moment: datetime) -> bool:
        return self.cut_again_at is None or moment < self.cut_again_at

    def can_be_watched(self, moment: datetime) -> bool:
        """Whether it is public at `moment`."""
        return self.published_at <= moment and (self.removed_at is None or moment < self.removed_at)


class Catalogue:
    """All media, drawn by a Zipf law over their ranks: the list's order is the order of popularity."""

    def __init__(self, media: Sequence[Media]) -> None:
        self.media = media
        self._weights = list(accumulate(1 / rank**0.9 for rank in range(1, len(media) + 1)))

    def draw(self, rng: random.Random) -> Media:
        """A media by popularity alone."""
        return self.media[bisect(self._weights, rng.random() * self._weights[-1])]


def make_catalogue(rng: random.Random, size: int, start: datetime, days: int) -> Catalogue:
    """`size` media, most of them published in the weeks before `start`, the rest during the `days`."""
    creators = [f"creator-{number:03}" for number in range(1, max(2, size // 8) + 1)]
    return Catalogue([_make_media(rng, number, creators, start, days) for number in range(1, size + 1)])


def _make_media(
    rng: random.Random, number: int, creators: Sequence[str], start: datetime, days: int
) -> Media:
    early = rng.random() < _SHARE_BEFORE_START
    uploaded = start + timedelta(
        days=-rng.uniform(0.1, _BEFORE_START_DAYS) if early else rng.uniform(0, days)
    )
    processed = uploaded + timedelta(seconds=rng.uniform(60, 2_400))
    published = processed + timedelta(seconds=rng.uniform(5, 7_200))
    end = start + timedelta(days=days)
    removed = _moment_within(rng, max(start, published), end, _SHARE_REMOVED)
    cut_again = _moment_within(rng, max(start, published), end, _SHARE_CUT_AGAIN)
    return Media(
        media_id=f"media-{number:05}",
        creator_id=rng.choice(creators),
        title=f"{' '.join(rng.choice(words) for words in _WORDS)} {number}",
        genres=tuple(rng.sample(GENRES, rng.choice((1, 1, 2, 3)))),
        language=rng.choice(LANGUAGES) if rng.random() < 0.9 else None,
        seconds=_draw_length(rng),
        tells_duration=rng.random() >= _SHARE_WITHOUT_DURATION,
        uploaded_at=uploaded,
        processed_at=processed,
        published_at=published,
        removed_at=removed,
        cut_again_at=cut_again if removed is None else None,
    )


def _draw_length(rng: random.Random) -> float:
    _, shortest, longest = rng.choices(_LENGTHS, weights=[share for share, _, _ in _LENGTHS])[0]
    length = rng.uniform(shortest, longest)
    # Some catalogues know milliseconds, most whole seconds.
    return round(length, 3) if rng.random() < 0.3 else float(round(length))


def _moment_within(rng: random.Random, start: datetime, end: datetime, share: float) -> datetime | None:
    moment = start + (end - start) * rng.uniform(0.1, 1)
    return moment if rng.random() < share and start < end else None


def upload_events(rng: random.Random, catalogue: Catalogue) -> Iterator[Event]:
    """The content uploads of every media; a duration is known from `processed` on."""
    for media in catalogue.media:
        style = ClientStyle.draw(rng, version=1, names_events=0.7)
        steps = [
            ("uploaded", media.uploaded_at),
            ("processed", media.processed_at),
            ("published", media.published_at),
            ("published", media.cut_again_at),
            ("removed", media.removed_at),
        ]
        for status, moment in steps:
            if moment is not None:
                fields = _upload_fields(media, status, moment)
                yield make_event(rng, style, CONTENT_UPLOAD, media.media_id, fields, moment)


def _upload_fields(media: Media, status: str, moment: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "mediaId": media.media_id,
        "creatorId": media.creator_id,
        "title": media.title,
        "status": status,
    }
    if status in ("processed", "published"):
        fields["durationSeconds"] = media.length_at(moment) if media.tells_duration else None
        fields["genres"] = list(media.genres)
        fields["language"] = media.language
    # Producers leave out or send null; both mean unknown.
    return {name: value for name, value in fields.items() if value is not None or name == "language"}
