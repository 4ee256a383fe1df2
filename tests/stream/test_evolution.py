"""A producer is ahead of the contracts: its events wait, and are released when the contract is deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import copied, reelhouse_all, replaced
from embedded_broker import broker_config

from pipelines import broker
from pipelines.cli.main import main
from pipelines.engine.stream import Streams
from pipelines.kafka_clients import producer
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream


def _with_version_3(folder: Path) -> Path:
    """A checkout whose contracts have a version 3 of user-action, with the optional field `mood`."""
    checkout = copied(folder)
    versions = checkout / "schemas" / "user-action"
    contract = json.loads((versions / "2" / "schema.json").read_text())
    contract["properties"]["mood"] = {"type": ["string", "null"], "description": "How it felt."}
    (versions / "3").mkdir()
    (versions / "3" / "schema.json").write_text(json.dumps(contract))
    field = '        "server_id": "serverId",\n'
    replaced(
        checkout / "pipelines" / "silver" / "user_actions.py",
        ("        *LINEAGE,\n", '        Column("mood", "string", "How it felt."),\n        *LINEAGE,\n'),
        (field, field + '        "mood": "mood",\n'),
    )
    return checkout


def test_events_of_a_version_to_come_wait_and_are_released_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = broker_config(tmp_path, partitions=1)
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", config.storage.root)
    broker.start(config)
    try:
        sender = producer(config)
        play = {"userId": "u", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}
        for number, version in enumerate((1, 2, 3, 3)):
            event = {**play, "schemaVersion": version, "eventId": f"e{number}", "mood": "fine"}
            sender.send(config.kafka.topics.user_actions, json.dumps(event).encode())
        sender.close()
        Streams(spark, config, LAYERS, print).run(available_now=True)
        capsys.readouterr()
        assert main(["quarantine", "list", "--format", "json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert (listed["code"], listed["records"], listed["schema_version"]) == ("unknown_version", 2, 3)
        assert main(["quarantine", "show", "--reason", "unknown_version", "--limit", "1"]) == 0
        shown = capsys.readouterr().out
        assert "schemaVersion: 3   ◄ unknown_version: 3 is not one of 1, 2" in shown

        deployed = _with_version_3(tmp_path)
        plays = "(SELECT count(*) FROM gold.playbacks) AS plays"
        query = f"SELECT schema_version, mood, {plays} FROM silver.user_actions ORDER BY event_id"
        would, done, again, _, found, balance = reelhouse_all(
            deployed,
            config,
            ["quarantine", "replay", "--dry-run"],
            ["quarantine", "replay", "--reason", "unknown_version"],
            ["quarantine", "replay"],
            ["run", "--available-now"],
            ["sql", "--format", "csv", query],
            ["reconcile", "--format", "csv"],
        )
        assert "2 of 2 records would be released" in would
        assert "2 of 2 records were released" in done
        assert "0 of 0 records" in again
        assert found.splitlines()[1:] == ["1,,4", "2,,4", "3,fine,4", "3,fine,4"]
        assert balance.splitlines()[1:] == ["media.user-actions,0,4,4,0,0"]
    finally:
        broker.stop(config)
