"""A changed checkout is told what it would change in the lake; an unchanged one that nothing would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from checkout import copied
from embedded_broker import broker_config
from pyspark.sql import functions as F

from pipelines import broker
from pipelines.bronze import events as bronze
from pipelines.cli.main import main
from pipelines.config import Config
from pipelines.declare import Column
from pipelines.engine import backtest as backtests
from pipelines.engine.backtest import backtest
from pipelines.engine.lake import Lake
from pipelines.engine.locks import only_writer
from pipelines.engine.replay import Wanted, replay
from pipelines.engine.sorting import EVENTS, Sorted, sort_out
from pipelines.engine.stream import Streams
from pipelines.gold import playbacks
from pipelines.kafka_clients import producer
from pipelines.produce import produce
from pipelines.silver import quarantine, user_actions
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS, OF_LAYER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.stream
Made = tuple[Lake, Config]


def _action(event_id: str, **changes: Any) -> dict[str, Any]:
    fields = {"schemaVersion": 2, "eventId": event_id, "userId": f"of {event_id}", "action": "play"}
    return {**fields, "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m", **changes}


def _report(event_id: str, percent: int) -> dict[str, Any]:
    fields = {"eventId": event_id, "serverId": "s", "kind": "resource", "timestamp": "2026-01-05T11:00:00Z"}
    return {**fields, "cpuPercent": percent}


def _send(config: Config, *events: dict[str, Any]) -> None:
    sender = producer(config)
    topics = config.kafka.topics
    for event in events:
        topic = topics.user_actions if "action" in event else topics.system_events
        sender.send(topic, json.dumps(event).encode())
    sender.close()


@pytest.fixture(scope="module")
def made(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A simulation in two parts, of which gold has taken the first; held records, and released ones."""
    folder = tmp_path_factory.mktemp("backtest")
    config = broker_config(folder, partitions=1)
    limits = config.limits.model_copy(update={"max_record_bytes": 1500})
    strict = config.model_copy(update={"limits": limits})
    write_simulation(folder, users=4, days=1, seed=3)
    lines = (folder / "events.ndjson").read_text().splitlines(keepends=True)
    parts = [folder / name for name in ("first.ndjson", "second.ndjson")]
    parts[0].write_text("".join(lines[: len(lines) // 2]))
    parts[1].write_text("".join(lines[len(lines) // 2 :]))
    broker.start(config)
    try:
        # What is too large is held first: the later record of `twice` becomes the event.
        large = {"sessionId": "s" * 2000}
        _send(config, _action("large", **large), _action("twice", **large), _action("twice"))
        # Held until a contract accepts them: an event, a copy of it, and a copy of an event in silver.
        _send(config, _report("below", -5), _report("below", -5))
        _send(config, _report("full", 99), _report("full", 99), _report("full", -5))
        _send(config, _action("early", positionSeconds=-5))
        produce(config, parts[:1])
        Streams(spark, strict, LAYERS, print).run(available_now=True)
        lake = Lake.of(spark, config)
        replay(lake, config, Wanted(), dry_run=False)
        _send(config, _action("tardy", positionSeconds=-5))
        produce(config, parts[1:])
        Streams(spark, config, ["bronze", "silver"], print).run(available_now=True)
        yield lake, config
    finally:
        broker.stop(config)


@pytest.fixture
def reelhouse(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment by which the command line finds the lake."""
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", made[0].root)


def _state(lake: Lake) -> dict[str, Any]:
    """Versions of all tables, and the files of the checkpoints and of the rest with their content."""
    versions = {t.full_name: lake.version(t) for layer in LAYERS for t in OF_LAYER[layer]}
    files = {
        str(p): p.read_bytes() for p in Path(lake.root).rglob("*") if p.is_file() and "_locks" not in str(p)
    }
    return versions | files


@pytest.mark.usefixtures("reelhouse")
def test_an_unchanged_checkout_changes_nothing_and_nothing_is_written(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lake, _ = made
    monkeypatch.setenv("REELHOUSE_STREAM__JITTER_SECONDS", "86400")  # since gold's last batch
    released = lake.read(quarantine.TABLE).groupBy("released_as").count().collect()
    assert {"row", "copy"} <= {row["released_as"] for row in released}
    before = _state(lake)
    with only_writer(lake, LAYERS):
        assert main(["backtest", "--format", "csv"]) == 0
    assert _state(lake) == before
    out, err = capsys.readouterr()
    assert out == "what,where,name,rows,percent,before,after,example\n"
    records = lake.read(bronze.TABLE).count()
    assert f"records: 0 of {records:,} differ (0 %)" in err
    assert f"gold.playbacks: 0 of {lake.read(playbacks.TABLE).count():,} differ" in err
    assert "note:" not in err


def test_from_the_middle_copies_of_older_events_are_copies_still(made: Made) -> None:
    lake, _ = made
    moments = sorted(row[0] for row in lake.read(bronze.TABLE).select("ingested_at").distinct().collect())
    found = backtest(*made, since=moments[1])
    assert 0 < found.compared.rows < lake.read(bronze.TABLE).count()
    assert found.differences == []
    assert found.verdicts.where("was = 'copy'").count() > 0


@pytest.mark.usefixtures("reelhouse")
def test_without_records_it_says_so(made: Made, capsys: Any) -> None:
    assert main(["backtest", "--since", "2999-01-01"]) == 1
    assert "silver has taken no record since then" in capsys.readouterr().err


def _change(version: Path, field: str, **change: Any) -> None:
    file = version / "schema.json"
    contract = json.loads(file.read_text())
    contract["properties"][field].update(change)
    file.write_text(json.dumps(contract))


@pytest.fixture(scope="module", autouse=True)
def other_contracts(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A backtest of a checkout with other contracts; while its Spark starts, other tests go on."""
    checkout = copied(tmp_path_factory.mktemp("changed"))
    _change(checkout / "schemas" / "system-event" / "1", "cpuPercent", minimum=-10)
    _change(checkout / "schemas" / "user-action" / "2", "positionSeconds", minimum=-10)
    _change(checkout / "schemas" / "user-action" / "2", "userId", enum=["of early", "of tardy", "of twice"])
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "REELHOUSE_STORAGE__ROOT": made[0].root,
        # It ends before Java's best compiler would pay. Room for code, or Java says there that it is full.
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m",
    }
    command = [sys.executable, "-m", "pipelines.cli.main", "backtest", "--format", "json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=pipe, stderr=pipe, text=True) as run:
        yield run


def test_contracts_that_refuse_and_that_accept_more(
    made: Made, other_contracts: subprocess.Popen[str]
) -> None:
    lake, _ = made
    out, err = other_contracts.communicate()
    assert other_contracts.returncode == 1, err
    found = [json.loads(line) for line in out.splitlines()]
    rows = {(d["what"], d["where"], d["name"], d["before"]): d["rows"] for d in found}

    cpu = F.try_parse_json(F.col("value").cast("string")).alias("event")
    held = lake.read(quarantine.TABLE).where("event_type = 'system-event'").select(cpu)
    below = held.where("try_variant_get(event, '$.cpuPercent', 'double') BETWEEN -10 AND -1")
    ids = [row[0] for row in below.selectExpr("variant_get(event, '$.eventId', 'string')").collect()]
    events = set(ids) - {"full"}
    assert "below" in events
    assert rows["newly accepted", "system-event", "out_of_range", "quarantined"] == len(events)
    assert rows["newly a copy", "system-event", "out_of_range", "quarantined"] == len(ids) - len(events)

    actions = lake.read(user_actions.TABLE)
    refused = "schema_version = 2 AND user_id <> 'of twice'"
    counted = actions.where(refused).count()
    assert rows["newly quarantined", "user-action", "unknown_value", "accepted"] == counted
    assert rows["newly accepted", "user-action", "out_of_range", "quarantined"] == 2

    # Gold has not come to `tardy` and to the second part, so they are on neither side.
    opened = actions.withColumnRenamed("event_id", "playback_id").where(f"NOT ({refused})")
    kept = lake.read(playbacks.TABLE).join(opened, "playback_id", "left_semi").count()
    plays = next(d for d in found if (d["where"], d["name"]) == ("gold.media_daily", "plays"))
    assert (plays["before"], plays["after"]) == (lake.read(playbacks.TABLE).count(), kept + 1)


@pytest.mark.usefixtures("reelhouse")
def test_a_changed_and_a_new_column_and_a_changed_definition(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def changed(decoded: DataFrame) -> DataFrame:
        platform = F.when(F.col("event_id") == "twice", "tv").otherwise(F.col("platform"))
        rows = user_actions.user_actions(decoded).withColumn("platform", platform)
        return rows.withColumn("mood", F.lit("fine"))

    lake, _ = made
    mood = Column("mood", "string", "How it felt.")
    table = replace(user_actions.TABLE, columns=(*user_actions.TABLE.columns, mood))
    monkeypatch.setitem(EVENTS, user_actions.EVENT_TYPE, (table, changed))
    monkeypatch.setattr(playbacks, "COUNTED_SECONDS", 60)
    monkeypatch.setattr(playbacks, "SHORT_MEDIA_SECONDS", 0)
    actions, plays = lake.read(user_actions.TABLE), lake.read(playbacks.TABLE)
    before, after = plays.where("is_counted").count(), plays.where("watch_seconds >= 60").count()
    assert before > after
    assert main(["backtest", "--format", "json", "--threshold", "100"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert {(d["what"], d["where"], d["name"], d["before"], d["after"]) for d in found} == {
        ("changed column", "silver.user_actions", "platform", None, "tv"),
        ("new column", "silver.user_actions", "mood", None, "fine"),
        ("changed column", "gold.playbacks", "platform", None, "tv"),
        ("changed column", "gold.playbacks", "is_counted", before, after),
        ("changed column", "gold.media_daily", "counted_plays", before, after),
        ("changed column", "gold.audience_daily", "counted_plays", before, after),
    }
    of_silver = {d["name"]: d for d in found if d["where"] == table.full_name}
    assert {name: d["rows"] for name, d in of_silver.items()} == {"platform": 1, "mood": actions.count()}
    place = actions.where("event_id = 'twice'").first()
    where = f"topic {place.topic} partition {place.partition} offset {place.offset}"
    assert of_silver["platform"]["example"] == where
    # A column that the table does not have yet does not count.
    assert "records: 1 of " in err


def test_an_identity_that_another_event_has_makes_a_copy(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def merged(records: DataFrame, config: Config) -> Sorted:
        found = sort_out(records, config)
        identity = F.when(F.col("event_id") == "large", "twice").otherwise(F.col("event_id"))
        return replace(found, events=found.events.withColumn("event_id", identity))

    monkeypatch.setattr(backtests, "sort_out", merged)
    [one] = backtest(*made, since=None).differences
    told = (one.what, one.where, one.rows, one.before, one.after)
    assert told == ("newly a copy", "user-action", 1, "accepted", "copy")
