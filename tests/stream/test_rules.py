"""The playback rules are counted by the streams, and hold no event back."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config
from pyspark.sql import functions as F

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.gold import quality_results
from pipelines.kafka_clients import producer
from pipelines.silver import quarantine, user_actions
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream


def _event(action: str, user: str, day: int, minute: int, position: float | None = None) -> bytes:
    event = {"schemaVersion": 2, "eventId": f"{user}-{day}-{minute}", "userId": user, "action": action}
    at = {"timestamp": f"2026-01-{day:02}T11:{minute:02}:00Z", "mediaId": "m", "sessionId": "s"}
    return json.dumps({**event, **at, "positionSeconds": position}).encode()


def _counted_every(config: Config, minutes: float) -> Config:
    return config.model_copy(update={"stream": config.stream.model_copy(update={"rules_minutes": minutes})})


def test_what_breaks_a_rule_is_counted_and_flows_on(spark: SparkSession, tmp_path: Path) -> None:
    config = _counted_every(broker_config(tmp_path, partitions=1), 10)
    broker.start(config)
    try:
        lake = Lake.of(spark, config)

        def publish_and_run(*values: bytes) -> None:
            sender = producer(config)
            for value in values:
                sender.send(config.kafka.topics.user_actions, value)
            sender.close()
            Streams(spark, config, LAYERS, print).run(available_now=True)

        upload = {
            "mediaId": "m",
            "creatorId": "c",
            "title": "t",
            "status": "published",
            "durationSeconds": 600,
        }
        sender = producer(config)
        at = {"timestamp": "2026-01-01T00:00:00Z"}
        sender.send(config.kafka.topics.content_uploads, json.dumps({**upload, **at}).encode())
        sender.close()
        publish_and_run(
            _event("pause", "a", 5, 0),  # without a play
            _event("play", "a", 5, 1, 0),
            _event("pause", "a", 5, 2, 500),  # 500 s watched in a minute
            _event("seek", "a", 5, 3, 5000),  # beyond the end
            _event("play", "b", 5, 4, 0),
            _event("play", "c", 5, 5, 0),  # in the session of b, who watches until minute 6
            _event("pause", "b", 5, 6, 120),
            _event("pause", "c", 5, 7, 120),
        )
        expected = {
            "pause_without_play": (4, 1, "a-5-0"),
            "position_beyond_duration": (7, 1, "a-5-3"),
            "watch_time_above_wall_clock": (3, 1, "a-5-2"),
            "overlapping_playbacks": (3, 1, "c-5-5"),
        }
        results = lake.read(quality_results.TABLE)
        rows = results.where("severity = 'warn'").collect()
        found = {row["rule"]: (row["checked"], row["violations"], row["example"]) for row in rows}
        assert found == expected
        assert {row["event_date"] for row in rows} == {date(2026, 1, 5)}
        assert {(row["source"], row["severity"]) for row in rows} == {("stream", "warn")}
        # The rules that every row fulfils are counted on the way: none is broken.
        of_rows = results.where("severity = 'error'").groupBy("table_name").agg(F.sum("violations")).collect()
        silver, gold = ("user_actions", "content_uploads"), ("playbacks", "media_daily", "audience_daily")
        tables = [*(f"silver.{name}" for name in silver), *(f"gold.{name}" for name in gold)]
        assert sorted(map(tuple, of_rows)) == sorted((table, 0) for table in tables)
        assert lake.read(user_actions.TABLE).count() == 8
        assert lake.read(quarantine.TABLE).count() == 0

        # Another day's events: that day is counted, and what stands is counted by the tables as they are.
        publish_and_run(_event("pause", "a", 6, 0))
        on_that_day = "event_date = '2026-01-06' AND severity = 'warn'"
        later = lake.read(quality_results.TABLE).where(on_that_day).collect()
        assert [(row["rule"], row["violations"]) for row in later] == [("pause_without_play", 1)]

        # What came when no count was due is counted later, also when nothing more comes.
        due, config = config, _counted_every(config, 0)
        publish_and_run(_event("pause", "a", 7, 0))
        assert lake.read(quality_results.TABLE).where("event_date = '2026-01-07'").isEmpty()
        config = due
        publish_and_run()
        assert not lake.read(quality_results.TABLE).where("event_date = '2026-01-07'").isEmpty()
    finally:
        broker.stop(config)
