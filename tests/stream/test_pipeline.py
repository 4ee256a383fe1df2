"""Kafka to gold on the real broker, in several runs, against the ground truth, row for row."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config, read_all
from in_parts import publish_and_run
from lake_rows import CutOffLake, assert_gold_is, assert_gold_is_rebuilt, rows_of
from py4j.java_gateway import JavaObject

from pipelines import broker
from pipelines.cli.main import main
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.rebuild import computed, rebuild
from pipelines.engine.stream import Streams
from pipelines.errors import ReelhouseError
from pipelines.gold import audience_daily, media_daily
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import GOLD, LAYERS, SILVER, TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
TOPICS = ("media.user-actions", "media.content-uploads", "media.system-events")


@dataclass
class Ran:
    """A lake into which a simulation has run, in three parts."""

    config: Config
    lake: Lake
    folder: Path
    counts: dict[str, int]

    def run(self, *layers: str) -> None:
        Streams(self.lake.spark, self.config, layers or LAYERS, print).run(available_now=True)

    def silver_rows(self) -> dict[str, int]:
        return {table.name: self.lake.read(table).count() for table in SILVER}


@pytest.fixture(scope="module")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("pipeline")
    config = broker_config(folder, partitions=2)
    write_simulation(folder, users=25, days=2, seed=11)
    broker.start(config)
    try:
        lake = Lake.of(spark, config)
        counts = json.loads((folder / "truth" / "counts.json").read_text())
        publish_and_run(spark, config, folder, parts=3)
        yield Ran(config, lake, folder, counts)
    finally:
        broker.stop(config)


def test_gold_is_the_truth(ran: Ran) -> None:
    assert_gold_is(ran.lake, ran.folder)


def test_what_the_streams_keep_is_what_rebuild_computes(ran: Ran) -> None:
    assert_gold_is_rebuilt(ran.lake, computed(ran.lake.read, ran.config))


def test_every_record_is_in_silver_a_copy_or_in_quarantine(ran: Ran) -> None:
    valid, rows = ran.counts["valid"], ran.silver_rows()
    assert rows["user_actions"] == valid["user-action"]
    assert rows["content_uploads"] == valid["content-upload"]
    assert rows["system_events"] == valid["system-event"]
    assert rows["quarantine"] == ran.counts["broken_total"]
    assert ran.lake.read(TABLES[0]).count() == ran.counts["records_total"]


def test_an_event_is_kept_once_and_it_is_the_first(ran: Ran) -> None:
    for table in SILVER[:3]:
        ids = [row.event_id for row in ran.lake.read(table).select("event_id").collect()]
        assert len(ids) == len(set(ids))


def test_quarantine_holds_the_bytes_and_says_why(ran: Ran) -> None:
    held = ran.lake.read(SILVER[3]).collect()
    sent = {
        (r.topic, r.partition, r.offset): r.value for topic in TOPICS for r in read_all(ran.config, topic)
    }
    for row in held:
        value = None if row.value is None else bytes(row.value)
        assert value == sent[row.topic, row.partition, row.offset]
        assert row.reasons
        assert all(reason.code and reason.message for reason in row.reasons)
    codes = {reason.code for row in held for reason in row.reasons}
    assert codes >= {
        "invalid_utf8",
        "invalid_json",
        "null_value",
        "not_an_object",
        "missing_field",
        "wrong_type",
        "unknown_value",
        "bad_timestamp",
        "future_timestamp",
        "ancient_timestamp",
        "unknown_version",
        "out_of_range",
        "too_large",
    }


def _replay(ran: Ran, layer: str) -> None:
    """The layer's newest batch once more."""
    commits = sorted(Path(ran.lake.checkpoint(layer), "commits").glob("[0-9]*"), key=lambda p: int(p.name))
    commits[-1].unlink()
    ran.run(layer)
    assert commits[-1].is_file(), "the batch was not replayed"


@pytest.mark.parametrize("layer", ["silver", "gold"])
def test_a_replayed_batch_changes_nothing(ran: Ran, layer: str) -> None:
    before = {t.full_name: rows_of(ran.lake.read(t), t.column_names) for t in (*SILVER[:3], *GOLD)}
    _replay(ran, layer)
    assert {t.full_name: rows_of(ran.lake.read(t), t.column_names) for t in (*SILVER[:3], *GOLD)} == before


@pytest.mark.parametrize("layer", LAYERS)
def test_a_batch_gives_java_back_what_it_made(ran: Ran, layer: str) -> None:
    gc.collect()
    before = _java_objects()
    gc.disable()  # leaves what the streams collect themselves
    try:
        _replay(ran, layer)
        assert _java_objects() < before + 20
    finally:
        gc.enable()


def _java_objects() -> int:
    """Objects that Java keeps because Python may still use them (count)."""
    return sum(isinstance(found, JavaObject) for found in gc.get_objects())


