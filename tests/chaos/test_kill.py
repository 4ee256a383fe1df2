"""The driver is killed with SIGKILL at random moments; the next run goes on, and the truth comes out."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import running_broker, until
from lake_rows import assert_gold_is, assert_gold_is_rebuilt

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import last_batch
from pipelines.engine.lake import Lake
from pipelines.engine.rebuild import computed
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import SILVER, TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.chaos
ROUNDS = 4


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    with running_broker(tmp_path, partitions=2) as found:
        yield found


def start_run(config: Config, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """`reelhouse run` in a process group of its own, small batches, so that a kill meets all of them."""
    environment = {
        **os.environ,
        "REELHOUSE_STORAGE__ROOT": config.storage.root,
        "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS": config.kafka.bootstrap_servers,
        "REELHOUSE_STREAM__MAX_RECORDS_PER_BATCH": "2500",
    }
    command = [sys.executable, "-m", "pipelines.cli.main", "run", *more]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def test_killed_at_random_moments_the_truth_comes_out(
    config: Config, tmp_path: Path, spark: SparkSession
) -> None:
    seed = int(os.environ.get("REELHOUSE_CHAOS_SEED", "7"))
    print(f"REELHOUSE_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    counts = write_simulation(tmp_path, users=20, days=2, seed=5)
    produce(config, [tmp_path / "events.ndjson"])
    lake, killed_in = Lake.of(spark, config), set()
    for _ in range(ROUNDS):
        running = start_run(config, tmp_path)
        try:
            _wait_for_a_batch(running, lake, tmp_path)
            time.sleep(rng.uniform(0, 12))
            assert running.poll() is None, (tmp_path / "run.log").read_text()[-2000:]
        finally:
            os.killpg(running.pid, signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
        killed_in.add(_progress(lake))
    assert len(killed_in) == ROUNDS, "not every kill met new work"
    finished = start_run(config, tmp_path, "--available-now")
    assert finished.wait(timeout=300) == 0, (tmp_path / "run.log").read_text()[-2000:]
    places = lake.read(TABLES[0]).groupBy("topic", "partition", "offset").count()
    assert places.where("count > 1").count() == 0
    assert places.count() == counts.records.total()
    for table, event_type in zip(SILVER, ("user-action", "content-upload", "system-event"), strict=False):
        assert lake.read(table).count() == counts.valid[event_type]
    assert lake.read(SILVER[3]).count() == counts.broken.total()
    assert_gold_is(lake, tmp_path)
    assert_gold_is_rebuilt(lake, computed(lake.read, config))


def _progress(lake: Lake) -> tuple[int, ...]:
    folders = [Path(lake.checkpoint(layer), "commits") for layer in ("bronze", "silver", "gold")]
    return tuple(len(list(folder.glob("[0-9]*"))) if folder.is_dir() else 0 for folder in folders)


def _wait_for_a_batch(running: subprocess.Popen[bytes], lake: Lake, folder: Path) -> None:
    """Until the run has committed a batch, so that every kill meets new work in progress."""
    before, deadline = _progress(lake), time.monotonic() + 300
    while _progress(lake) == before and time.monotonic() < deadline:
        assert running.poll() is None, (folder / "run.log").read_text()[-2000:]
        time.sleep(0.2)


def test_sigterm_finishes_the_batch_and_exits_with_0_and_a_dead_broker_is_waited_for(
    config: Config, tmp_path: Path, spark: SparkSession
) -> None:
    counts = write_simulation(tmp_path, users=5, days=1, seed=6)
    lines = (tmp_path / "events.ndjson").read_text().splitlines(keepends=True)
    (tmp_path / "first.ndjson").write_text("".join(lines[: len(lines) // 2]))
    (tmp_path / "second.ndjson").write_text("".join(lines[len(lines) // 2 :]))
    produce(config, [tmp_path / "first.ndjson"])
    running = start_run(config, tmp_path)
    try:
        until(lambda: "bronze: " in (tmp_path / "run.log").read_text(), seconds=180)
        status = broker.status(config)
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        until(lambda: "waiting for it to return" in (tmp_path / "run.log").read_text(), seconds=180)
        broker.start(config)
        produce(config, [tmp_path / "second.ndjson"])
        until(lambda: _total(tmp_path, "bronze") == counts.records.total(), seconds=180)
        # Silver's or gold's batch of these is under way, or about to begin.
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=120) == 0
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert f"records taken: bronze {counts.records.total():,}" in (tmp_path / "run.log").read_text()
    lake = Lake.of(spark, config)
    for layer in ("silver", "gold"):
        begun = pins(lake, layer)
        assert begun is None or begun.batch_id == last_batch(lake, layer)[0], (
            f"{layer} left a batch half done"
        )
    finished = start_run(config, tmp_path, "--available-now")
    assert finished.wait(timeout=300) == 0, (tmp_path / "run.log").read_text()[-2000:]
    places = lake.read(TABLES[0]).select("topic", "partition", "offset")
    assert places.count() == places.distinct().count() == counts.records.total()
    assert_gold_is(lake, tmp_path)


def _total(folder: Path, layer: str) -> int:
    """What `run` has told that the layer took (count)."""
    told = re.findall(rf"^{layer}: ([\d,]+) records", (folder / "run.log").read_text(), re.M)
    return sum(int(number.replace(",", "")) for number in told)
