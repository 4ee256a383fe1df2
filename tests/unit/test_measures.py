"""Figures by day: what counts as the last complete day, and what it is compared with."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pipelines.declare import Measure
from pipelines.quality.measures import usual_shares, usual_volume

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TODAY = date(2026, 3, 20)
SCHEMA = "event_date date, record_timestamp timestamp, ingested_at timestamp, action string"
WEEK = dict.fromkeys(range(2, 9), 100)
VOLUMES: dict[str, tuple[dict[int, int], float | None]] = {
    "as ever": ({0: 50, 1: 100, **WEEK}, 1.0),
    "half": ({0: 50, 1: 50, **WEEK}, 0.5),
    "nothing at all": ({0: 50, **WEEK}, 0.0),
    "as the days that have rows, but one had none": ({0: 50, 1: 100, 2: 100, 4: 100}, 1.5),
    "a week of one day, which is its first": ({0: 50, 1: 100, 8: 100}, 7.0),
    "longer ago is not looked at": ({0: 50, 1: 100, **WEEK, 9: 900}, 1.0),
    "the second day": ({0: 50, 1: 100, 2: 200}, 0.5),
    "the first day": ({0: 50, 1: 100}, None),
    "today alone": ({0: 50}, None),
    "no rows": ({}, None),
    "an event of tomorrow, for a clock is ahead": ({-1: 1, 0: 1, 1: 100, **WEEK}, 1.0),
}
"""Rows by the days that they lie back, and the figure."""


def _rows(
    spark: SparkSession, counts: dict[int, int], action: str = "play", *, told_by_producer: bool = False
) -> DataFrame:
    """Each recorded and read on its day, but none after today, unless its producer tells when."""
    rows = []
    for back, count in counts.items():
        day = TODAY - timedelta(days=back)
        read = datetime.combine(min(day, TODAY), datetime.min.time()) + timedelta(hours=23)
        recorded = datetime.combine(day, datetime.min.time()) if told_by_producer else read
        rows += [(day, recorded, read, action)] * count
    return spark.createDataFrame(rows, SCHEMA)


def _figure(measure: Measure, rows: DataFrame) -> tuple[str, float]:
    (row,) = measure.figures(rows, lambda table: pytest.fail(table.full_name)).collect()
    return row.subject, row.value


@pytest.mark.parametrize("name", VOLUMES)
def test_volume_of_the_last_complete_day(spark: SparkSession, name: str) -> None:
    counts, expected = VOLUMES[name]
    subject, value = _figure(usual_volume(), _rows(spark, counts))
    assert value == (None if expected is None else pytest.approx(expected))
    assert subject == (str(TODAY - timedelta(days=1)) if counts else None)


def test_a_producer_of_tomorrow_that_tells_the_records_time_ends_no_day(spark: SparkSession) -> None:
    counts, expected = VOLUMES["an event of tomorrow, for a clock is ahead"]
    assert _figure(usual_volume(), _rows(spark, counts, told_by_producer=True)) == ("2026-03-19", expected)


def test_an_event_of_tomorrow_does_not_make_today_the_day_of_shares(spark: SparkSession) -> None:
    usual = _rows(spark, {0: 10, 1: 100, 2: 100}).union(_rows(spark, {1: 100, 2: 100}, "pause"))
    assert _figure(usual_shares("action"), usual) == ("2026-03-19", 0.0)
    assert _figure(usual_shares("action"), usual.union(_rows(spark, {-1: 1}))) == ("2026-03-19", 0.0)
