"""The rules are counted anew on each day that has news, and only what has changed is appended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from pipelines.declare import Table
from pipelines.engine.check import save
from pipelines.engine.lake import Lake
from pipelines.engine.locks import in_turn
from pipelines.engine.rules import count_rules
from pipelines.engine.upkeep import maintain
from pipelines.gold import media_catalog, media_daily, quality_results
from pipelines.quality.suites import Found
from pipelines.silver import content_uploads, system_events, user_actions
from pipelines.tables import GOLD, SILVER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.stream
INGESTED = datetime(2026, 1, 1)
"""Of all rows: long before the rules are counted, as what quarantine has released."""

_WHILE = 6.0
"""Longer (s) than each write takes."""


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """For all tests, for making tables takes seconds: each has days of its own, and leaves no news."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("of [a] {b}")))
    lake.create((*SILVER, *GOLD, quality_results.TABLE))
    return lake


def _append(lake: Lake, table: Table, occurred_at: datetime, **given: Any) -> None:
    given |= {"occurred_at": occurred_at, "event_date": occurred_at.date(), "ingested_at": INGESTED}
    lake.append(table, _row(lake, table, **given))


def _row(lake: Lake, table: Table, **given: Any) -> DataFrame:
    row = tuple(given.get(name) for name in table.column_names)
    return lake.spark.createDataFrame([row], table.schema())


def _act(lake: Lake, action: str, occurred_at: datetime) -> None:
    told = {"event_id": str(occurred_at), "action": action, "user_id": "u", "media_id": "m"}
    _append(lake, user_actions.TABLE, occurred_at, **told)


def _pauses(lake: Lake, day: date) -> list[tuple[int, int]]:
    """checked and violations of the rule on a day, each time they were appended."""
    rows = lake.read(quality_results.TABLE).where("rule = 'pause_without_play'").orderBy("checked_at")
    return [(row.checked, row.violations) for row in rows.collect() if row.event_date == day]


def _rows(lake: Lake, day: date) -> int:
    return lake.read(quality_results.TABLE).where(F.col("event_date") == day).count()


def test_a_late_event_restates_the_day_after_it(lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 1, 6, 0, 10))
    count_rules(lake)
    assert _pauses(lake, date(2026, 1, 6)) == [(1, 1)]
    _act(lake, "play", datetime(2026, 1, 5, 23, 50))
    assert count_rules(lake) == 2
    assert _pauses(lake, date(2026, 1, 6)) == [(1, 1), (1, 0)]


def test_only_what_has_changed_is_appended_and_a_compaction_is_no_news(lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 2, 6, 12))
    count_rules(lake)
    before = _rows(lake, date(2026, 2, 6))
    _act(lake, "seek", datetime(2026, 2, 5, 12))  # the 6th is looked at, and is as it was
    lake.compact(user_actions.TABLE)
    assert count_rules(lake) == 2
    assert _rows(lake, date(2026, 2, 6)) == before
    _act(lake, "pause", datetime(2026, 2, 6, 13))
    lake.compact(user_actions.TABLE)
    assert count_rules(lake) == 2  # and not the days of the other tests
    assert _pauses(lake, date(2026, 2, 6)) == [(1, 1), (2, 2)]
    assert count_rules(lake) == 0


def test_days_of_nothing_but_uploads_or_system_events_are_counted(lake: Lake) -> None:
    _append(lake, content_uploads.TABLE, datetime(2026, 3, 6, 12), event_id="e")
    _append(lake, system_events.TABLE, datetime(2026, 3, 8, 12), event_id="e")
    count_rules(lake)
    counted = lake.read(quality_results.TABLE).where("event_date >= '2026-03-01'")
    assert sorted(map(tuple, counted.select("table_name", "event_date").distinct().collect())) == [
        ("silver.content_uploads", date(2026, 3, 6)),
        ("silver.system_events", date(2026, 3, 8)),
    ]


