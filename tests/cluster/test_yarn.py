"""spark-submit of the wheel to a real YARN, with the lake on its HDFS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import running_broker
from hadoop import hdfs, yarn
from lake_rows import assert_gold_is
from standalone import SPARK_HOME, build_wheel, environment

from pipelines.config import Storage
from pipelines.engine.lake import Lake
from pipelines.jars import spark_jars
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.cluster
_SECONDS = 240
_LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1"}
_SETTINGS = {
    # The machine has Spark, as a node of a cluster may: it is not sent there.
    "spark.yarn.jars": f"local:{SPARK_HOME}/jars/*",
    "spark.pyspark.python": sys.executable,
    "spark.driver.memory": "1g",
    "spark.executor.instances": "2",
    "spark.executor.cores": "1",
    "spark.executor.memory": "640m",
    "spark.executor.memoryOverhead": "256m",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with hdfs(tmp_path_factory.mktemp("hdfs")) as address:
        yield address


def test_in_cluster_mode_the_truth_comes_out(storage: str, spark: SparkSession, tmp_path: Path) -> None:
    wheel, entry = build_wheel(tmp_path / "dist")
    write_simulation(tmp_path, users=4, days=1, seed=5)
    with running_broker(tmp_path, partitions=1) as config, yarn(tmp_path, storage) as conf:
        produce(config, [tmp_path / "events.ndjson"])
        config = config.model_copy(update={"storage": Storage(root=f"{storage}/lake")})
        of_driver = _LOOPBACK | {
            "PYSPARK_PYTHON": sys.executable,
            "REELHOUSE_STORAGE__ROOT": config.storage.root,
            "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS": config.kafka.bootstrap_servers,
        }
        settings = _SETTINGS | {f"spark.yarn.appMasterEnv.{key}": text for key, text in of_driver.items()}
        settings |= {f"spark.executorEnv.{key}": text for key, text in _LOOPBACK.items()}
        command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", "yarn", "--deploy-mode", "cluster"]
        command += [word for key, text in settings.items() for word in ("--conf", f"{key}={text}")]
        command += ["--jars", ",".join(map(str, spark_jars())), "--py-files", str(wheel)]
        ran = subprocess.run(
            [*command, str(entry), "run", "--available-now"],
            cwd=tmp_path,
            env=environment() | _LOOPBACK | {"HADOOP_CONF_DIR": str(conf)},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:] + _said(tmp_path / "logs")
        assert "records taken: bronze " in _said(tmp_path / "logs")
    assert_gold_is(Lake(spark, config.storage.root), tmp_path)


def _said(logs: Path) -> str:
    """The end of what the application's containers wrote."""
    return "".join(file.read_text()[-3000:] for file in sorted(logs.rglob("std*")))
