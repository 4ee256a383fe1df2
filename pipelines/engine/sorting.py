"""Sorts records out, for the stream and for a replay: which are events, which are refused and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from typing import NamedTuple

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from pipelines import topics
from pipelines.config import Config
from pipelines.contracts.binary import JSON, decode_binary, encoding, kinds_of
from pipelines.contracts.decode import decode, event_type_of, record_time
from pipelines.contracts.referee import Limits
from pipelines.contracts.schema_ids import Meanings, SchemaIds
from pipelines.contracts.times import parse_time
from pipelines.declare import Reads
from pipelines.engine.batch import hold
from pipelines.silver import content_uploads, quarantine, system_events, user_actions
from pipelines.silver.deduplicate import ORDER, PLACE, Span, candidates, copies, where_copies_stand, without

_EPOCH = datetime(1970, 1, 1)
_SMALL = 200_000
"""Up to so many events (count) their hashes are sent to all that is known; beyond, both are exchanged."""
# Event type: its table, and the pure function of its rows.
EVENTS = {
    user_actions.EVENT_TYPE: (user_actions.TABLE, user_actions.user_actions),
    content_uploads.EVENT_TYPE: (content_uploads.TABLE, content_uploads.content_uploads),
    system_events.EVENT_TYPE: (system_events.TABLE, system_events.system_events),
}


def limits_of(config: Config) -> Limits:
    """The configured limits."""
    earliest = parse_time(config.limits.earliest_timestamp)
    assert earliest is not None  # the configuration has checked it
    return Limits(config.limits.max_record_bytes, earliest, timedelta(hours=config.limits.future_hours))


def reuse_window(config: Config) -> timedelta:
    """The configured distance of records with one identity and two times."""
    return timedelta(minutes=config.dedup.reuse_window_minutes)


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition}"


@dataclass
class Counted:
    """What there is of one place."""

    records: int = 0
    accepted: int = 0
    first_offset: int | None = None
    last_offset: int | None = None


@dataclass(frozen=True)
class Sorted:
    """Records sorted out."""

    events: DataFrame
    """What a contract accepts, decoded; copies are still among them."""
    refused: DataFrame | None
    """Rows for quarantine; None: there are none."""
    places: dict[Place, Counted]
    hours: dict[str, set[datetime]]
    """By event type the hours (UTC) of the events."""
    recorded: list[Span]
    """Spans, ends included, of the records' times at the broker (UTC), also of those refused."""
    kept: tuple[DataFrame, ...]
    """What is kept until `close`."""

    def close(self) -> None:
        """Free what is kept; the frames are of no use then. A process that ends need not."""
        for frame in self.kept:
            frame.unpersist()


def sort_out(records: DataFrame, config: Config, ids: SchemaIds | None = None) -> Sorted:
    """Decode and validate `records`, which have bronze's columns; none is lost.

    `ids` asks for the schemas that records name; None: anew.
    """
    limits = limits_of(config)
    meanings: Meanings = {}
    typed = records.withColumn("event_type", event_type_of(topics.event_types(config)))
    typed = typed.withColumn("encoding", encoding(topics.encodings(config)))
    text = F.when(F.col("encoding") == JSON, F.col("value"))
    # Computed once and kept by columns, of which most readers want a few: no dearer than to throw it away.
    decoded = decode(typed.withColumn("value", text), limits).persist()
    found, later, kept = _counts(decoded), [], [decoded]
    doubts = decoded.where(~F.col("accepted") & (F.col("encoding") == JSON)).select(*PLACE)
    if any(not row["accepted"] and row["encoding"] != JSON for row in found):
        binary = typed.where(F.col("encoding") != JSON)
        kinds = kinds_of(binary)
        asked = {kind.schema_id for kind in kinds if kind.schema_id is not None}
        meanings = (ids or SchemaIds(config)).meanings(asked)
        read = decode_binary(binary, kinds, meanings, limits).persist()
        kept.append(read)
        later += _counts(read)
        doubts = doubts.unionByName(read.where("NOT accepted").select(*PLACE))
    events = reduce(DataFrame.unionByName, [frame.where("accepted") for frame in kept])
    refused = None
    if sum(row["n"] for row in found) > sum(row["n"] for row in [*found, *later] if row["accepted"]):
        doubted = typed.join(doubts, list(PLACE), "left_semi")
        judged = hold(quarantine.judged(doubted, limits, F.col("encoding"), meanings))
        recovered, refused, counts = _by_referee(judged, limits)
        later += counts
        if recovered is not None:
            events = events.unionByName(recovered)
    hours, recorded = _hours([*found, *later]), [(row["oldest"], row["newest"]) for row in found]
    return Sorted(events, refused, _places(found, later), hours, recorded, tuple(kept))


