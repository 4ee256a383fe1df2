"""What would grow with the rounds: a table's log, which streams have yet to read, and connections to Java."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import running_broker, until

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine import stream
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.stream import Streams
from pipelines.engine.upkeep import maintain
from pipelines.kafka_clients import producer
from pipelines.silver import user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_HISTORY = timedelta(hours=30)


def test_a_log_is_cut_behind_the_stream_that_reads_it(spark: SparkSession, tmp_path: Path) -> None:
    with running_broker(tmp_path, partitions=1) as config:
        bronze = Streams(spark, config, ["bronze"], print)
        silver = Streams(spark, config, ["silver"], print)
        lake = Lake.of(spark, config)
        _publish(config, 0)
        bronze.run(available_now=True)
        _checkpoint_often(lake, events.TABLE)
        for number in range(1, 12):
            _publish(config, number)
            bronze.run(available_now=True)
            if number in (1, 5):
                silver.run(available_now=True)
        read_until = lake.version(events.TABLE) - 10
        # Delta itself would cut what is older than thirty days.
        _age(lake, events.TABLE, days=40)
        maintain(lake, events.TABLE, timedelta(days=41))
        assert _versions(lake)[0] == 0, "none of them was replaced so long ago"
        maintain(lake, events.TABLE, _HISTORY)
        assert 0 < _versions(lake)[0] <= read_until, "silver asks for its last batch again"
        # The same queries go on, though the first version, which they began with, is gone.
        assert silver.run(available_now=True)[0].records == 6
        assert reconcile_records(lake, config).findings == []

        for number in (12, 13):
            _publish(config, number)
            bronze.run(available_now=True)
            silver.run(available_now=True)
        _age(lake, events.TABLE, days=10)
        maintain(lake, events.TABLE, _HISTORY)
        assert _versions(lake)[0] > read_until, "all of that has been read"
        _publish(config, 14)
        bronze.run(available_now=True)
        assert silver.run(available_now=True)[0].records == 1
        assert lake.read(user_actions.TABLE).count() == lake.read(events.TABLE).count() == 15


def test_a_round_leaves_no_thread_behind(spark: SparkSession, tmp_path: Path) -> None:
    """Nor the two sockets that it reads from: a process may have some thousand of them, a day some ten."""
    with running_broker(tmp_path, partitions=1) as config:
        streams = Streams(spark, config, ["bronze", "silver"], print)
        _publish(config, 0)
        streams.run(available_now=True)
        threads = threading.active_count()
        for number in (1, 2):
            _publish(config, number)
            assert [taken.records for taken in streams.run(available_now=True)] == [1, 1]
        until(lambda: threading.active_count() <= threads, seconds=20)


def test_every_table_has_its_turn_whichever_process_the_rounds_are_of(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `run --available-now` every hour: a process for each round."""
    looked_after: list[str] = []

    def note(_: Lake, table: Table, history: timedelta) -> None:
        assert history == _HISTORY
        looked_after.append(table.full_name)
        raise RuntimeError("the storage has a bad day\nmore of it")

    told: list[str] = []
    monkeypatch.setattr(stream, "maintain", note)
    monkeypatch.setattr(stream, "_ROUNDS_BETWEEN_UPKEEP", 3)
    with running_broker(tmp_path, partitions=1) as config:
        for number in range(5):
            _publish(config, number)
            Streams(spark, config, ["bronze"], told.append).run(available_now=True)
    assert looked_after == ["bronze.events", "ops.expired_records"]
    failure = "bronze: the upkeep failed (the storage has a bad day); the stream goes on"
    assert sum(line.startswith(failure) for line in told) == 2


def _publish(config: Config, number: int) -> None:
    sender = producer(config)
    event = {"userId": "u", "action": "play", "mediaId": "m", "timestamp": f"2026-01-05T11:{number:02}:00Z"}
    sender.send(config.kafka.topics.user_actions, json.dumps(event).encode())
    sender.close()


def _checkpoint_often(lake: Lake, table: Table) -> None:
    """A log is cut at checkpoints: every second version instead of fifty."""
    lake.spark.sql(
        f"ALTER TABLE delta.`{lake.path(table)}` SET TBLPROPERTIES ('delta.checkpointInterval' = '2')"
    )


def _log(lake: Lake) -> list[Path]:
    files = Path(lake.path(events.TABLE), "_delta_log").iterdir()
    return sorted(file for file in files if file.name[:20].isdigit())


def _versions(lake: Lake) -> list[int]:
    return [int(file.stem) for file in _log(lake) if file.suffix == ".json"]


def _age(lake: Lake, table: Table, days: int) -> None:
    """Make the versions so old, a minute from one to the next."""
    newest = lake.version(table)
    for file in _log(lake):
        at = time.time() - days * 86_400 - 60 * (newest - int(file.name[:20]))
        os.utime(file, (at, at))