def test_publishing_everything_again_changes_no_table_but_bronze_and_quarantine(ran: Ran) -> None:
    before = ran.silver_rows()
    produce(ran.config, [ran.folder / "events.ndjson"])
    ran.run()
    after = ran.silver_rows()
    assert after.pop("quarantine") == 2 * before.pop("quarantine")
    assert after == before
    assert_gold_is(ran.lake, ran.folder)


def test_a_second_writer_is_refused_and_told_who_is_the_first(ran: Ran) -> None:
    from pipelines.engine.locks import only_writer

    told = f"process {os.getpid()} on "
    with only_writer(ran.lake, ["silver"]), pytest.raises(ReelhouseError, match=told) as refused:
        ran.run()
    assert refused.value.code == "already_running"


def test_a_lost_checkpoint_is_refused(ran: Ran) -> None:
    checkpoint = Path(ran.lake.checkpoint("bronze"))
    aside = checkpoint.with_name("aside")
    checkpoint.rename(aside)
    try:
        with pytest.raises(ReelhouseError) as refused:
            ran.run("bronze")
        assert refused.value.code == "checkpoint_lost"
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)
        aside.rename(checkpoint)


def test_a_topic_that_is_missing_is_named(ran: Ran) -> None:
    topics = ran.config.kafka.topics.model_copy(update={"system_events": "media.nowhere"})
    config = ran.config.model_copy(update={"kafka": ran.config.kafka.model_copy(update={"topics": topics})})
    with pytest.raises(ReelhouseError, match=r"media\.nowhere does not exist") as refused:
        Streams(ran.lake.spark, config, LAYERS, print).run(available_now=True)
    assert refused.value.code == "topic_missing"


@pytest.mark.usefixtures("quiet_java")
def test_the_commands_show_it(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = ran.folder / "conf.toml"
    conf.write_text(
        f'[storage]\nroot = "{ran.lake.root}"\n[kafka]\nbootstrap_servers = "'
        f'{ran.config.kafka.bootstrap_servers}"\n'
    )

    def reelhouse(*arguments: str, **further: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines.cli.main", "--conf", str(conf), *arguments]
        environment = {**os.environ, **further}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=180, env=environment
        )

    query = "SELECT sum(plays) AS plays FROM gold.audience_daily"
    answered = reelhouse("sql", "--format", "json", query)
    assert json.loads(answered.stdout) == {"plays": ran.counts["rows"]["playbacks"]}, answered.stderr
    wrong = reelhouse("sql", "SELECT nothing FROM gold.playbacks")
    assert wrong.returncode == 1
    # The one line that Java itself begins with cannot be told away.
    told = [line for line in wrong.stderr.splitlines() if "jdk.incubator.vector" not in line]
    assert len(told) == 1
    assert told[0].startswith("reelhouse: the query failed: [UNRESOLVED_COLUMN")
    described = reelhouse("tables", "gold.playbacks", REELHOUSE_LOG_LEVEL="INFO")
    assert " INFO " in described.stderr
    assert "playback_id" in described.stdout
    assert f"rows: {ran.counts['rows']['playbacks']}" in described.stdout
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", ran.lake.root)
    monkeypatch.setenv("REELHOUSE_KAFKA__BOOTSTRAP_SERVERS", ran.config.kafka.bootstrap_servers)
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["healthy"]
    assert {name: stream["lag_records"] for name, stream in shown["streams"].items()} == dict.fromkeys(
        LAYERS, 0
    )
    assert all(stream["lag_seconds"] == 0 for stream in shown["streams"].values())
    # The last publish was all copies: gold's batch had nothing new.
    assert all(shown["streams"][name]["last_batch_records_per_second"] > 0 for name in ("bronze", "silver"))
    assert shown["tables"]["gold.playbacks"]["rows"] == ran.counts["rows"]["playbacks"]
    with pytest.raises(KeyboardInterrupt):
        rebuild(CutOffLake(ran.lake.spark, ran.lake.root), ran.config, [audience_daily.TABLE])
    days = ("2026-01-05", "2026-01-06")
    spoilt = [ran.lake.read(media_daily.TABLE).where(f"event_date = '{day}'") for day in days]
    ran.lake.append(media_daily.TABLE, spoilt[0].unionByName(spoilt[1]).localCheckpoint())
    assert main(["rebuild", "gold.playbacks", "gold.media_daily", "--from", "2026-01-06"]) == 0
    doubled = ran.lake.read(media_daily.TABLE).groupBy("media_id", "event_date").count().where("count > 1")
    assert {str(row.event_date) for row in doubled.collect()} == {"2026-01-05"}
    before = ran.lake.version(media_daily.TABLE)
    assert main(["rebuild", "gold.media_daily"]) == 0
    assert ran.lake.version(media_daily.TABLE) == before + 1, "readers see a table that is half built"
    assert "finishing the rebuild of gold.audience_daily, which was cut off" in capsys.readouterr().err
    assert_gold_is(ran.lake, ran.folder)
    unknown = reelhouse("tables", "gold.playback")
    assert unknown.returncode == 2
    assert "did you mean gold.playbacks?" in unknown.stderr
