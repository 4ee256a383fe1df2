"""How far the layers are behind their sources, and whether they are well."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.engine import stream_facts as facts_module
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.engine.stream_facts import StreamFacts, stream_facts
from pipelines.kafka_clients import admin, producer
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
PARTITIONS = 2
HOUR = 3600


def send(config: Config, partition: int, age: int, count: int = 1) -> None:
    client = producer(config)
    at = int((time.time() - age) * 1000)
    for _ in range(count):
        client.send(config.kafka.topics.user_actions, b"x", partition=partition, timestamp_ms=at)
    client.close()


def grow_old(lake: Lake, layer: str, seconds: int) -> None:
    """As if the layer's batches had been so long ago."""
    for folder in ("offsets", "commits"):
        age(Path(lake.checkpoint(layer), folder).iterdir(), seconds)


def commits(lake: Lake) -> list[Path]:
    """Of bronze, in their order."""
    return sorted(Path(lake.path(events.TABLE), "_delta_log").glob("*.json"))


def age(files: Iterable[Path], seconds: int) -> None:
    at = time.time() - seconds
    for file in files:
        os.utime(file, (at, at))


def test_bronze_is_stalled_only_when_a_record_has_waited(spark: SparkSession, config: Config) -> None:
    lake = Lake.of(spark, config)

    def bronze() -> StreamFacts:
        return stream_facts(lake, config)[0]

    send(config, 0, age=2 * HOUR)
    Streams(spark, config, ["bronze"], print).run(available_now=True)
    grow_old(lake, "bronze", HOUR)  # a quiet hour has passed since the batch
    assert (bronze().health, bronze().lag and bronze().lag.seconds) == ("ok", 0)

    send(config, 0, age=0, count=3)
    facts = bronze()
    assert facts.health == "behind"
    assert facts.lag is not None
    assert (facts.lag.records, facts.lag.seconds < 60) == (3, True)

    send(config, 1, age=HOUR)
    facts = bronze()
    assert facts.health == "stalled"
    assert facts.lag is not None
    assert (facts.lag.records, facts.lag.seconds // 60) == (4, 60)


def test_the_lag_is_known_whatever_the_compression(spark: SparkSession, config: Config) -> None:
    compressed = {"compression.type": "zstd"}
    topic = ConfigResource(ConfigResourceType.TOPIC, config.kafka.topics.user_actions, compressed)
    with closing(admin(config)) as client:
        client.alter_configs([topic])  # the broker compresses what comes
    lake = Lake.of(spark, config)
    send(config, 0, age=0)
    Streams(spark, config, ["bronze"], print).run(available_now=True)
    send(config, 0, age=HOUR)
    send(config, 1, age=0)
    facts = stream_facts(lake, config)[0]
    assert facts.health == "behind"
    assert facts.lag is not None
    assert (facts.lag.records, facts.lag.seconds // 60) == (2, 60)


def test_what_has_expired_counts_neither_as_taken_nor_as_lag(spark: SparkSession, config: Config) -> None:
    lake = Lake.of(spark, config)
    send(config, 0, age=0, count=3)
    expire(config, 0, before=2)
    Streams(spark, config, ["bronze"], print).run(available_now=True)
    assert stream_facts(lake, config)[0].last_batch_records == 1
    send(config, 0, age=0, count=5)
    expire(config, 0, before=6)
    lag = stream_facts(lake, config)[0].lag
    assert lag is not None
    assert lag.records == 2


def expire(config: Config, partition: int, before: int) -> None:
    place = TopicPartition(config.kafka.topics.user_actions, partition)
    with closing(admin(config)) as client:
        client.delete_records({place: before})


def test_far_behind_its_source_a_layer_tells_the_whole_lag(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.of(spark, config)

    def take(layers: tuple[str, ...], count: int) -> None:
        send(config, 0, age=0, count=count)
        Streams(spark, config, layers, print).run(available_now=True)

    take(LAYERS[:2], 3)
    for count in range(1, 5):
        take(LAYERS[:1], count)
    age(commits(lake)[:3], HOUR)  # the table's own, the one that silver has taken, the first that it has not
    for most in (1000, 2):
        monkeypatch.setattr(facts_module, "_MOST_COMMITS", most)
        silver = stream_facts(lake, config)[1]
        assert silver.last_batch_records == 3
        assert silver.lag is not None
        assert silver.lag.seconds is not None
        assert (silver.lag.records, silver.lag.seconds // 60) == (10, 60)


def test_a_layer_is_stalled_only_when_its_process_is_idle(spark: SparkSession, config: Config) -> None:
    """The layers of a process take turns: gold waits for minutes while silver has much to do."""
    lake = Lake.of(spark, config)
    locks = Path(lake.root, "_locks")

    def health() -> list[str]:
        return [facts.health for facts in stream_facts(lake, config)]

    send(config, 0, age=2 * HOUR)
    Streams(spark, config, LAYERS[:2], print).run(available_now=True)
    assert health() == ["ok", "ok", "never started"]
    shutil.copy(locks / "silver.lock", locks / "gold.lock")  # it has gold as well, and has not come to it
    assert health() == ["ok", "ok", "behind"]

    send(config, 0, age=2 * HOUR)
    Streams(spark, config, LAYERS[:1], print).run(available_now=True)
    age(commits(lake), HOUR)
    grow_old(lake, "silver", HOUR)
    assert health() == ["ok", "behind", "behind"]
    (locks / "silver.lock").write_text("process 1 on another machine")  # whose end nobody noticed
    assert health()[:2] == ["ok", "stalled"]

    grow_old(lake, "bronze", HOUR)
    assert health() == ["ok", "stalled", "never started"]


def test_without_locks_each_layer_is_by_itself(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on HDFS, where nobody knows who writes a layer."""
    monkeypatch.setattr(facts_module, "holder", lambda *_: None)
    lake = Lake.of(spark, config)
    for layers in (LAYERS[:2], LAYERS[:1]):
        send(config, 0, age=2 * HOUR)
        Streams(spark, config, layers, print).run(available_now=True)
    age(commits(lake), HOUR)
    grow_old(lake, "silver", HOUR)
    assert [facts.health for facts in stream_facts(lake, config)] == ["ok", "stalled", "never started"]


def test_a_topic_of_the_pattern_that_bronze_has_not_read_is_behind(
    spark: SparkSession, config: Config
) -> None:
    own = config.kafka.topics.user_actions.partition(".")[0]
    pattern = config.kafka.model_copy(update={"subscribe_pattern": rf"{own}\..*|later"})
    config = config.model_copy(update={"kafka": pattern})
    send(config, 0, age=0)
    Streams(spark, config, LAYERS[:1], print).run(available_now=True)
    with closing(admin(config)) as cluster:
        cluster.create_topics({"later": {"num_partitions": 1, "replication_factor": 1}})
        cluster.wait_for_topics(["later"], timeout_ms=30_000)
    client = producer(config)
    client.send("later", b"x")
    client.close()
    bronze = stream_facts(Lake.of(spark, config), config)[0]
    assert bronze.lag is not None
    assert bronze.lag.records == 1
