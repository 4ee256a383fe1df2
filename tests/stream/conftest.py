"""A lake that several files of tests read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS

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
