"""Each event once: the first in bronze's order stays, whatever the batch and the history hold."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.silver.deduplicate import candidates, copies, where_copies_stand, without

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 1, 5, 12)
BATCH = (
    "event_type string, event_id string, ingested_at timestamp, topic string, partition int, offset bigint"
)


def kept(spark: SparkSession, batch: list[tuple[str, str, int]], known: list[tuple[str, str]]) -> list[int]:
    """Offsets that stay of a batch (event type, identity, offset)."""
    rows = [(kind, identity, NOON, "t", 0, offset) for kind, identity, offset in batch]
    accepted = spark.createDataFrame(rows, BATCH)
    held = spark.createDataFrame(known, "event_type string, event_id string")
    stays = []
    for is_small in (True, False):
        found = candidates(accepted, held, is_small).localCheckpoint()
        rows = without(accepted, copies(accepted, found)).collect()
        stays.append(sorted(row.offset for row in rows))
    assert stays[0] == stays[1]
    return stays[0]


def test_the_first_of_copies_in_a_batch_stays(spark: SparkSession) -> None:
    assert kept(spark, [("a", "x", 7), ("a", "x", 3), ("a", "y", 5), ("a", "x", 9)], []) == [3, 5]


def test_the_first_is_told_by_its_batch_of_bronze_then_by_its_place(spark: SparkSession) -> None:
    later = NOON + timedelta(minutes=1)
    places = [(later, "a", 0, 0), (NOON, "b", 1, 9), (NOON, "b", 0, 10), (NOON, "c", 0, 1)]
    accepted = spark.createDataFrame([("a", "x", *place) for place in places], BATCH)
    held = spark.createDataFrame([], "event_type string, event_id string")
    (left,) = without(accepted, copies(accepted, candidates(accepted, held, True))).collect()
    assert (left.topic, left.partition, left.offset) == ("b", 0, 10)


def test_what_silver_holds_does_not_come_again(spark: SparkSession) -> None:
    assert kept(spark, [("a", "x", 1), ("a", "y", 2), ("a", "x", 3)], [("a", "x"), ("a", "z")]) == [2]


def test_one_identity_of_two_event_types_is_two_events(spark: SparkSession) -> None:
    assert kept(spark, [("a", "x", 1), ("b", "x", 2)], [("c", "x")]) == [1, 2]


def _read(
    spark: SparkSession, rows: list[tuple[datetime, datetime]], hours: set[datetime], recorded: Any
) -> set[int]:
    """Which rows (time of the event, time of the record) are looked at, an hour around the records."""
    numbered = [(n, at, at.date(), recorded_at) for n, (at, recorded_at) in enumerate(rows)]
    schema = "number int, occurred_at timestamp, event_date date, record_timestamp timestamp"
    read = where_copies_stand(hours, recorded, timedelta(minutes=60))
    return {row.number for row in spark.createDataFrame(numbered, schema).where(read).collect()}


def test_only_the_hours_of_the_events_and_near_records_are_read(spark: SparkSession) -> None:
    long_ago, old = NOON - timedelta(days=30), NOON - timedelta(days=400)
    rows = [
        (NOON, old),  # a copy has its event's time, however old its record
        (NOON + timedelta(minutes=59), old),
        (NOON + timedelta(hours=1), old),  # another hour
        (long_ago, long_ago),
        (long_ago, NOON - timedelta(minutes=60)),  # one identity given to two times
        (long_ago, NOON - timedelta(minutes=61)),
        (long_ago, NOON + timedelta(minutes=60)),  # a record that was held comes after the later one
        (long_ago, NOON + timedelta(minutes=61)),
    ]
    assert _read(spark, rows, {NOON}, [(NOON, NOON)]) == {0, 1, 4, 6}


def test_the_records_near_each_record_of_a_long_batch_are_read(spark: SparkSession) -> None:
    long_ago, later = NOON - timedelta(days=30), NOON + timedelta(hours=9)
    rows = [
        (long_ago, NOON + timedelta(minutes=minutes)) for minutes in (-61, -60, 60, 61, 479, 480, 600, 601)
    ]
    assert _read(spark, rows, {NOON}, [(later, later), (NOON, NOON)]) == {1, 2, 5, 6}


def test_many_scattered_hours_are_read_by_day(spark: SparkSession) -> None:
    hours = [NOON + timedelta(hours=2 * n) for n in range(100)]
    rows = [(NOON + timedelta(hours=1), date(2026, 1, 5), NOON - timedelta(days=400))]
    schema = "occurred_at timestamp, event_date date, record_timestamp timestamp"
    read = where_copies_stand(hours, [(NOON, NOON)], timedelta(0))
    assert spark.createDataFrame(rows, schema).where(read).count() == 1
