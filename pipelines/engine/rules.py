"""Counts, now and then, how the playback rules and the rules of rows were kept on the days of new rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Table
from pipelines.engine.batch import hold
from pipelines.engine.lake import Lake
from pipelines.engine.locks import in_turn
from pipelines.gold import media_catalog, media_daily, playbacks, quality_results
from pipelines.gold.playback_rules import LOOKBACK_DAYS, playback_rules
from pipelines.quality.rules import counts_by_day
from pipelines.silver import user_actions
from pipelines.tables import GOLD, SILVER

_SOURCE, _SEVERITY = "stream", "warn"
_DATED = tuple(t for t in (*SILVER, *GOLD) if "event_date" in t.column_names)
_SMALL = tuple(t.full_name for t in _DATED if "event_date" not in t.partition_cols)
"""Their files tell no days, but they have a row a day: they are counted whole."""
_RULE = ("table_name", "rule", "event_date")
_RESULT = ("severity", "checked", "violations", "example")
_NOTHING = """
    named_struct('severity', before.severity, 'checked', 0L, 'violations', 0L, 'example', STRING(NULL))
"""
_FILE = "struct<partitionValues: map<string, string>, dataChange: boolean>"

Version = tuple["str | None", int]
"""A table's own identity (None: it has not been made), and the newest version of its log."""
Versions = Mapping[str, Version]
"""By the tables' full names."""


def count_rules(lake: Lake) -> int:
    """Append what the rules find by now, where that differs from what they found; returns the days looked at.

    For the gold stream, between its batches: a day's counts are those of the tables as they stand. Looked at
    are the days on which rows came or went in any table since the last count, by the tables' logs: whenever
    the rows happened or were ingested, and not what a compaction only moves.
    """
    counted = _counted(lake)
    now = {table.full_name: _version(lake, table) for table in (*_DATED, media_catalog.TABLE)}
    if now == counted:
        return 0
    days = _days_of_news(lake, counted, now)
    changed = hold(_changed(lake, days))
    if not changed.isEmpty():
        with in_turn(lake, quality_results.TABLE):  # with `check`
            lake.append(quality_results.TABLE, changed.coalesce(1))
    # Afterwards: when this process ends before, the days are looked at once more, and nothing is appended.
    told = {"results": lake.table_id(quality_results.TABLE), "tables": now}
    lake.write_text(_position_file(lake), json.dumps(told))
    return len(days)


def _changed(lake: Lake, days: Collection[date]) -> DataFrame:
    """The rows of `ops.quality_results` to append: what is found, where it differs from the latest row.

    A rule that looks at nothing any more, where it did before, has a row of 0: else the old one would hold.
    """
    own = lake.read(quality_results.TABLE).where(F.col("source") == _SOURCE).where(_looked_at(days))
    latest = own.groupBy(*_RULE).agg(F.max_by(F.struct(*_RESULT), "checked_at").alias("before"))
    found = _found(lake, days).select(*_RULE, F.struct(*_RESULT).alias("found"))
    both = found.join(latest, list(_RULE), "full").withColumn("now", F.coalesce("found", F.expr(_NOTHING)))
    given = {"checked_at": F.current_timestamp(), "source": F.lit(_SOURCE)}
    given |= {name: F.col("now")[name] for name in _RESULT}
    names = quality_results.TABLE.column_names
    changed = both.where(~F.col("now").eqNullSafe(F.col("before")))
    return changed.select(*[given.get(name, F.col(name)).alias(name) for name in names])


def _found(lake: Lake, days: Collection[date]) -> DataFrame:
    """What the rules find on these days (UTC), by the tables as they stand: `_RULE` and `_RESULT`."""
    needed = {day - timedelta(days=back) for day in days for back in range(LOOKBACK_DAYS + 1)}
    in_needed = F.col("event_date").isin(list(needed))
    actions = lake.read(user_actions.TABLE).where(in_needed)
    plays = lake.read(playbacks.TABLE).where(in_needed)
    of_playing = playback_rules(actions, plays, lake.read(media_catalog.TABLE))
    found = of_playing.withColumn("severity", F.lit(_SEVERITY)).where(_looked_at(days))
    for table in _DATED:
        rows = lake.read(table).withColumn("table_name", F.lit(table.full_name))
        found = found.unionByName(counts_by_day(table, rows.where(_looked_at(days))))
    return found


