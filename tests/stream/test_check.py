"""Each check passes on good data, and fails on a fault planted for it; the verb tells people and CI."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from ci_job import broken_checks, run_ci_job
from pyspark.sql import Window
from pyspark.sql import functions as F

from pipelines.cli.main import main
from pipelines.config import Config
from pipelines.declare import Rule, Table
from pipelines.engine.check import check
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, quality_results
from pipelines.quality.measures import measures_of
from pipelines.quality.rules import ColumnRule, row_rules
from pipelines.quality.suites import Checks, Found
from pipelines.silver import ledger, system_events, user_actions
from pipelines.tables import TABLES, table_named

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.stream
Simulated = tuple[Lake, Config]
# By rule written by hand: what makes a row break it.
FAULTS = {
    "date_of_occurrence": {"event_date": "event_date + 1"},
    "status_told": {"kind": "'status'", "status": "NULL"},
    "reasons_told": {"reasons": "array()"},
    "released_as_something": {"released_at": "NULL", "released_as": "'row'"},
    "released_after_held": {"released_at": "quarantined_at - INTERVAL 1 HOUR", "released_as": "'row'"},
    "offsets_in_order": {"first_offset": "last_offset + 1"},
    "batch_adds_up": {"records": "records + 1"},
    "ended_unless_open": {"end_reason": "'open'", "ended_at": "started_at", "is_final": "false"},
    "watched_from_start_to_end": {"watch_seconds": "coalesce(watch_seconds, 0) + 0.000001"},
    "date_of_start": {"event_date": "event_date + 1"},
    "open_is_not_final": {"end_reason": "'open'", "is_final": "true"},
    "completed_is_completed": {"end_reason": "'completed'", "is_completed": "false"},
    "counted_has_ended": {"is_counted": "true", "ended_at": "NULL"},
    "counted_were_plays": {"counted_plays": "plays + 1"},
    "completions_were_plays": {"completions": "plays + 1"},
    "viewers_played": {"unique_viewers": "plays + 1"},
    "plays_have_viewers": {"plays": "3", "unique_viewers": "0"},
    "early_skips_were_skips": {"early_skips": "skips + 1"},
    "something_happened": {"plays": "0", "skips": "0"},
    "new_users_were_active": {"new_users": "active_users + 1"},
    "someone_was_active": {"active_users": "0"},
    "status_has_its_time": {"status": "'removed'", "removed_at": "NULL"},
    "published_after_upload": {"uploaded_at": "published_at + INTERVAL 1 HOUR"},
    "played_after_upload": {"first_play_at": "uploaded_at - INTERVAL 1 HOUR"},
}


def _planted(rows: DataFrame, table: Table, faults: list[dict[str, str]]) -> DataFrame:
    """The rows, the first of which have one fault each."""
    numbered = rows.withColumn("row", F.row_number().over(Window.orderBy(*map(F.col, _quoted(table.keys)))))
    columns = {}
    for name in rows.columns:
        value = F.col(f"`{name}`")
        for number, fault in enumerate(faults, 1):
            if name in fault:
                value = F.when(F.col("row") == number, F.expr(fault[name])).otherwise(value)
        columns[name] = value.cast(rows.schema[name].dataType)
    return numbered.select(*[value.alias(name) for name, value in columns.items()])


def _quoted(names: tuple[str, ...]) -> list[str]:
    return [f"`{name}`" for name in names]


def _fault(rule: Rule) -> dict[str, str]:
    if not isinstance(rule, ColumnRule):
        return FAULTS[rule.name]
    if rule.values:
        return {rule.column: "'of no kind'"}
    return {rule.column: "NULL" if rule.minimum is None else str(rule.minimum - 1)}


def test_good_data_breaks_nothing_but_that_it_is_old(simulated: Simulated) -> None:
    lake, config = simulated
    found = check(lake, config, TABLES, Checks())
    broken = {(one.table, one.rule) for one in found if one.violations}
    assert broken == {
        ("silver.user_actions", "hours_since_record_timestamp"),
        ("silver.system_events", "hours_since_record_timestamp"),
        ("gold.playbacks", "hours_since_started_at"),
    }
    assert {one.severity for one in found if one.violations} == {"warn"}
    looked = {(one.table, one.rule): one.checked for one in found}
    for table in TABLES:
        if table is not quality_results.TABLE:
            types = [looked[table.full_name, f"{name}_type"] for name in table.column_names]
            assert types == [1] * len(types)
    assert looked["silver.user_actions", "user_id_told"] == lake.read(user_actions.TABLE).count()


@pytest.mark.parametrize("name", [table.full_name for table in TABLES if row_rules(table)])
def test_a_fault_planted_for_each_rule_is_found_in_its_row(simulated: Simulated, name: str) -> None:
    lake, table = simulated[0], table_named(name)
    rules = row_rules(table)
    rows = lake.read(table)
    count = rows.count()
    # What the simulation has no row of is tried on rows of another time.
    needed = rows if count >= len(rules) else _repeated(rows, table, len(rules))
    planted = _planted(needed, table, [_fault(rule) for rule in rules])
    found = {one.rule: one for one in Checks().rows(table, planted, rules)}
    assert set(found) == {*(rule.name for rule in rules), *(f"{c}_type" for c in table.column_names)}
    for rule in rules:
        assert found[rule.name].violations >= 1, rule.name
        assert found[rule.name].example is not None
        assert found[rule.name].severity == rule.severity
    assert not any(found[f"{column}_type"].violations for column in table.column_names)


def _repeated(rows: DataFrame, table: Table, count: int) -> DataFrame:
    """Enough rows with other keys."""
    copies = F.explode(F.sequence(F.lit(1), F.lit(count))).alias("copy")
    key = table.keys[-1]
    kind = rows.schema[key].dataType.simpleString()
    moved = {"date": "date_add({k}, copy)", "timestamp": "{k} + make_interval(0, 0, 0, 0, 0, copy)"}
    changed = moved.get(kind, "{k} + copy" if kind in ("int", "bigint") else "concat({k}, copy)")
    wide = rows.select("*", copies)
    return wide.withColumn(key, F.expr(changed.format(k=f"`{key}`"))).drop("copy")


@pytest.mark.parametrize("name", [table.full_name for table in TABLES])
def test_a_column_of_another_type_is_found(simulated: Simulated, name: str) -> None:
    table = table_named(name)
    other = {"string": "binary"}
    rows = simulated[0].read(table)
    kinds = {field.name: field.dataType.simpleString() for field in rows.schema}
    cast = rows.select(
        *[F.lit(None).cast(other.get(kind, "string")).alias(column) for column, kind in kinds.items()]
    )
    found = {one.rule: one.violations for one in Checks().rows(table, cast, ())}
    assert found == {f"{column}_type": 1 for column in kinds}


def _figures(simulated: Simulated, table: Table, changed: dict[str, DataFrame]) -> dict[str, Found]:
    """The figures of a table, where these tables (by full name) are others."""
    from pipelines.engine.check import _figures as figures

    def read(one: Table) -> DataFrame:
        return changed.get(one.full_name, simulated[0].read(one))

    measures = measures_of(table)
    found = Checks().figures(table, figures(read(table), measures, read), measures)
    assert [one.rule for one in found] == [measure.name for measure in measures]
    return {one.rule: one for one in found}


@pytest.mark.parametrize("name", [table.full_name for table in TABLES if table is not quality_results.TABLE])
def test_a_repeated_key_is_found(simulated: Simulated, name: str) -> None:
    table = table_named(name)
    rows = simulated[0].read(table)
    if rows.isEmpty():
        rows = rows.union(simulated[0].spark.createDataFrame([(None,) * len(rows.columns)], rows.schema))
    first = rows.orderBy(*_quoted(table.keys)).limit(1)
    found = _figures(simulated, table, {table.full_name: rows.union(first).union(first)})
    repeated = found["rows_with_a_repeated_key"]
    assert (repeated.violations, repeated.example is not None) == (1, True)
    assert repeated.example.endswith(": 2")


def test_figures_that_do_not_add_up_are_found(simulated: Simulated) -> None:
    read = simulated[0].read
    plays = read(playbacks.TABLE)
    day = plays.where("is_counted AND is_completed").agg(F.min("event_date")).first()[0]
    one = plays.where("is_counted AND is_completed").where(F.col("event_date") == day).limit(1)
    found = _figures(
        simulated, media_daily.TABLE, {"gold.playbacks": plays.join(one, "playback_id", "left_anti")}
    )
    for measure in ("plays", "counted_plays", "watch_seconds", "completions"):
        broken = found[f"{measure}_beyond_playbacks"]
        assert (broken.violations, broken.example[:10], broken.severity) == (1, str(day), "error"), measure
    media = read(media_daily.TABLE).withColumn("plays", F.col("plays") + 1)
    media = media.withColumn("counted_plays", F.col("counted_plays") + 1).withColumn(
        "watch_seconds", F.lit(1)
    )
    found = _figures(simulated, audience_daily.TABLE, {"gold.media_daily": media})
    for measure in ("plays", "counted_plays", "watch_seconds"):
        assert found[f"{measure}_beyond_media"].violations > 1, measure
    lost = read(ledger.TABLE).withColumn("silver_rows", F.col("silver_rows") - 1)
    assert _figures(simulated, ledger.TABLE, {"ops.ledger": lost})["unaccounted_records"].violations > 0
    none = read(media_catalog.TABLE).limit(0)
    unknown = _figures(simulated, playbacks.TABLE, {"gold.media_catalog": none})["plays_of_unknown_media"]
    assert (unknown.violations, unknown.severity) == (1, "warn")


def test_freshness_volume_and_drift_are_judged_by_the_last_complete_day(simulated: Simulated) -> None:
    actions = simulated[0].read(user_actions.TABLE)
    now = actions.withColumn("record_timestamp", F.current_timestamp())
    assert (
        _figures(simulated, user_actions.TABLE, {"silver.user_actions": now})[
            "hours_since_record_timestamp"
        ].violations
        == 0
    )
    last = actions.agg(F.date_sub(F.max("event_date"), 1)).first()[0]
    is_last = F.col("event_date") == F.lit(last)
    few = actions.where(~is_last | (F.xxhash64("event_id") % 10 == 0))
    assert (
        _figures(simulated, user_actions.TABLE, {"silver.user_actions": few})["daily_volume"].violations == 1
    )
    skipped = actions.withColumn("action", F.when(is_last, "skip").otherwise(F.col("action")))
    drift = _figures(simulated, user_actions.TABLE, {"silver.user_actions": skipped})["drift_of_action"]
    assert (drift.violations, drift.example[:10]) == (1, str(last))
    reports = simulated[0].read(system_events.TABLE)
    many = reports.unionByName(reports.where(is_last)).unionByName(reports.where(is_last))
    many = many.unionByName(reports.where(is_last))
    assert (
        _figures(simulated, system_events.TABLE, {"silver.system_events": many})["daily_volume"].violations
        == 1
    )


@pytest.mark.parametrize("name", ["silver.user_actions", "silver.system_events", "gold.playbacks"])
def test_a_table_of_one_day_or_without_rows_has_no_days_to_compare(simulated: Simulated, name: str) -> None:
    table = table_named(name)
    rows = simulated[0].read(table)
    first = rows.agg(F.min("event_date")).first()[0]
    for few in (rows.where(F.col("event_date") == F.lit(first)), rows.limit(0)):
        found = _figures(simulated, table, {name: few})
        assert {one.rule for one in found.values() if one.violations} <= {
            "hours_since_record_timestamp",
            "hours_since_started_at",
        }


def test_a_check_that_names_a_missing_column_says_which(simulated: Simulated) -> None:
    rows = simulated[0].read(playbacks.TABLE)
    wrong = Rule("watched", "watch_second > 0", "Watched.")
    with pytest.raises(
        ReelhouseError, match=r"watched of gold.playbacks names the column watch_second.* watch_seconds"
    ):
        Checks().rows(playbacks.TABLE, rows, [wrong])
    with pytest.raises(ReelhouseError, match=r"gold.playbacks has no column region yet; start"):
        Checks().rows(playbacks.TABLE, rows.drop("region"), [])
    with pytest.raises(ReelhouseError, match=r"nonsense of gold.playbacks is no condition"):
        Checks().rows(playbacks.TABLE, rows, [replace(wrong, name="nonsense", condition="watch_seconds >")])


@pytest.fixture
def reelhouse(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment by which the command line finds the lake."""
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", simulated[0].root)


