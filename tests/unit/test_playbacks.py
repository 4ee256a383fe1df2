"""Spark's playbacks and daily tables on small frames, against the reference, one definition at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from encoded import bronze, encoded
from lake_rows import plain_rows, rows_of
from reference_events import MICRO, act, later, upload

from pipelines.config import Config
from pipelines.engine.sorting import sort_out
from pipelines.gold.audience_daily import audience_daily
from pipelines.gold.media_catalog import durations, first_plays, media_catalog
from pipelines.gold.media_daily import media_daily
from pipelines.gold.playbacks import playbacks, stream_clock
from pipelines.silver import content_uploads, user_actions
from pipelines.simulate.reference import compute

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HISTORIES: dict[str, tuple[list[Any], list[Any]]] = {
    "paused, skipped early, completed, restarted": (
        [
            *(act("a", "play", 0), act("b", "pause", 45), act("c", "play", 50), act("d", "skip", 60)),
            *(
                act("e", "play", 70),
                act("f", "complete", 200),
                act("g", "play", 300),
                act("h", "resume", 301),
            ),
        ],
        [],
    ),
    "switched by a seek of other media, own seeks passed over": (
        [act("a", "play", 0), act("b", "seek", 5), act("c", "seek", 9), act("d", "seek", 20, media="x")],
        [],
    ),
    "the limit to the microsecond": (
        [act("a", "play", 0), act("b", "pause", 100), act("c", "play", 200), act("d", "pause", 300 + MICRO)],
        [upload("u", duration="100")],
    ),
    "positions, before and behind the end": (
        [act("a", "play", 0, position="95"), act("b", "play", 10, position="120"), later(20000)],
        [upload("u", duration="100")],
    ),
    "abandoned and open without a duration": (
        [act("a", "play", 0), act("b", "play", 14401, user="v"), later(14402)],
        [],
    ),
    "short media count from their half": (
        [act("a", "play", 0), act("b", "pause", 10), act("c", "play", 20), act("d", "pause", 29.999999)],
        [upload("u", duration="20")],
    ),
    "complete from 95 percent on": (
        [
            *(act("a", "play", 0, position="0"), act("b", "skip", 95)),  # completed
            *(act("c", "play", 0, user="v"), act("d", "skip", 95 - MICRO, user="v")),  # not
            *(act("e", "play", 0, user="w", position="50"), act("f", "skip", 45, user="w")),  # completed
            *(act("g", "play", 0, user="x", position="50"), act("h", "skip", 45 - MICRO, user="x")),  # not
        ],
        [upload("u", duration="100")],
    ),
    "early until 30 seconds": (
        [
            *(act("a", "play", 0), act("b", "skip", 30)),  # counted, not early
            *(act("c", "play", 0, user="v"), act("d", "skip", 30 - MICRO, user="v")),  # early, not counted
        ],
        [upload("u", duration="7200")],
    ),
    # A media of exactly 60 s cannot show whether it is short: its half is 30 s, which count in any case.
    "half is enough of what is shorter than a minute": (
        [
            *(act("a", "play", 0), act("b", "pause", 30 - MICRO)),  # not counted: m is 60 s long
            *(act("c", "play", 0, "x", "v"), act("d", "pause", 30 - MICRO, "x", "v")),  # counted: half of x
            *(act("e", "play", 0, "x", "w"), act("f", "pause", 30 - 2 * MICRO, "x", "w")),  # not
        ],
        [upload("u", duration="60"), upload("w", duration="59.999998", media="x")],
    ),
    "counted from 30 seconds on": (
        [act("a", "play", 0), act("b", "pause", 30), act("c", "play", 0, user="v"), later(20000)],
        [upload("u", duration="60")],
    ),
    "the clock at a limit has not passed it": (
        [
            *(act("a", "play", 0), act("b", "play", 0, media="x", user="v")),  # open, completed
            act("c", "play", 100 - 4 * 3600, media="y", user="w"),  # open: of unknown duration
            act("d", "play", 100 - 4 * 3600 - MICRO, media="y", user="x"),  # abandoned
            later(100),
        ],
        [upload("u", duration="100"), upload("w", duration="99.999999", media="x")],
    ),
    "ties in time go by event id": ([act("b", "pause", 0), act("a", "play", 0), act("c", "skip", 0)], []),
    "a day's end, several users": (
        [
            *(act("a", "play", 43190), act("b", "skip", 43205), act("c", "play", 43200, user="v")),
            *(act("d", "play", -90000, user="w"), act("e", "pause", 43300, user="w")),
        ],
        [upload("u", duration="7200", genres=("x",)), upload("v", 10, status="removed")],
    ),
}


def frame(spark: SparkSession, table: Any, events: list[Any]) -> DataFrame:
    names = table.column_names
    rows = [
        tuple(list(v) if isinstance(v := vars(event).get(name), tuple) else v for name in names)
        for event in events
    ]
    return spark.createDataFrame(rows, table.schema())


@pytest.mark.parametrize("name", HISTORIES)
def test_equals_the_reference(spark: SparkSession, name: str) -> None:
    actions, uploads = HISTORIES[name]
    expected = compute(actions, uploads)
    a, u = frame(spark, user_actions.TABLE, actions), frame(spark, content_uploads.TABLE, uploads)
    plays = playbacks(a, durations(u), stream_clock(a, jitter_seconds=120)).cache()
    found = {
        "playbacks": plays,
        "media_daily": media_daily(a, plays),
        "audience_daily": audience_daily(a, plays),
        "media_catalog": media_catalog(u, first_plays(plays)),
    }
    for table, rows in expected.items():
        want = plain_rows(rows)
        assert rows_of(found[table], list(want[0]) if want else found[table].columns) == want, table


def test_final_means_decided_before_the_jitter(spark: SparkSession) -> None:
    events = [
        act("a", "play", 0),
        act("b", "pause", 10),
        act("c", "play", 20),
        act("d", "pause", 30),
        later(130.5),
    ]
    a = frame(spark, user_actions.TABLE, events)
    none = spark.createDataFrame([], "media_id string, duration_seconds decimal(18,6)")
    rows = playbacks(a, none, stream_clock(a, jitter_seconds=120)).collect()
    assert {row.playback_id: row.is_final for row in rows} == {"a": True, "c": False}


def test_an_empty_list_of_genres_tells_none(spark: SparkSession) -> None:
    told = {"mediaId": "m", "creatorId": "c", "title": "t", "status": "published"}
    events = [
        {**told, "eventId": "a", "timestamp": "2026-01-05T10:00:00Z", "genres": ["drama"]},
        {**told, "eventId": "b", "timestamp": "2026-01-05T11:00:00Z", "genres": []},
    ]
    sent = bronze(spark, [encoded(event, "content-upload", 1, "json") for event in events])
    silver = content_uploads.content_uploads(sort_out(sent, Config()).events)
    unplayed = spark.createDataFrame([], "media_id string, first_play_at timestamp")
    (row,) = compute([], [upload("a", -7200, genres=("drama",)), upload("b", -3600, genres=())])[
        "media_catalog"
    ]
    assert row["genres"] == ["drama"]
    assert rows_of(media_catalog(silver, unplayed), list(row)) == plain_rows([row])
