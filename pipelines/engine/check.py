"""Checks the tables of a lake by their suites, and remembers what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import reduce
from typing import TypeVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config, is_folder
from pipelines.declare import Measure, Reads, Rule, Table
from pipelines.engine.batch import hold
from pipelines.engine.lake import Lake
from pipelines.engine.locks import in_turn, only_writer
from pipelines.engine.moment import Moment
from pipelines.errors import ReelhouseError, UsageError
from pipelines.gold import quality_results
from pipelines.quality.measures import measures_of
from pipelines.quality.rules import row_rules
from pipelines.quality.suites import Checks, Found
from pipelines.tables import TABLES
from pipelines.text import nearest

SOURCE = "check"
_Check = TypeVar("_Check", Rule, Measure)


def check(lake: Lake, config: Config, tables: Sequence[Table], checks: Checks) -> list[Found]:
    """What the suites of these tables find. Works while the streams run.

    Gold is read as its last batch left it, so that its tables are of one moment. Raises ReelhouseError
    (`table_missing`, `check_column_missing`, `check_failed`) and UsageError (`unknown_check`).
    """
    _refuse_unknown(config)
    read = Moment.of(lake, "gold").read
    found: list[Found] = []
    for table in tables:
        rows = read(table)
        found += checks.rows(table, rows, _judged(config, table, row_rules(table)))
        measures = _judged(config, table, measures_of(table))
        if measures:
            found += checks.figures(table, _figures(rows, measures, read), measures)
    return found


def save(lake: Lake, found: Sequence[Found]) -> bool:
    """Append what was found to `ops.quality_results`, and return True; False: the stream of gold alone may.

    On a disk the two append in turn, in object storage only one may.
    """
    if is_folder(lake.root):
        _append(lake, found)
        return True
    try:
        with only_writer(lake, ["gold"]):
            _append(lake, found)
    except ReelhouseError as error:
        if error.code != "already_running":
            raise
        return False
    return True


def _append(lake: Lake, found: Sequence[Found]) -> None:
    now = datetime.now(timezone.utc)
    rows = [
        (now, SOURCE, one.table, one.rule, None, one.severity, one.checked, one.violations, one.example)
        for one in found
    ]
    with in_turn(lake, quality_results.TABLE):
        lake.create([quality_results.TABLE])
        lake.append(quality_results.TABLE, lake.frame(quality_results.TABLE, rows))


def _judged(config: Config, table: Table, checks: Sequence[_Check]) -> list[_Check]:
    """The checks with the severities that the configuration gives them."""
    found: list[_Check] = []
    for one in checks:
        severity = config.quality.severity.get(f"{table.full_name}.{one.name}", one.severity)
        if severity != "off":
            found.append(replace(one, severity=severity))
    return found


def _refuse_unknown(config: Config) -> None:
    if not config.quality.severity:
        return
    known: list[str] = []
    for table in TABLES:
        checks: tuple[Rule | Measure, ...] = (*row_rules(table), *measures_of(table))
        known += [f"{table.full_name}.{one.name}" for one in checks]
    for name in config.quality.severity:
        if name not in known:
            message = f"quality.severity names the check {name}, which does not exist"
            raise UsageError(f"{message}; {nearest(name, known)}", code="unknown_check")


def _figures(rows: DataFrame, measures: Sequence[Measure], read: Reads) -> DataFrame:
    """Every figure: `measure`, `subject`, `value`; computed once."""
    parts = [
        m.figures(rows, read).select(F.lit(m.name).alias("measure"), "subject", "value") for m in measures
    ]
    return hold(reduce(DataFrame.unionByName, parts))
