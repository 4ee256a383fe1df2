"""One silver batch: decode, judge what is in doubt, drop copies, append to the tables.

Exactly once: every write carries the batch's id, and a replayed batch computes the same rows. Nothing is
lost: a record is in its silver table, is a copy of one that is, or is in quarantine.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.contracts.decode import decode, event_type_of
from pipelines.contracts.referee import Limits, parse_time
from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.silver import content_uploads, quarantine, system_events, user_actions
from pipelines.silver.deduplicate import ORDER, copies, known_identities, without

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
        decoded = _cut(_without_payload(decode(typed, limits)))
        dates, doubted = _summary(decoded)
        events = decoded.where("accepted")
        writes: list[tuple[Table, DataFrame]] = []
        if doubted:
            judged = _cut(quarantine.judged(decoded.where(~F.col("accepted")), limits))
            refused = quarantine.quarantine(judged)
            if not judged.where(F.col("text").isNotNull()).isEmpty():
                recovered = _cut(_recovered(judged, limits))
                found_dates, undecoded = _summary(recovered)
                for event_type, found in found_dates.items():
                    dates[event_type] = dates.get(event_type, set()) | found
                if undecoded:
                    turned = quarantine.undecodable(judged, recovered.where(~F.col("accepted")))
                    refused = refused.unionByName(quarantine.quarantine(turned))
                events = events.unionByName(recovered.where("accepted"))
            writes.append((quarantine.TABLE, refused))
        removed = _cut(self._copies(events, dates, lake))
        writes += [(EVENTS[t][0], EVENTS[t][1](without(events, removed))) for t in dates]
        self._append(writes, batch_id, lake)

    def _copies(self, events: DataFrame, dates: dict[str, set[date]], lake: Lake) -> DataFrame:
        narrow = events.select("event_type", "event_id", *ORDER)
        known = [
            known_identities(lake.read(EVENTS[t][0]).where(self._where_copies_stand(days)), narrow, t)
            for t, days in dates.items()
        ]
        nothing = narrow.where(F.lit(False)).select("event_type", "event_id")
        return copies(narrow, reduce(DataFrame.unionByName, known, nothing))

    def _where_copies_stand(self, days: set[date]) -> SparkColumn:
        """A copy has its event's time, so it stands on the same day: what is read does not grow with history.

        A producer that gives one identity to two times is caught within the reuse window before the newest
        day of the batch.
        """
        newest = max(days)
        span = self.config.dedup.reuse_window_days
        window = {newest - timedelta(days=n) for n in range(span + 1)}
        return F.col("event_date").isin(sorted(days | window))

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


def _summary(decoded: DataFrame) -> tuple[dict[str, set[date]], int]:
    """By event type the dates of accepted events, and the count of records in doubt."""
    found = decoded.groupBy("event_type", "accepted").agg(
        F.count("*").alias("n"), F.collect_set(F.to_date("occurred_at")).alias("days")
    )
    rows = found.collect()
    dates = {row["event_type"]: set(row["days"]) for row in rows if row["accepted"]}
    return dates, sum(row["n"] for row in rows if not row["accepted"])


def _recovered(judged: DataFrame, limits: Limits) -> DataFrame:
    """The records that the referee accepted, decoded from their canonical text."""
    clean = judged.where(F.col("text").isNotNull()).withColumn("value", F.encode("text", "UTF-8"))
    return decode(clean, limits, F.col("judged_version")).drop("text", "judged_version", "reasons")
