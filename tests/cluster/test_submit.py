"""spark-submit of the wheel to a real standalone cluster: one master, two workers of one core.

Each in a network namespace of its own where the system allows it (Linux, root), with the driver outside;
else all on loopback. The embedded broker listens on 127.0.0.1 only: a relay brings its port into the
namespaces. Storage is a folder that all see. The machines' zone is not UTC, the current folder is empty, and
nothing knows of the checkout.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
import sql_servers
from ci_job import broken_checks, run_ci_job
from deltalake import DeltaTable
from embedded_broker import broker_config, free_ports
from lake_rows import assert_gold_is
from network import network
from standalone import WORKERS, Cluster, Submitter, build_wheel, events_named, tasks_by_worker

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.reconcile_gold import reconcile_gold
from pipelines.jars import spark_jars
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.cluster
_SECONDS = 300


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitter]:
    """The cluster, and a broker that holds a simulation, whose truth is in `folder`."""
    folder = tmp_path_factory.mktemp("cluster")
    logs, dist = folder / "logs", folder / "dist"
    logs.mkdir()
    config = broker_config(folder, partitions=2)
    with network(config.broker.port, folder) as machines:
        print("in network namespaces" if machines.is_apart else "on loopback")
        cluster = Cluster(machines, logs)
        try:
            cluster.start()
            broker.start(config)
            write_simulation(folder, users=8, days=1, seed=5)
            produce(config, [folder / "events.ndjson"])
            yield Submitter(cluster, *build_wheel(dist), folder, config)
        finally:
            cluster.stop()
            broker.stop(config)


def test_the_wheel_is_what_runs_in_utc_and_what_spark_submit_was_told_holds(
    world: Submitter, tmp_path: Path
) -> None:
    own = {
        "spark.sql.shuffle.partitions": "3",
        "spark.executor.extraJavaOptions": "-Dmine=yes -Dorg.apache.avro.limits.string.maxLength=77",
        "spark.driver.host": world.cluster.network.driver.address,
        "spark.sql.session.timeZone": "America/Lima",
    }
    submitter = world.on(tmp_path)
    command = submitter.command(settings=own)
    command[command.index(str(world.entry))] = str(Path(__file__).parent / "probe.py")
    code, said = submitter.run(command)
    assert code == 0, said
    found = json.loads(said.partition("FOUND ")[2].splitlines()[0])
    assert found["driver"].startswith(str(world.wheel))
    assert {(zone, contracts) for _, zone, contracts in found["workers"]} == {("UTC", 4)}
    assert all("/reelhouse.whl/pipelines/" in file for file, _, _ in found["workers"])
    assert found["zone"] == "UTC"
    settings = found["settings"]
    assert settings["spark.sql.shuffle.partitions"] == "3"
    options = settings["spark.executor.extraJavaOptions"].split()
    assert [o for o in options if "mine" in o or "avro" in o] == [
        "-Dmine=yes",
        "-Dorg.apache.avro.limits.string.maxLength=77",
        "-Dorg.apache.avro.limits.bytes.maxLength=16777216",
        "-Dorg.apache.avro.limits.collectionItems.maxLength=1048576",
    ]
    assert settings["spark.sql.session.timeZone"] == "UTC", "results depend on it"
    assert settings["spark.app.name"] == "reelhouse probe"


def test_a_layer_is_an_application_that_loses_nothing_by_missing_jars_or_sigterm_in_a_batch(
    world: Submitter, spark: SparkSession, tmp_path: Path
) -> None:
    """Both workers do their part of it."""
    submitter = world.on(tmp_path)
    driver_only = {"spark.driver.extraClassPath": ":".join(map(str, spark_jars()))}
    run = ("run", "--available-now", "--layers")
    code, said = submitter.run(submitter.command(*run, "bronze", jars=False, settings=driver_only), _SECONDS)
    assert code == 1
    last = said.splitlines()[-1]
    assert last.startswith("reelhouse: the workers lack jars")
    assert last.endswith('--packages "$(python -m pipelines.jars packages)"')
    code, said = submitter.run(submitter.command(*run, "bronze"), _SECONDS)
    assert code == 0, said
    said = _stopped_in_its_first_batch(submitter, "silver")
    assert "records taken: silver " in said
    code, said = submitter.run(submitter.command(*run, "gold"), _SECONDS)
    assert code == 0, said
    assert_gold_is(Lake.of(spark, submitter.config), world.folder)
    tasks = tasks_by_worker(submitter.events)
    print(f"tasks by worker: {dict(tasks)}")
    assert len(tasks) == WORKERS
    assert min(tasks.values()) > max(tasks.values()) / 3


def _stopped_in_its_first_batch(submitter: Submitter, layer: str) -> str:
    """Run a layer without end, and send SIGTERM to spark-submit when a batch has begun; what it said."""
    log, checkpoint = submitter.folder / "run.log", Path(submitter.config.storage.root, "_checkpoints", layer)
    with log.open("wb") as output:
        running = submitter.start(submitter.command("run", "--layers", layer), output)
    try:
        # The batch pins what it reads before it does anything; a stop before that leaves it to the next run.
        _until(checkpoint.with_name(f"{layer}-pins.json").exists, running, log)
        assert not (checkpoint / "commits" / "0").exists()
        running.send_signal(signal.SIGTERM)
        assert running.wait(_SECONDS) == 0, log.read_text()
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert (checkpoint / "commits" / "0").exists(), "the batch was not finished"
    assert log.read_text().count("stopping after the running batch") == 1
    return log.read_text()


def test_all_layers_in_one_application_give_the_truth_though_a_worker_and_executors_die_in_mid_run(
    world: Submitter, spark: SparkSession, tmp_path: Path
) -> None:
    submitter = world.on(tmp_path)
    dynamic = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "0",
        "spark.dynamicAllocation.executorIdleTimeout": "6s",
        "spark.dynamicAllocation.cachedExecutorIdleTimeout": "6s",
    }
    log = tmp_path / "run.log"
    with log.open("wb") as output:
        running = submitter.start(submitter.command("run", settings=dynamic), output)
    try:
        _until(lambda: "bronze: " in log.read_text(), running, log)
        world.cluster.kill_worker(1)
        # Gold's first batch has begun to write what its executors hold.
        begun = Path(submitter.config.storage.root, "gold/media_daily/_delta_log", f"{1:020}.json")
        _until(begun.exists, running, log, pause=0.05)
        assert world.cluster.kill_executors()
        _until(lambda: "gold: an executor was lost" in log.read_text(), running, log)
        _until(lambda: re.search(r"^gold: [\d,]+ records", log.read_text(), re.M), running, log)
        _read_from_outside(submitter.config, tmp_path)
        _a_second_application_is_refused(submitter, running)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, log.read_text()
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        world.cluster.start_worker(1)
    assert any(reason.startswith("worker lost") for reason in _left(submitter.events))
    assert "done in " in log.read_text()
    lake = Lake.of(spark, submitter.config)
    assert_gold_is(lake, world.folder)
    assert reconcile_records(lake, submitter.config).findings == []
    assert reconcile_gold(lake)[0] == []
    checked = run_ci_job(tmp_path / "green", REELHOUSE_STORAGE__ROOT=lake.root)
    assert checked.returncode == 0, checked.stderr
    assert broken_checks(tmp_path / "green") == []


def _read_from_outside(config: Config, folder: Path) -> None:
    """By every door as the application runs: `reelhouse sql`, the servers, and DuckDB without a JVM."""
    query = "SELECT count(*) AS days FROM gold.audience_daily"
    audience = DeltaTable(f"{config.storage.root}/gold/audience_daily").to_pyarrow_dataset()
    days = duckdb.from_arrow(audience).count("*").fetchall()[0][0]
    assert days > 0
    root = {"REELHOUSE_STORAGE__ROOT": config.storage.root}
    told = _python(folder, root, "pipelines.cli.main", "sql", "--format", "json", query)
    assert json.loads(told) == {"days": days}
    named = folder / "named"
    _python(folder, root, "pipelines.spark_conf", str(named))
    # In turn: the names are in a Derby, which serves one process at a time.
    jdbc, connect = free_ports(2)
    with sql_servers.thrift(folder, named, jdbc):
        assert sql_servers.by_jdbc(folder, jdbc, query) == days
    with sql_servers.connect(folder, named, connect):
        assert sql_servers.by_connect(folder, connect, query) == days


def _python(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    done = sql_servers.run_command([sys.executable, "-m", *arguments], folder, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _a_second_application_is_refused(submitter: Submitter, first: subprocess.Popen[bytes]) -> None:
    code, said = submitter.run(submitter.command("run", "--available-now"))
    assert code == 1
    sentence = said.splitlines()[-1]
    assert sentence.startswith("reelhouse: another process writes the bronze layer already: process ")
    assert first.poll() is None, "the first has ended"


def _left(events: Path) -> list[str]:
    """Why executors left, in order."""
    return [event["Removed Reason"] for event in events_named(events, "ExecutorRemoved")]


def _until(
    condition: Callable[[], object], running: subprocess.Popen[bytes], log: Path, pause: float = 0.5
) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(pause)


def test_a_driver_without_jars_says_how_to_give_them(world: Submitter, tmp_path: Path) -> None:
    submitter = world.on(tmp_path)
    code, said = submitter.run(submitter.command("run", "--available-now", jars=False))
    assert code == 1
    assert said.splitlines()[-1] == (
        "reelhouse: Spark was started without the jars of Delta Lake; give them to spark-submit with "
        '--packages "$(python -m pipelines.jars packages)"'
    )
    assert "Traceback" not in said


def test_cluster_deploy_mode_is_refused_by_spark_in_a_sentence(world: Submitter, tmp_path: Path) -> None:
    submitter = world.on(tmp_path)
    command = submitter.command("run")
    code, said = submitter.run([command[0], "--deploy-mode", "cluster", *command[1:]])
    assert code == 1
    assert "Cluster deploy mode is currently not supported for python applications on standalone" in said
