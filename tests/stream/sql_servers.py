"""Spark's SQL servers as docs/sql.md starts them, and their clients: beeline, and the pure-Python one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_THRIFT = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
_CONNECT = "org.apache.spark.sql.connect.service.SparkConnectServer"
_START_SECONDS = 120
_CLIENT = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
print(spark.sql(sys.argv[2]).first()[0])
"""


@contextlib.contextmanager
def thrift(folder: Path, named: Path, port: int) -> Iterator[None]:
    """The Thrift server on a port; `named` is the folder that `pipelines.spark_conf` has written."""
    with _server(folder, named, _THRIFT, port, f"spark.hadoop.hive.server2.thrift.port={port}"):
        yield


@contextlib.contextmanager
def connect(folder: Path, named: Path, port: int) -> Iterator[None]:
    """The same for the Spark Connect server."""
    with _server(folder, named, _CONNECT, port, f"spark.connect.grpc.binding.port={port}"):
        yield


@contextlib.contextmanager
def _server(folder: Path, named: Path, main: str, port: int, setting: str) -> Iterator[None]:
    command = [program("spark-submit"), "--conf", setting, "--class", main, "spark-internal"]
    with process(command, folder, {"SPARK_CONF_DIR": str(named)}, main) as server:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(port):
            log = (folder / f"{main}.log").read_text(errors="replace")[-3000:]
            assert server.poll() is None, f"{main} ended:\n{log}"
            assert time.monotonic() < deadline, f"{main} does not listen:\n{log}"
            time.sleep(0.2)
        yield


def by_jdbc(folder: Path, port: int, query: str) -> int:
    """A number from the Thrift server."""
    url = f"jdbc:hive2://127.0.0.1:{port}"
    command = [program("beeline"), "-u", url, "--silent=true", "--outputformat=csv2", "--showHeader=false"]
    answered = run_command([*command, "-e", query], folder)
    assert answered.returncode == 0, answered.stderr
    return int(answered.stdout.split()[-1])


def by_connect(folder: Path, port: int, query: str) -> int:
    """A number from the Spark Connect server, from an environment that has the pure-Python client only."""
    client = folder / "client"
    if not client.is_dir():
        subprocess.run([sys.executable, "-m", "venv", client], check=True)
        install = ["pip", "install", "-q", "--disable-pip-version-check", "pyspark-client==4.1.1"]
        subprocess.run([client / "bin" / install[0], *install[1:]], check=True)
    command = [str(client / "bin" / "python"), "-c", _CLIENT, f"sc://127.0.0.1:{port}", query]
    answered = run_command(command, folder, PYTHONPATH="", SPARK_HOME="")
    assert answered.returncode == 0, answered.stderr
    return int(answered.stdout)


def run_command(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@contextlib.contextmanager
def process(
    command: list[str], folder: Path, environment: dict[str, str], name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own group, which ends with the block, with all that it has started."""
    with (folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """One of PySpark's programs."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / name)
