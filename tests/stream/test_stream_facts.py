"""How far bronze is behind its topics, by the records that it has not taken."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import running_broker
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.engine.stream_facts import StreamFacts, stream_facts
from pipelines.kafka_clients import admin, producer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
HOUR = 3600


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    with running_broker(tmp_path, partitions=2) as found:
        yield found


def send(config: Config, partition: int, age: int, count: int = 1) -> None:
    client = producer(config)
    at = int((time.time() - age) * 1000)
    for _ in range(count):
        client.send(config.kafka.topics.user_actions, b"x", partition=partition, timestamp_ms=at)
    client.close()


def test_bronze_is_stalled_only_when_a_record_has_waited(spark: SparkSession, config: Config) -> None:
    lake = Lake.of(spark, config)

    def bronze() -> StreamFacts:
        return stream_facts(lake, config)[0]

    send(config, 0, age=2 * HOUR)
    Streams(spark, config, ["bronze"], print).run(available_now=True)
    long_ago = time.time() - HOUR  # a quiet hour has passed since the batch
    for file in Path(lake.checkpoint("bronze"), "commits").iterdir():
        os.utime(file, (long_ago, long_ago))
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
