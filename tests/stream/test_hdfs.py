"""The lake on HDFS: the truth comes out of it, also after a run that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config, until
from hadoop import hdfs
from lake_rows import assert_gold_is

from pipelines import broker
from pipelines.config import Storage
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.stream import Streams
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_WAIT_SECONDS = 400


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hdfs(tmp_path_factory.mktemp("hdfs")) as address:
        yield f"{address}/lake"


def test_the_truth_comes_out_also_after_a_run_that_was_killed(
    root: str, spark: SparkSession, tmp_path: Path
) -> None:
    config = broker_config(tmp_path, partitions=1)
    config, lake = config.model_copy(update={"storage": Storage(root=root)}), Lake(spark, root)
    settings = {"STORAGE__ROOT": root, "KAFKA__BOOTSTRAP_SERVERS": config.kafka.bootstrap_servers}
    environment = os.environ | {f"REELHOUSE_{key}": value for key, value in settings.items()}
    command = [sys.executable, "-m", "pipelines.cli.main", "run"]
    write_simulation(tmp_path, users=5, days=1, seed=3)
    broker.start(config)
    try:
        produce(config, [tmp_path / "events.ndjson"])
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as killed:
            begun = f"{lake.checkpoint('silver')}-pins.json"
            until(lambda: lake.read_text(begun) is not None, _WAIT_SECONDS)
            killed.kill()
        Streams(spark, config, LAYERS, print).run(available_now=True)
        assert reconcile_records(lake, config).findings == []
    finally:
        broker.stop(config)
    assert_gold_is(lake, tmp_path)


def test_a_small_file_that_is_replaced_is_there_at_each_moment(root: str, spark: SparkSession) -> None:
    lake, path = Lake(spark, root), f"{root}/small.json"
    files, file = lake.hadoop_files(path)
    lake.write_text(path, "0")
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [lake.write_text(path, str(n)) for n in range(1, 21)])
        while not writing.done():
            assert files.exists(file)
        writing.result()
    assert lake.read_text(path) == "20"
