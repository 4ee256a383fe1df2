"""A configuration for a broker of the tests' own: free ports, data in a temporary folder."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pipelines import broker
from pipelines.config import Config


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, each another."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def broker_config(folder: Path, partitions: int = 4) -> Config:
    """The configuration; nothing is started."""
    port, controller_port = free_ports(2)
    return Config.model_validate(
        {
            "storage": {"root": str(folder / "lake")},
            "broker": {"dir": str(folder / "broker"), "port": port, "controller_port": controller_port},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}", "partitions": partitions},
            # Only the test of the rules waits for them.
            "stream": {"rules_minutes": 0},
        }
    )


@contextmanager
def running_broker(folder: Path, partitions: int = 4) -> Iterator[Config]:
    """The configuration of a broker that runs until the end of the block."""
    config = broker_config(folder, partitions)
    broker.start(config)
    try:
        yield config
    finally:
        broker.stop(config)


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what happens in another process or thread."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def read_all(config: Config, topic: str) -> list[Any]:
    """Every record of the topic, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=config.kafka.bootstrap_servers, auto_offset_reset="earliest")
    try:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        wanted = sum(consumer.end_offsets(places).values())
        found: list[Any] = []
        while len(found) < wanted:
            for records in consumer.poll(timeout_ms=1000).values():
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()
