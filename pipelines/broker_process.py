"""The embedded broker's process: format its storage, spawn it, recognise it, end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from pipelines.broker_files import BrokerFiles, new_cluster_id
from pipelines.errors import ReelhouseError

_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_DATED = "-Dorg.slf4j.simpleLogger.showDateTime=true"


def format_storage(java: str, jars: str, files: BrokerFiles) -> None:
    """Give the data folder a cluster id. Raises ReelhouseError (`broker_failed`)."""
    command = [java, _QUIET, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    command += ["--ignore-formatted", "-t", new_cluster_id(), "-c", str(files.properties)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        lines = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {ran.returncode}"
        message = f"the storage {files.data} cannot be prepared ({reason}); free it, or set broker.dir"
        raise ReelhouseError(message, code="broker_failed")


def spawn(java: str, jars: str, heap: str, files: BrokerFiles) -> subprocess.Popen[bytes]:
    """Start Kafka in a session of its own, so that it outlives this process and its terminal."""
    command = [java, f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError", _QUIET, _DATED]
    command += ["-cp", f"{jars}/*", "kafka.Kafka", str(files.properties)]
    log = files.open_log()
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    finally:
        os.close(log)


def is_ours(pid: int, files: BrokerFiles) -> bool:
    """Whether `pid` is alive and is this folder's broker: a recorded pid may be another program's by now."""
    line = _command_line(pid) if pid > 0 else ""
    return line.endswith(f" kafka.Kafka {files.properties}")


def _command_line(pid: int) -> str:
    """A process's command line; empty when it is dead, or dead and not yet reaped."""
    if Path("/proc/self").exists():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
        return words.rstrip("\0").replace("\0", " ")
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.rstrip()


def terminate(pid: int, files: BrokerFiles, seconds: float) -> None:
    """SIGTERM, and SIGKILL when the broker is still there after `seconds`."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_ours(pid, files):
                return
            time.sleep(0.05)
    message = f"the broker (process {pid}) does not end; end it with `kill -9 {pid}`"
    raise ReelhouseError(message, code="broker_failed")
