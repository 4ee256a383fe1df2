"""A real Spark standalone cluster: a master and two workers of one core each, from pip's PySpark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pyspark
from embedded_broker import free_ports
from network import Network

from pipelines.config import Config, Storage
from pipelines.jars import spark_jars

SPARK_HOME = Path(pyspark.__file__).parent
CHECKOUT = Path(__file__).resolve().parents[2]
WORKERS = 2
# Nobody in Reelhouse expects this zone: what comes out right does not depend on that of the machines.
_ZONE = "America/St_Johns"
_START_SECONDS = 60


def build_wheel(folder: Path) -> tuple[Path, Path]:
    """`reelhouse.whl` and the entry beside it, as `make wheel` makes them."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    wheel, entry = folder / "reelhouse.whl", folder / "reelhouse.py"
    next(folder.glob("reelhouse-*.whl")).rename(wheel)
    entry.write_text((CHECKOUT / "conf" / "reelhouse.py").read_text())
    return wheel, entry


def environment() -> dict[str, str]:
    """That of a machine of the cluster, which knows nothing of the checkout."""
    # A session that this process has opened left its own settings there.
    others = ("PYTHONPATH", "REELHOUSE_", "SPARK_", "PYSPARK_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    told = {"SPARK_HOME": str(SPARK_HOME), "SPARK_CONF_DIR": str(CHECKOUT / "conf"), "TZ": _ZONE}
    return {**kept, **told, "PYSPARK_PYTHON": sys.executable}


@dataclass
class Cluster:
    """The processes; `folder` holds their logs and the workers' files."""

    network: Network
    folder: Path
    port: int = 0
    page_port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def master(self) -> str:
        """What `--master` is told."""
        return f"spark://{self.network.machines['master'].address}:{self.port}"

    def start(self) -> None:
        """Start master and workers, and wait until the workers have joined."""
        self.port, self.page_port = free_ports(2)
        at = ["--port", str(self.port), "--webui-port", str(self.page_port)]
        self._start("master", "org.apache.spark.deploy.master.Master", at)
        self._wait(lambda: self.state()["status"] == "ALIVE")
        for number in range(WORKERS):
            self.start_worker(number)

    def start_worker(self, number: int) -> None:
        """Start a worker of one core, and wait until it has joined."""
        work, before = str(self.folder / f"work-{number}"), self.alive()
        size = ["--webui-port", "0", "--cores", "1", "--memory", "1g"]
        at = [*size, "--work-dir", work, self.master]
        self._start(f"worker-{number}", "org.apache.spark.deploy.worker.Worker", at)
        self._wait(lambda: self.alive() > before)

    def kill_worker(self, number: int) -> None:
        """SIGKILL to the worker and its executors, as when a machine goes."""
        process = self.processes.pop(f"worker-{number}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_executors(self) -> int:
        """SIGKILL to all executors, as when a cluster takes its machines back; how many there were."""
        groups = {process.pid for process in self.processes.values()}
        killed = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_executor = b"CoarseGrainedExecutorBackend" in (process / "cmdline").read_bytes()
                if is_executor and os.getpgid(int(process.name)) in groups:
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
            except OSError:
                continue  # it has ended
        return killed

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def state(self) -> dict[str, Any]:
        """What the master says of itself."""
        address = self.network.machines["master"].address
        with urlopen(f"http://{address}:{self.page_port}/json/", timeout=10) as answer:
            return dict(json.load(answer))

    def alive(self) -> int:
        """Workers that the master counts on."""
        return sum(worker["state"] == "ALIVE" for worker in self.state()["workers"])

    def _start(self, name: str, class_: str, arguments: Sequence[str]) -> None:
        on = self.network.machines[name]
        told = {**environment(), "SPARK_LOCAL_IP": on.address}
        spark = [str(SPARK_HOME / "bin" / "spark-class"), class_, "--host", on.address]
        command = [*on.prefix, *spark, *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=told, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self, condition: Any) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass  # it does not answer yet
            logs = "".join(f.read_text()[-1000:] for f in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, logs
            time.sleep(0.2)


@dataclass(frozen=True)
class Submitter:
    """Submits the wheel to the cluster, from an empty folder."""

    cluster: Cluster
    wheel: Path
    entry: Path
    folder: Path
    config: Config

    def on(self, root: Path) -> Submitter:
        """The same with a lake of its own, and event logs of its own beside it."""
        return replace(self, folder=root, config=at_root(self.config, root))

    def command(
        self, *arguments: str, jars: bool = True, settings: Mapping[str, str] | None = None
    ) -> list[str]:
        """`spark-submit … reelhouse.py ARGUMENTS`."""
        chosen = {
            "spark.driver.host": self.cluster.network.driver.address,
            "spark.driver.memory": "1g",
            "spark.executor.cores": "1",
            "spark.executor.memory": "640m",
            "spark.executor.memoryOverhead": "256m",
            "spark.sql.shuffle.partitions": "2",
            "spark.ui.enabled": "false",
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": str(self.events),
            "spark.eventLog.compress": "false",
            "spark.eventLog.rolling.enabled": "false",
            **(settings or {}),
        }
        self.events.mkdir(exist_ok=True)
        options = [word for key, value in chosen.items() for word in ("--conf", f"{key}={value}")]
        given = ["--jars", ",".join(map(str, spark_jars()))] if jars else []
        first = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", self.cluster.master, *options, *given]
        return [*first, "--py-files", str(self.wheel), str(self.entry), *arguments]

    @property
    def events(self) -> Path:
        """Where Spark writes the event logs, one an application."""
        return self.folder / "events"

    def start(self, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it in an empty folder."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        lake = {
            "REELHOUSE_STORAGE__ROOT": self.config.storage.root,
            "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS": self.config.kafka.bootstrap_servers,
            "REELHOUSE_STREAM__RULES_MINUTES": "0",
        }
        return subprocess.Popen(
            command,
            cwd=empty,
            env={**environment(), **lake},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], timeout: float = 240) -> tuple[int, str]:
        """Run it to its end: exit code and what it said."""
        log = self.folder / "submit.log"
        with log.open("wb") as output:
            process = self.start(command, output)
        try:
            code = process.wait(timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return code, log.read_text()


def at_root(config: Config, folder: Path) -> Config:
    """The same broker, and a lake in this folder."""
    folder.mkdir(exist_ok=True)
    return config.model_copy(update={"storage": Storage(root=str(folder / "lake"))})


def tasks_by_worker(events: Path) -> Counter[str]:
    """Tasks that ended well, by the address of the worker, from Spark's event logs."""
    ended: Counter[str] = Counter()
    for log in events.iterdir():
        workers = {e["Executor ID"]: _worker(e) for e in events_named(log, "ExecutorAdded")}
        for event in events_named(log, "TaskEnd"):
            if event["Task End Reason"]["Reason"] == "Success":
                ended[workers[event["Task Info"]["Executor ID"]]] += 1
    return ended


def _worker(added: dict[str, Any]) -> str:
    """The address of the worker's page, which has the executor's log: another port, or another machine."""
    return urlsplit(added["Executor Info"]["Log Urls"]["stderr"]).netloc


def events_named(events: Path, name: str) -> list[dict[str, Any]]:
    """The events of this name, from an event log of Spark or from all of a folder."""
    told = f'"Event":"SparkListener{name}"'
    # A log that is being written may end in the middle of a line.
    files = sorted(events.iterdir()) if events.is_dir() else [events]
    lines = [line for file in files for line in file.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines if told in line]