def first_ones(found: Sorted, reuse: timedelta, read: Reads) -> tuple[DataFrame, dict[Place, int]]:
    """The events without copies of one another and of what the tables hold, and the copies by place (count).

    `read` gives the tables as they stand before; `reuse` is how far apart two records of one identity and
    two times may be.
    """
    known = [
        read(EVENTS[t][0])
        .where(where_copies_stand(hours, found.recorded, reuse))
        .select(F.lit(t).alias("event_type"), "event_id")
        for t, hours in found.hours.items()
    ]
    if not known:
        return found.events, {}
    narrow = found.events.select("event_type", "event_id", *ORDER)
    is_small = sum(place.accepted for place in found.places.values()) <= _SMALL
    met = hold(candidates(narrow, reduce(DataFrame.unionByName, known), is_small))
    if met.isEmpty():
        return found.events, {}
    removed = hold(copies(narrow, met))
    return without(found.events, F.broadcast(removed)), counts_by_place(removed)


def counts_by_place(records: DataFrame) -> dict[Place, int]:
    """Records of each partition (count)."""
    counts = records.groupBy("topic", "partition").count().collect()
    return {Place(row["topic"], row["partition"]): int(row["count"]) for row in counts}


def silver_places(read: Reads, days: Mapping[str, Iterable[date]] | None = None) -> DataFrame:
    """Topic, partition and offset of every event in silver; `days`: only of these dates, by event type."""
    parts = []
    for event_type, (table, _) in EVENTS.items():
        rows = read(table)
        if days is not None:
            rows = rows.where(F.col("event_date").isin(*days.get(event_type, ())))
        parts.append(rows.select(*PLACE))
    return reduce(DataFrame.unionByName, parts)


def _by_referee(judged: DataFrame, limits: Limits) -> tuple[DataFrame | None, DataFrame, list[Row]]:
    """Of records that the referee has judged the events (None: none), the rows for quarantine, the counts."""
    refused = quarantine.quarantine(judged)
    if judged.where(F.col("text").isNotNull()).isEmpty():
        return None, refused, []
    recovered = _recovered(judged, limits).localCheckpoint(eager=False)
    counts = _counts(recovered)
    if any(not row["accepted"] for row in counts):
        turned = quarantine.undecodable(judged, recovered.where("NOT accepted"))
        refused = refused.unionByName(quarantine.quarantine(turned))
    return recovered.where("accepted"), refused, counts


def _recovered(judged: DataFrame, limits: Limits) -> DataFrame:
    """The records that the referee accepted, decoded from their canonical text."""
    clean = judged.where(F.col("text").isNotNull()).withColumn("value", F.encode("text", "UTF-8"))
    clean = clean.withColumn("encoding", F.lit(JSON))
    return decode(clean, limits, F.col("judged_version")).drop("text", "judged_version", "reasons")


def _counts(decoded: DataFrame) -> list[Row]:
    """What the next steps, and the ledger, need to know: in one pass."""
    at = record_time()
    hour, recorded = (F.floor(F.unix_seconds(time) / 3600) for time in (F.col("occurred_at"), at))
    kind = F.when(~F.col("accepted"), F.col("encoding")).alias("encoding")
    return (
        decoded.groupBy("topic", "partition", "event_type", "accepted", kind, hour.alias("hour"), recorded)
        .agg(
            F.count("*").alias("n"),
            F.min(at).alias("oldest"),
            F.max(at).alias("newest"),
            F.min("offset").alias("first"),
            F.max("offset").alias("last"),
        )
        .collect()
    )


def _places(found: list[Row], later: list[Row]) -> dict[Place, Counted]:
    places: dict[Place, Counted] = {}
    for row in found:
        one = places.setdefault(Place(row["topic"], row["partition"]), Counted())
        one.records += row["n"]
        one.first_offset = row["first"] if one.first_offset is None else min(one.first_offset, row["first"])
        one.last_offset = row["last"] if one.last_offset is None else max(one.last_offset, row["last"])
    for row in [*found, *later]:
        if row["accepted"]:
            places[Place(row["topic"], row["partition"])].accepted += row["n"]
    return places


def _hours(found: list[Row]) -> dict[str, set[datetime]]:
    hours: dict[str, set[datetime]] = {}
    for row in found:
        if row["accepted"]:
            hours.setdefault(row["event_type"], set()).add(_EPOCH + row["hour"] * timedelta(hours=1))
    return hours