@pytest.mark.usefixtures("reelhouse")
def test_the_verb_tells_people_and_ci(
    simulated: Simulated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, _ = simulated
    before = lake.read(quality_results.TABLE).count()
    told = ("--docs", str(tmp_path / "docs"), "--junit", str(tmp_path / "check.xml"))
    # One is named twice.
    assert main(["check", *told, "silver.user_actions", "gold.media_daily", "media_daily"]) == 0
    out = capsys.readouterr()
    assert "hours_since_record_timestamp" in out.out
    assert "of 2 tables: 0 broken, 1 warnings" in out.err
    pages = [page.read_text() for page in (tmp_path / "docs").rglob("*.html")]
    assert any("gold.media_daily" in page for page in pages)
    assert any("Only plays are completed." in page for page in pages)
    suites = {suite.get("name"): suite for suite in ElementTree.parse(tmp_path / "check.xml").getroot()}
    assert set(suites) == {"silver.user_actions", "gold.media_daily"}
    assert {suite.get("failures") for suite in suites.values()} == {"0"}
    saved = lake.read(quality_results.TABLE).where("source = 'check'")
    assert saved.count() == sum(int(suite.get("tests", 0)) for suite in suites.values())
    assert lake.read(quality_results.TABLE).count() == before + saved.count()


@pytest.mark.usefixtures("reelhouse")
def test_a_planted_fault_turns_the_verb_and_the_ci_job_red(
    simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, _ = simulated
    names = ["gold.audience_daily"]
    green = run_ci_job(tmp_path / "green", *names)
    assert green.returncode == 0, green.stderr
    assert (tmp_path / "green" / "docs" / "index.html").is_file()
    table, version = audience_daily.TABLE, lake.version(audience_daily.TABLE)
    lake.overwrite(table, lake.read(table).withColumn("plays", F.col("plays") + 1))
    try:
        red = run_ci_job(tmp_path / "red", *names)
        assert red.returncode == 1, red.stderr
        assert broken_checks(tmp_path / "red") == ["plays_beyond_media"]
        capsys.readouterr()
        assert main(["check", "--format", "json", "--no-save", *names]) == 1
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["check"] for row in rows if row["violations"]] == ["plays_beyond_media"]
        # Who knows better may say so.
        variable = "REELHOUSE_QUALITY__SEVERITY"
        monkeypatch.setenv(variable, '{"gold.audience_daily.plays_beyond_media": "warn"}')
        assert main(["check", "--no-save", *names]) == 0
        monkeypatch.setenv(variable, '{"gold.audience_daily.plays_beyond_medium": "off"}')
        assert main(["check", "--no-save", *names]) == 2
        assert "did you mean gold.audience_daily.plays_beyond_media?" in capsys.readouterr().err
    finally:
        lake.overwrite(table, lake.read(table, version))


def test_before_the_first_run_a_sentence_says_so(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spark
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", str(tmp_path))
    assert main(["check"]) == 1
    assert "there is no table under" in capsys.readouterr().err
