"""Each event once: the first in bronze's order stays, whatever the batch and the history hold."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

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


def test_what_silver_holds_does_not_come_again(spark: SparkSession) -> None:
    assert kept(spark, [("a", "x", 1), ("a", "y", 2), ("a", "x", 3)], [("a", "x"), ("a", "z")]) == [2]


def test_one_identity_of_two_event_types_is_two_events(spark: SparkSession) -> None:
    assert kept(spark, [("a", "x", 1), ("b", "x", 2)], [("c", "x")]) == [1, 2]


def test_only_the_hours_of_the_events_and_recent_records_are_read(spark: SparkSession) -> None:
    rows = []
    for number, (occurred, recorded) in enumerate(
        [
            (NOON, NOON - timedelta(days=400)),  # a copy has its event's time, however old its record
            (NOON + timedelta(minutes=59), NOON - timedelta(days=400)),
            (NOON + timedelta(hours=1), NOON - timedelta(days=400)),  # another hour
            (NOON - timedelta(days=30), NOON - timedelta(days=30)),
            (NOON - timedelta(days=30), NOON - timedelta(minutes=60)),  # one identity given to two times
            (NOON - timedelta(days=30), NOON - timedelta(minutes=61)),
        ]
    ):
        rows.append((number, occurred, occurred.date(), recorded))
    schema = "number int, occurred_at timestamp, event_date date, record_timestamp timestamp"
    read = where_copies_stand({NOON}, NOON, timedelta(minutes=60))
    found = spark.createDataFrame(rows, schema).where(read).collect()
    assert sorted(row.number for row in found) == [0, 1, 4]


def test_many_scattered_hours_are_read_by_day(spark: SparkSession) -> None:
    hours = [NOON + timedelta(hours=2 * n) for n in range(100)]
    rows = [(NOON + timedelta(hours=1), date(2026, 1, 5), NOON - timedelta(days=400))]
    schema = "occurred_at timestamp, event_date date, record_timestamp timestamp"
    read = where_copies_stand(hours, NOON, timedelta(0))
    assert spark.createDataFrame(rows, schema).where(read).count() == 1
