"""Counts, now and then, how the playback rules and the rules of rows were kept on the days of new events."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.engine.lake import Lake
from pipelines.gold import media_catalog, playbacks, quality_results
from pipelines.gold.playback_rules import LOOKBACK_DAYS, playback_rules
from pipelines.quality.rules import counts_by_day
from pipelines.silver import user_actions
from pipelines.tables import GOLD, SILVER

_SOURCE, _SEVERITY = "stream", "warn"
_DATED = tuple(t for t in (*SILVER, *GOLD) if "event_date" in t.column_names)
_LATEST_TO_SILVER = timedelta(days=1)


def count_rules(lake: Lake) -> int:
    """Append the rules' counts of each day that got events since they were counted last; returns the days.

    For the gold stream, between its batches: a day's counts are those of the tables as they stand.
    """
    days = _days_of_news(lake)
    if not days:
        return 0
    lake.append(quality_results.TABLE, results(lake, days))
    return len(days)


def results(lake: Lake, days: list[date]) -> DataFrame:
    """The rows of `ops.quality_results` for these days (UTC), by the tables as they stand."""
    needed = sorted({day - timedelta(days=back) for day in days for back in range(LOOKBACK_DAYS + 1)})
    in_days = F.col("event_date").isin(needed)
    actions = lake.read(user_actions.TABLE).where(in_days)
    plays = lake.read(playbacks.TABLE).where(in_days)
    of_playing = playback_rules(actions, plays, lake.read(media_catalog.TABLE))
    counted = of_playing.withColumn("severity", F.lit(_SEVERITY))
    for table in _DATED:
        rows = lake.read(table).where(F.col("event_date").isin(days))
        counted = counted.unionByName(counts_by_day(table, rows))
    given = {"checked_at": F.current_timestamp(), "source": F.lit(_SOURCE)}
    names = quality_results.TABLE.column_names
    rows = counted.where(F.col("event_date").isin(days))
    return rows.select(*[given.get(name, F.col(name)).alias(name) for name in names]).coalesce(1)


def _days_of_news(lake: Lake) -> list[date]:
    own = F.col("source") == _SOURCE
    last = lake.read(quality_results.TABLE).where(own).agg(F.max("checked_at")).first()
    since: datetime | None = last[0] if last is not None else None
    actions = lake.read(user_actions.TABLE)
    if since is not None:
        # What was ingested before may have come to silver after the rules were counted.
        actions = actions.where(F.col("ingested_at") > F.lit(since - _LATEST_TO_SILVER))
    return sorted(row[0] for row in actions.select("event_date").distinct().collect())
