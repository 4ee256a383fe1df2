"""The ready settings in conf/: Spark and Reelhouse know every key, and the files agree with one another.

The shapes of the manifests are what their operators' published types say of the fields that are used
(spark-operator: api/v1beta2; Strimzi: API v1): a misspelt or misplaced field is found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pyspark
import pytest
import yaml
from packaging.utils import parse_wheel_filename

from pipelines import spark_conf
from pipelines.config import Config, load_config
from pipelines.jars import KAFKA_COORDINATES
from pipelines.topics import configured_topics

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONF = Path(__file__).resolve().parents[2] / "conf"


def only(*required: str, **fields: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


STRING, COUNT, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "boolean"}
ENTRIES = {"type": "object", "additionalProperties": STRING}
METADATA = only("name", name=STRING, namespace=STRING, labels=ENTRIES)
POD = {
    "cores": COUNT,
    "memory": STRING,
    "memoryOverhead": STRING,
    "serviceAccount": STRING,
    "terminationGracePeriodSeconds": {"type": "integer"},
    "env": {"type": "array", "items": only("name", "value", name=STRING, value=STRING)},
}
SPARK_APPLICATION = only(
    *("type", "sparkVersion", "mainApplicationFile", "driver", "executor"),
    type={"enum": ["Java", "Python", "Scala", "R"]},
    mode={"enum": ["cluster", "client"]},
    sparkVersion=STRING,
    image=STRING,
    mainApplicationFile=STRING,
    arguments={"type": "array", "items": STRING},
    restartPolicy=only("type", type={"enum": ["Never", "Always", "OnFailure"]}),
    sparkConf=ENTRIES,
    driver=only(**POD),
    executor=only(**POD, instances=COUNT),
)
VOLUME = only(
    *("id", "type", "size"),
    id={"type": "integer"},
    type={"enum": ["persistent-claim", "ephemeral"]},
    size=STRING,
    deleteClaim=TRUTH,
    kraftMetadata={"const": "shared"},
)
LISTENER = only(
    *("name", "port", "type", "tls"),
    name={"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
    port={"type": "integer", "minimum": 9092},
    type={"enum": ["internal", "route", "loadbalancer", "nodeport", "ingress", "cluster-ip"]},
    tls=TRUTH,
)
SHAPES = {
    "SparkApplication": ("sparkoperator.k8s.io/v1beta2", SPARK_APPLICATION),
    "KafkaNodePool": (
        "kafka.strimzi.io/v1",
        only(
            *("replicas", "roles", "storage"),
            replicas=COUNT,
            roles={"type": "array", "items": {"enum": ["controller", "broker"]}},
            storage=only("type", type={"const": "jbod"}, volumes={"type": "array", "items": VOLUME}),
        ),
    ),
    "Kafka": (
        "kafka.strimzi.io/v1",
        only(
            "kafka",
            kafka=only(
                "listeners",
                version=STRING,
                metadataVersion=STRING,
                listeners={"type": "array", "items": LISTENER},
                config={"type": "object"},
            ),
            entityOperator=only(topicOperator=only()),
        ),
    ),
    "KafkaTopic": (
        "kafka.strimzi.io/v1",
        only(partitions=COUNT, replicas=COUNT, config={"type": "object"}),
    ),
}


def manifests(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CONF / file).read_text()))


def spark_defaults() -> dict[str, str]:
    lines = (CONF / "spark-defaults.conf").read_text().splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def test_spark_knows_every_key_of_spark_defaults(spark: SparkSession) -> None:
    jvm: Any = spark._jvm
    core, sql = jvm.org.apache.spark.internal.config.ConfigEntry, jvm.org.apache.spark.sql.internal.SQLConf
    found = spark_defaults()
    assert len(found) > 5
    assert [key for key in found if core.findEntry(key) is None and not sql.containsConfigKey(key)] == []


def test_cluster_toml_is_a_configuration_and_names_the_broker_of_the_manifests() -> None:
    config = load_config(str(CONF / "cluster.toml"), env={})
    (kafka,) = [one for one in manifests("kafka/strimzi.yaml") if one["kind"] == "Kafka"]
    listener = kafka["spec"]["kafka"]["listeners"][0]
    service = f"{kafka['metadata']['name']}-kafka-bootstrap:{listener['port']}"
    assert config.kafka.bootstrap_servers == service
    environment = manifests("kubernetes/reelhouse.yaml")[0]["spec"]["driver"]["env"]
    told = {one["name"]: one["value"] for one in environment}
    assert load_config(str(CONF / "cluster.toml"), env=told).kafka.bootstrap_servers == service


def test_the_file_with_the_catalogues_password_is_its_owners_only_also_when_it_was_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "spark-defaults.conf").touch(0o644)
    catalog = {"url": "jdbc:derby:;databaseName=x", "password": "hunter2"}
    file = spark_conf.write(Config.model_validate({"catalog": catalog}), tmp_path)
    assert "hunter2" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_spark_conf_is_laid_over_and_what_delta_needs_stays(tmp_path: Path) -> None:
    own = {"spark.sql.extensions": "x.Y", "spark.connect.grpc.binding.port": "1"}
    catalog = {"url": "jdbc:derby:;databaseName=x"}
    config = Config.model_validate({"catalog": catalog, "spark": {"conf": own}})
    lines = spark_conf.write(config, tmp_path).read_text().splitlines()
    assert "spark.sql.extensions x.Y,io.delta.sql.DeltaSparkSessionExtension" in lines
    assert "spark.connect.grpc.binding.port 1" in lines


@pytest.mark.parametrize("file", ["kubernetes/reelhouse.yaml", "kafka/strimzi.yaml"])
def test_a_manifest_has_the_shape_that_its_operator_asks_for(file: str) -> None:
    for manifest in manifests(file):
        version, spec = SHAPES[manifest["kind"]]
        whole = only(
            *("apiVersion", "kind", "metadata", "spec"),
            apiVersion={"const": version},
            kind=STRING,
            metadata=METADATA,
            spec=spec,
        )
        jsonschema.validate(manifest, whole)


def test_the_manifests_make_the_topics_of_the_configuration_for_one_cluster() -> None:
    found = manifests("kafka/strimzi.yaml")
    topics = [one for one in found if one["kind"] == "KafkaTopic"]
    assert sorted(one["metadata"]["name"] for one in topics) == sorted(configured_topics(Config()))
    (kafka,) = [one for one in found if one["kind"] == "Kafka"]
    rest = [one for one in found if one["kind"] != "Kafka"]
    assert {one["metadata"]["labels"]["strimzi.io/cluster"] for one in rest} == {kafka["metadata"]["name"]}
    (nodes,) = [one for one in found if one["kind"] == "KafkaNodePool"]
    assert all(one["spec"]["replicas"] <= nodes["spec"]["replicas"] for one in topics)
    version = kafka["spec"]["kafka"]["version"]
    assert int(version.partition(".")[0]) == int(KAFKA_COORDINATES[0].rpartition(":")[2].partition(".")[0])


def test_the_image_and_the_manifest_name_the_spark_of_the_lock() -> None:
    assert manifests("kubernetes/reelhouse.yaml")[0]["spec"]["sparkVersion"] == pyspark.__version__
    assert f"apache/spark:{pyspark.__version__}-" in (CONF / "kubernetes" / "Dockerfile").read_text()


@pytest.mark.parametrize("script", sorted(CONF.glob("*/submit.sh")), ids=lambda path: path.parent.name)
def test_a_script_is_sound_shell_and_may_be_run(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_on_yarn_workers_run_the_python_of_the_archive(mode: str, tmp_path: Path) -> None:
    """PySpark's driver tells them its PYSPARK_PYTHON, which spark-submit sets to spark.pyspark.python."""
    (tmp_path / "spark-submit").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "spark-submit").chmod(0o755)
    programs = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    ran = subprocess.run(
        [CONF / "yarn" / "submit.sh", "run"],
        cwd=CONF.parent,
        env=os.environ | {"PATH": programs, "DEPLOY_MODE": mode},
        capture_output=True,
        text=True,
        check=True,
    )
    words = ran.stdout.splitlines()
    settings = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "--conf")
    assert settings["spark.pyspark.python"] == "./environment/bin/python"
    # On this machine the archive is not unpacked; in cluster mode the driver is where it is.
    assert settings.get("spark.pyspark.driver.python") == ("python3" if mode == "client" else None)
    assert words[-1] == "run"


@pytest.mark.parametrize("job", ["github-actions.yml", "gitlab-ci.yml"])
def test_a_ci_job_installs_a_wheel_that_pip_takes(job: str) -> None:
    text = (CONF / "ci" / job).read_text()
    (installed,) = re.findall(r"pip install (.*)", text)
    assert "REELHOUSE_WHEEL" in installed
    assert {parse_wheel_filename(name)[0] for name in re.findall(r"[^\s(]+\.whl", text)} == {"reelhouse"}
