"""A real HDFS for the tests: a name node and a data node of the Spark's own Hadoop, on ports of 127.0.0.1."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark
from embedded_broker import free_ports, until

from pipelines.jars import _JarSet, _resolve
from pipelines.java import require_java

_SPARK_JARS = Path(pyspark.__file__).parent / "jars"
_MAIN = "org.apache.hadoop.mapreduce.MiniHadoopClusterManager"
_START_SECONDS = 60


def _class_path() -> str:
    (hadoop,) = _SPARK_JARS.glob("hadoop-client-api-*.jar")
    version = hadoop.stem.rpartition("-")[2]
    jars = _JarSet("hdfs", (f"org.apache.hadoop:hadoop-client-minicluster:{version}",), ("org.slf4j",))
    logging = [*_SPARK_JARS.glob("slf4j-api-*.jar"), *_SPARK_JARS.glob("log4j-*.jar")]
    return ":".join(map(str, [*_resolve(jars), *logging]))


@contextmanager
def hdfs(folder: Path) -> Iterator[str]:
    """Its address (URI); what it holds ends with it."""
    (port,) = free_ports(1)
    details = folder / "hdfs.json"
    command = [require_java(), "-Xmx512m", "-cp", _class_path(), _MAIN, "-nomr", "-format"]
    command += ["-nnport", str(port), "-writeDetails", str(details)]
    with (folder / "hdfs.log").open("wb") as log:
        # Its files go to the working directory, and it ends with its input.
        server = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        until(lambda: server.poll() is not None or details.is_file(), _START_SECONDS)
        assert server.poll() is None, (folder / "hdfs.log").read_text()[-3000:]
        yield f"hdfs://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
