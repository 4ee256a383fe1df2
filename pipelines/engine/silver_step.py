"""One silver batch: decode, judge what is in doubt, drop copies, append to the tables.

Exactly once: every write carries the batch's id, and a replayed batch computes the same rows. Nothing is
lost: a record is in its silver table, is a copy of one that is, or is in quarantine.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.contracts.decode import decode, event_type_of
from pipelines.contracts.referee import Limits, parse_time
from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.silver import content_uploads, quarantine, system_events, user_actions
from pipelines.silver.deduplicate import ORDER, candidates, copies, where_copies_stand, without

_EPOCH = datetime(1970, 1, 1)
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


def types_by_topic(config: Config) -> dict[str, str]:
    """Event type by configured topic."""
    topics = config.kafka.topics
    return {
        topics.user_actions: user_actions.EVENT_TYPE,
        topics.content_uploads: content_uploads.EVENT_TYPE,
        topics.system_events: system_events.EVENT_TYPE,
    }


@dataclass(frozen=True)
class SilverStep:
    """Processes batches of bronze rows into the silver tables of one lake."""

    config: Config
    app_id: str

    def __call__(self, batch: DataFrame, batch_id: int, lake: Lake) -> None:
        """Process one batch; running it again for the same id changes nothing."""
        limits = limits_of(self.config)
        typed = batch.withColumn("event_type", event_type_of(types_by_topic(self.config)))
        decoded = _without_payload(decode(typed, limits)).localCheckpoint(eager=False)
        summary = _summary(decoded)
        events = decoded.where("accepted")
        writes: list[tuple[Table, DataFrame]] = []
        if summary.doubted:
            judged = _cut(quarantine.judged(decoded.where(~F.col("accepted")), limits))
            refused = quarantine.quarantine(judged)
            if not judged.where(F.col("text").isNotNull()).isEmpty():
                recovered = _recovered(judged, limits).localCheckpoint(eager=False)
                again = _summary(recovered)
                summary = summary.and_also(again)
                if again.doubted:
                    turned = quarantine.undecodable(judged, recovered.where(~F.col("accepted")))
                    refused = refused.unionByName(quarantine.quarantine(turned))
                events = events.unionByName(recovered.where("accepted"))
            writes.append((quarantine.TABLE, refused))
        events = self._once(events, summary, lake)
        writes += [(EVENTS[t][0], EVENTS[t][1](events)) for t in summary.hours]
        self._append(writes, batch_id, lake)

    def _once(self, events: DataFrame, summary: _Summary, lake: Lake) -> DataFrame:
        """The events without copies of one another, and of what the tables hold."""
        reuse = timedelta(minutes=self.config.dedup.reuse_window_minutes)
        known = [
            lake.read(EVENTS[t][0])
            .where(where_copies_stand(hours, summary.newest_record, reuse))
            .select(F.lit(t).alias("event_type"), "event_id")
            for t, hours in summary.hours.items()
        ]
        if not known:
            return events
        narrow = events.select("event_type", "event_id", *ORDER)
        found = _cut(candidates(narrow, reduce(DataFrame.unionByName, known)))
        if found.isEmpty():
            return events
        return without(events, F.broadcast(_cut(copies(narrow, found))))

    def _append(self, writes: Iterable[tuple[Table, DataFrame]], batch_id: int, lake: Lake) -> None:
        def write(item: tuple[Table, DataFrame]) -> None:
            table, rows = item
            lake.append(table, rows, Txn(f"{self.app_id}/{table.full_name}", batch_id))

        with ThreadPoolExecutor(len(EVENTS) + 1) as pool:
            list(pool.map(write, writes))


def _cut(frame: DataFrame) -> DataFrame:
    """The frame computed and kept, without its plan: every step upon a long plan would analyse all of it."""
    return frame.localCheckpoint(eager=True)


def _without_payload(decoded: DataFrame) -> DataFrame:
    """Accepted events need their record's bytes no more: only what is in doubt keeps them."""
    for name in ("key", "value", "headers"):
        decoded = decoded.withColumn(name, F.when(~F.col("accepted"), F.col(name)))
    return decoded


@dataclass(frozen=True)
class _Summary:
    """What the next steps need to know of a batch."""

    hours: dict[str, set[datetime]]
    """By event type the hours (UTC) of accepted events."""
    newest_record: datetime
    """Latest time of a record at the broker (UTC)."""
    doubted: int
    """Records in doubt (count)."""

    def and_also(self, other: _Summary) -> _Summary:
        """With the hours of `other`, whose records are among these."""
        types = {**self.hours, **other.hours}
        hours = {t: self.hours.get(t, set()) | other.hours.get(t, set()) for t in types}
        return _Summary(hours, self.newest_record, self.doubted)


def _summary(decoded: DataFrame) -> _Summary:
    hour = F.floor(F.unix_seconds("occurred_at") / 3600).alias("hour")
    counts = decoded.groupBy("event_type", "accepted", hour)
    rows = counts.agg(F.count("*").alias("n"), F.max("timestamp").alias("newest")).collect()
    hours: dict[str, set[datetime]] = {}
    for row in rows:
        if row["accepted"]:
            hours.setdefault(row["event_type"], set()).add(_EPOCH + row["hour"] * timedelta(hours=1))
    newest = max((row["newest"] for row in rows), default=_EPOCH)
    return _Summary(hours, newest, sum(row["n"] for row in rows if not row["accepted"]))


def _recovered(judged: DataFrame, limits: Limits) -> DataFrame:
    """The records that the referee accepted, decoded from their canonical text."""
    clean = judged.where(F.col("text").isNotNull()).withColumn("value", F.encode("text", "UTF-8"))
    return decode(clean, limits, F.col("judged_version")).drop("text", "judged_version", "reasons")