def test_a_duration_that_comes_or_changes_restates_the_days_of_plays(lake: Lake) -> None:
    day, table = date(2026, 5, 6), media_catalog.TABLE
    at = datetime(2026, 5, 6, 12)
    told = {"event_id": "p", "action": "pause", "user_id": "u", "media_id": "long"}
    _append(lake, user_actions.TABLE, at, **told, position_seconds=Decimal(100))
    lake.append(media_daily.TABLE, _row(lake, media_daily.TABLE, media_id="long", event_date=day, plays=1))
    count_rules(lake)
    found = []
    for seconds in (90, 120, 120):
        lake.overwrite(table, _row(lake, table, media_id="long", duration_seconds=Decimal(seconds)))
        news = count_rules(lake)
        rows = lake.read(quality_results.TABLE).where("rule = 'position_beyond_duration'")
        latest = rows.orderBy(F.desc("checked_at")).first()
        found.append((news, latest.event_date, latest.violations))
    assert found == [(2, day, 1), (2, day, 0), (0, day, 0)]
    counted = [*Path(lake.path(table)).glob("*.parquet")]
    lake.overwrite(table, _row(lake, table, media_id="long", duration_seconds=Decimal(120)))
    for file in counted:  # as by VACUUM
        file.unlink()
    assert count_rules(lake) == 2, "what it was cannot be told any more"


def test_what_a_rule_does_not_look_at_any_more_is_taken_back(lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 2, 16, 12))
    count_rules(lake)
    lake.replace_where(
        user_actions.TABLE, lake.read(user_actions.TABLE).limit(0), "event_date = '2026-02-16'"
    )
    assert count_rules(lake) == 2
    assert _pauses(lake, date(2026, 2, 16)) == [(1, 1), (0, 0)]


def _make_anew(lake: Lake, table: Table) -> None:
    folder = Path(lake.path(table))
    folder.rename(folder.with_name(f"former_{table.name}"))
    lake.create([table])


def test_a_table_made_anew_is_counted_from_its_start(lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 2, 26, 12))
    count_rules(lake)
    _make_anew(lake, quality_results.TABLE)
    count_rules(lake)
    assert _pauses(lake, date(2026, 2, 26)) == [(1, 1)]
    commits = lake.version(user_actions.TABLE)
    _make_anew(lake, user_actions.TABLE)
    _act(lake, "pause", datetime(2026, 2, 28, 12))
    for minute in range(commits):  # with the one before, more than the former table had
        _act(lake, "pause", datetime(2026, 2, 26, 12, minute))
    count_rules(lake)
    assert _pauses(lake, date(2026, 2, 28)) == [(1, 1)]


def test_a_day_that_has_gone_with_its_table_is_taken_back(lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 4, 6, 12))
    count_rules(lake)
    folder = Path(lake.path(user_actions.TABLE))
    folder.rename(folder.with_name("gone_user_actions"))
    lake.create([user_actions.TABLE])
    count_rules(lake)
    assert _pauses(lake, date(2026, 4, 6)) == [(1, 1), (0, 0)]


_WRITES: dict[str, Callable[[Lake], object]] = {
    "check": lambda lake: save(lake, [Found("gold.playbacks", "a", "", "error", 1, 0)]),
    "the count of the rules": count_rules,
    "the upkeep": lambda lake: maintain(lake, quality_results.TABLE, timedelta(hours=30)),
}


@pytest.mark.parametrize("name", _WRITES)
def test_what_more_than_one_process_writes_is_written_in_turn(name: str, lake: Lake) -> None:
    _act(lake, "pause", datetime(2026, 8, 1 + list(_WRITES).index(name), 12))  # news
    with ThreadPoolExecutor(1) as pool:
        with in_turn(lake, quality_results.TABLE):  # as another process would
            before = lake.version(quality_results.TABLE)
            written = pool.submit(_WRITES[name], lake)
            assert not wait([written], _WHILE).done
            assert lake.version(quality_results.TABLE) == before
        written.result(60)
    assert lake.version(quality_results.TABLE) > before
    count_rules(lake)
