"""The ledger adds up, and a row that is deleted or doubled by hand in any table is found, with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config
from in_parts import publish_and_run
from pyspark.sql import functions as F

from pipelines import broker
from pipelines.bronze import events
from pipelines.cli.main import main
from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import Finding, reconcile_records
from pipelines.engine.reconcile_gold import reconcile_gold
from pipelines.gold import playbacks
from pipelines.silver import ledger
from pipelines.simulate.write import write_simulation
from pipelines.tables import GOLD, SILVER

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
Balanced = tuple[Lake, Config, dict[str, int]]


@pytest.fixture(scope="module")
def balanced(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    """A simulation with copies and broken records, run in two parts."""
    folder = tmp_path_factory.mktemp("reconcile")
    config = broker_config(folder, partitions=2)
    write_simulation(folder, users=12, days=2, seed=3)
    broker.start(config)
    try:
        publish_and_run(spark, config, folder, parts=2)
        counts = json.loads((folder / "truth" / "counts.json").read_text())
        yield Lake.of(spark, config), config, counts
    finally:
        broker.stop(config)


def _findings(lake: Lake, config: Config, table: Table) -> list[Finding]:
    return reconcile_gold(lake)[0] if table in GOLD else reconcile_records(lake, config).findings


def test_the_ledger_is_the_truth(balanced: Balanced) -> None:
    lake, config, counts = balanced
    report = reconcile_records(lake, config)
    assert report.findings == []
    assert report.notes == []
    assert reconcile_gold(lake) == ([], [])
    assert sum(balance.records for balance in report.balances) == counts["records_total"]
    assert sum(balance.silver_rows for balance in report.balances) == sum(counts["valid"].values())
    assert sum(balance.held for balance in report.balances) == counts["broken_total"]
    for row in lake.read(ledger.TABLE).collect():
        assert row.records + row.released == row.silver_rows + row.duplicates + row.quarantined
        assert row.records == row.last_offset - row.first_offset + 1


def test_a_batch_that_silver_lost_with_its_entries_is_found(balanced: Balanced) -> None:
    """As after a backup that is older than the checkpoint: the ledger agrees with what is left."""
    lake, config, _ = balanced
    tables = (*SILVER, ledger.TABLE)
    before = {table: lake.version(table) for table in tables}
    last = lake.read(ledger.TABLE).agg(F.max("batch")).first()[0]
    lost = lake.read(ledger.TABLE).where(F.col("batch") == last).localCheckpoint()
    where = " OR ".join(
        f"topic = '{row.topic}' AND partition = {row.partition} AND offset >= {row.first_offset}"
        for row in lost.collect()
    )
    for table in tables:
        condition = f"batch = {last}" if table is ledger.TABLE else where
        lake.spark.sql(f"DELETE FROM delta.`{lake.path(table)}` WHERE {condition}")
    try:
        found = reconcile_records(lake, config).findings
        assert {f.where for f in found if f.check == "bronze = ledger"} == {
            f"{row.topic} partition {row.partition}" for row in lost.collect()
        }
    finally:
        for table, version in before.items():
            lake.spark.sql(f"RESTORE TABLE delta.`{lake.path(table)}` TO VERSION AS OF {version}")


def test_a_ledger_that_does_not_add_up_is_found(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, config, _ = balanced
    before = lake.version(ledger.TABLE)
    one = lake.read(ledger.TABLE).orderBy("topic", "partition", "batch").first()
    where = f"topic = '{one.topic}' AND partition = {one.partition} AND batch = {one.batch}"
    lake.spark.sql(f"UPDATE delta.`{lake.path(ledger.TABLE)}` SET duplicates = duplicates + 7 WHERE {where}")
    try:
        [found] = reconcile_records(lake, config).findings
        assert found.check == "records + released = silver + duplicates + quarantined"
        assert (found.where, found.found - found.expected) == (f"{one.topic} partition {one.partition}", 7)
        monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", lake.root)
        monkeypatch.setenv("REELHOUSE_KAFKA__BOOTSTRAP_SERVERS", config.kafka.bootstrap_servers)
        assert main(["reconcile"]) == 1
        assert "it does not add up: 1 findings" in capsys.readouterr().err
    finally:
        lake.spark.sql(f"RESTORE TABLE delta.`{lake.path(ledger.TABLE)}` TO VERSION AS OF {before}")


@pytest.mark.parametrize("table", [events.TABLE, *SILVER, *GOLD], ids=lambda table: table.full_name)
def test_a_deleted_and_a_doubled_row_are_found(balanced: Balanced, table: Table) -> None:
    lake, config, _ = balanced
    keys = list(table.keys)
    place = table.full_name.startswith(("bronze", "silver"))
    names = ["topic", "partition", "offset"] if place else keys
    row = lake.read(table).orderBy(*keys).limit(1).localCheckpoint()
    told = row.select(*names).first()
    before = lake.version(table)
    same = " AND ".join(
        f"`{name}` = {value}" if isinstance(value, int) else f"`{name}` = '{value}'"
        for name, value in told.asDict().items()
    )
    expected = f"offsets {told['offset']}" if place else str(told[0])
    for change in ("delete", "double"):
        if change == "delete":
            lake.spark.sql(f"DELETE FROM delta.`{lake.path(table)}` WHERE {same}")
        else:
            lake.append(table, row)
        try:
            found = _findings(lake, config, table)
            assert found, change
            assert any(expected in finding.detail for finding in found), (change, found)
        finally:
            lake.spark.sql(f"RESTORE TABLE delta.`{lake.path(table)}` TO VERSION AS OF {before}")


@pytest.mark.parametrize("table", [events.TABLE, *SILVER, playbacks.TABLE], ids=lambda table: table.full_name)
def test_a_row_lost_does_not_make_up_for_another_doubled(balanced: Balanced, table: Table) -> None:
    """In one partition, or on one day, so that the counts stay."""
    lake, config, _ = balanced
    is_play = table is playbacks.TABLE
    by, key = (["event_date"], "playback_id") if is_play else (["topic", "partition"], "offset")
    rows = lake.read(table).orderBy(*by, key).limit(2).localCheckpoint()
    lost, doubled = rows.orderBy(key).collect()
    assert [lost[name] for name in by] == [doubled[name] for name in by]
    before = lake.version(table)
    same = " AND ".join(f"`{name}` = '{lost[name]}'" for name in (*by, key))
    lake.spark.sql(f"DELETE FROM delta.`{lake.path(table)}` WHERE {same}")
    lake.append(table, rows.where(F.col(key) == doubled[key]))
    try:
        told = re.split("[ ,;]+", " ".join(finding.detail for finding in _findings(lake, config, table)))
        assert str(lost[key]) in told
        assert str(doubled[key]) in told
    finally:
        lake.spark.sql(f"RESTORE TABLE delta.`{lake.path(table)}` TO VERSION AS OF {before}")


def test_restored_it_adds_up_again(balanced: Balanced) -> None:
    lake, config, _ = balanced
    assert reconcile_records(lake, config).findings == []
    assert reconcile_gold(lake) == ([], [])
