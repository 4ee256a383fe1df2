"""A lake that several files of tests read, and a broker for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config, running_broker

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS
from pipelines.topics import create_topics

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def simulated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Config]]:
    """Nine days of six viewers in all tables, rules counted; who changes a table puts it back."""
    folder = tmp_path_factory.mktemp("simulated")
    config = broker_config(folder, partitions=2)
    config = config.model_copy(update={"stream": config.stream.model_copy(update={"rules_minutes": 10.0})})
    write_simulation(folder, users=6, days=9, seed=4)
    broker.start(config)
    try:
        produce(config, [folder / "events.ndjson"])
        Streams(spark, config, LAYERS, print).run(available_now=True)
        yield Lake.of(spark, config), config
    finally:
        broker.stop(config)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """A broker for all tests of a file, whose `PARTITIONS` its topics have."""
    with running_broker(tmp_path_factory.mktemp("shared"), partitions=request.module.PARTITIONS) as found:
        yield found


@pytest.fixture
def config(shared: Config, request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """That broker, with topics and a lake of this test's own."""
    # A parametrized name carries characters that a topic may not.
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    names = {kind: f"{name}.{kind}" for kind in ("user_actions", "content_uploads", "system_events")}
    topics = shared.kafka.topics.model_copy(update=names)
    changed = {
        "kafka": shared.kafka.model_copy(update={"topics": topics}),
        "storage": shared.storage.model_copy(update={"root": str(tmp_path / "lake")}),
    }
    own = shared.model_copy(update=changed)
    create_topics(own)
    return own