def _looked_at(days: Collection[date]) -> Column:
    return F.col("event_date").isin(list(days)) | F.col("table_name").isin(*_SMALL)


def _days_of_news(lake: Lake, counted: Versions, now: Versions) -> set[date]:
    """The days on which rows came or went, and those after them that look back on these."""
    days: set[date] = set()
    commits: list[str] = []
    for table in _DATED:
        if table.full_name in _SMALL:
            continue
        since = _commits(lake, table, counted.get(table.full_name), now[table.full_name])
        if since is None:
            days.update(_dates(lake.read(table).select("event_date")))
            # A day that has gone with the table has counts.
            before = lake.read(quality_results.TABLE).where(F.col("source") == _SOURCE)
            days.update(_dates(before.where(F.col("table_name") == table.full_name).select("event_date")))
        else:
            commits += since
    if commits:
        # As they are named: a root may have brackets, which would be taken for a pattern.
        reader = lake.spark.read.schema(f"add {_FILE}, remove {_FILE}").option("__globPaths__", "false")
        files = reader.json(commits)
        moved = files.select(F.coalesce("add", "remove").alias("file")).where("file.dataChange")
        days.update(_dates(moved.select(F.col("file.partitionValues")["event_date"].cast("date"))))
    catalogue = media_catalog.TABLE.full_name
    days.update(_days_of_durations(lake, counted.get(catalogue), now[catalogue]))
    return {day + timedelta(days=after) for day in days for after in range(LOOKBACK_DAYS + 1)}


def _days_of_durations(lake: Lake, counted: Version | None, now: Version) -> Iterator[date]:
    """The days on which media were played whose duration was another, or none, when they were counted."""
    (made, version), (counted_made, counted_version) = now, counted or (None, -1)
    if now == counted or made is None:
        return iter(())
    table, names = media_catalog.TABLE, ("media_id", "duration_seconds")
    changed = lake.read(table, version).select(*names)
    if made == counted_made and counted_version <= version:
        # Where that version is there no more, all are taken for changed.
        with contextlib.suppress(PySparkException, Py4JJavaError):
            changed = hold(changed.exceptAll(lake.read(table, counted_version).select(*names)))
    plays = lake.read(media_daily.TABLE)
    return _dates(plays.join(F.broadcast(changed), "media_id", "left_semi").select("event_date"))


def _commits(lake: Lake, table: Table, counted: Version | None, now: Version) -> list[str] | None:
    """The files of the table's log after the version that was counted; None: it is unknown what came since.

    So it is with a table that was made anew or restored, and where Delta has removed the log (30 days).
    """
    (made, version), (counted_made, counted_version) = now, counted or (None, -1)
    if made is None:
        return []
    if made != counted_made or version < counted_version:
        return None
    log = f"{lake.path(table)}/_delta_log"
    files = [f"{log}/{number:020}.json" for number in range(counted_version + 1, version + 1)]
    return None if files and lake.read_text(files[0]) is None else files


def _dates(column: DataFrame) -> Iterator[date]:
    return (row[0] for row in column.distinct().collect() if row[0] is not None)


def _version(lake: Lake, table: Table) -> Version:
    return lake.table_id(table), lake.version(table)


def _counted(lake: Lake) -> Versions:
    """The tables that were counted last; none when they never were, or their counts are gone."""
    told = json.loads(lake.read_text(_position_file(lake)) or "{}")
    if told.get("results") != lake.table_id(quality_results.TABLE):
        return {}
    return {name: (made, version) for name, (made, version) in told["tables"].items()}


def _position_file(lake: Lake) -> str:
    return f"{lake.checkpoint('gold')}-rules.json"
