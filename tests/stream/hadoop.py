"""A real Hadoop for the tests, of the version that Spark brings: HDFS and YARN, on ports of 127.0.0.1."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pyspark
from embedded_broker import free_ports, until

from pipelines.jars import _JarSet, _resolve
from pipelines.java import require_java

_SPARK_JARS = Path(pyspark.__file__).parent / "jars"
_HDFS = "org.apache.hadoop.mapreduce.MiniHadoopClusterManager"
_YARN = "org.apache.hadoop.yarn.server"
# YARN's own pages want them, and Java has them no more, or does not open them.
_BESIDE = ("org.bouncycastle:bcpkix-jdk18on:1.78.1", "javax.xml.bind:jaxb-api:2.3.1")
_BESIDE += ("com.sun.xml.bind:jaxb-impl:2.3.3", "javax.activation:activation:1.1.1")
_JAVA = ("-Xmx512m", "--add-opens", "java.base/java.lang=ALL-UNNAMED")
_START_SECONDS = 60


@contextmanager
def hdfs(folder: Path) -> Iterator[str]:
    """A name node and a data node: their address (URI). What they hold ends with them."""
    (port,) = free_ports(1)
    details = folder / "hdfs.json"
    arguments = [_HDFS, "-nomr", "-format", "-nnport", str(port), "-writeDetails", str(details)]
    with _running("hdfs", arguments, folder) as server:
        until(lambda: server.poll() is not None or details.is_file(), _START_SECONDS)
        assert server.poll() is None, (folder / "hdfs.log").read_text()[-3000:]
        yield f"hdfs://127.0.0.1:{port}"


@contextmanager
def yarn(folder: Path, default_storage: str) -> Iterator[Path]:
    """A resource manager and a node manager: the folder that HADOOP_CONF_DIR names."""
    conf, pages = folder / "conf", free_ports(2)
    conf.mkdir()
    _write(conf / "core-site.xml", {"fs.defaultFS": default_storage, "hadoop.tmp.dir": folder / "tmp"})
    _write(conf / "yarn-site.xml", _yarn_settings(folder, *pages))
    with ExitStack() as running:
        for name in ("resourcemanager.ResourceManager", "nodemanager.NodeManager"):
            running.enter_context(_running(name.partition(".")[0], [f"{_YARN}.{name}"], folder, conf))
        until(lambda: _has_node(pages[0]), _START_SECONDS)
        yield conf


def _yarn_settings(folder: Path, page: int, node_page: int) -> dict[str, object]:
    addresses = ("address", "scheduler.address", "resource-tracker.address", "admin.address")
    ports = free_ports(len(addresses) + 2)
    found: dict[str, object] = {}
    for name, port in zip(addresses, ports, strict=False):
        found[f"yarn.resourcemanager.{name}"] = f"127.0.0.1:{port}"
    return found | {
        "yarn.resourcemanager.webapp.address": f"127.0.0.1:{page}",
        "yarn.resourcemanager.bind-host": "127.0.0.1",
        "yarn.resourcemanager.scheduler.class": f"{_YARN}.resourcemanager.scheduler.fifo.FifoScheduler",
        "yarn.scheduler.minimum-allocation-mb": 128,
        "yarn.nodemanager.address": f"127.0.0.1:{ports[-2]}",
        "yarn.nodemanager.localizer.address": f"127.0.0.1:{ports[-1]}",
        "yarn.nodemanager.webapp.address": f"127.0.0.1:{node_page}",
        "yarn.nodemanager.bind-host": "127.0.0.1",
        "yarn.nodemanager.log-dirs": folder / "logs",
        "yarn.nodemanager.local-dirs": folder / "local",
        "yarn.nodemanager.resource.memory-mb": 8192,
        "yarn.nodemanager.vmem-check-enabled": "false",
        # However full the disk of this machine is.
        "yarn.nodemanager.disk-health-checker.enable": "false",
    }


def _has_node(page: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{page}/ws/v1/cluster/nodes", timeout=10) as answer:
            return b'"RUNNING"' in answer.read()
    except OSError:
        return False  # it does not answer yet


def _write(file: Path, settings: Mapping[str, object]) -> None:
    told = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in settings.items())
    file.write_text(f"<configuration>{told}</configuration>")


@contextmanager
def _running(
    name: str, arguments: list[str], folder: Path, conf: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Hadoop, which keeps its files in the folder."""
    command = [require_java(), *_JAVA, "-cp", _class_path(conf), *arguments]
    with (folder / f"{name}.log").open("wb") as log:
        # HDFS's ends with its input.
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()  # a node manager ends its containers
        try:
            process.wait(20)
        finally:
            process.kill()


def _class_path(conf: Path | None) -> str:
    (api,) = _SPARK_JARS.glob("hadoop-client-api-*.jar")
    version = api.stem.rpartition("-")[2]
    coordinates = (f"org.apache.hadoop:hadoop-client-minicluster:{version}", *_BESIDE)
    logging = [*_SPARK_JARS.glob("slf4j-api-*.jar"), *_SPARK_JARS.glob("log4j-*.jar")]
    jars = _resolve(_JarSet("hadoop", coordinates, ("org.slf4j",)))
    return ":".join(map(str, [*([conf] if conf else []), *jars, *logging]))
