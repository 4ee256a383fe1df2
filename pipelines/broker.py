"""The embedded broker for development: the real Apache Kafka, one KRaft node, on 127.0.0.1 only."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from pipelines import broker_process
from pipelines.broker_files import BrokerFiles, Record
from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.jars import kafka_jars
from pipelines.java import require_java
from pipelines.topics import create_topics, end_offsets, partition_counts

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class BrokerStatus:
    """What the embedded broker is doing; `pid` and `port` are None when it does not run."""

    running: bool
    pid: int | None = None
    port: int | None = None
    topics: dict[str, dict[int, int]] = field(default_factory=dict)
    """End offset (the next record's) by topic and partition."""
    already_ran: bool = False
    """`start` found it running."""


def start(config: Config) -> BrokerStatus:
    """Start the broker, wait until it answers, and create the configured topics that are missing.

    It runs on after this process ends. A second start changes nothing but missing topics. After a crash of
    the broker, start goes on with its data. Raises ReelhouseError (`port_busy`, `broker_failed`,
    `java_missing`, `jars_unresolved`).
    """
    java, jars = require_java(), kafka_jars()[0].parent
    files = BrokerFiles.of(config)
    with files.locked():
        record = files.record()
        already_ran = record is not None and broker_process.is_ours(record.pid, files)
        if record is None or not already_ran:
            record = _launch(config, files, java, str(jars))
        create_topics(with_address(config, record.port))
    return BrokerStatus(True, record.pid, record.port, already_ran=already_ran)


def _launch(config: Config, files: BrokerFiles, java: str, jars: str) -> Record:
    port = _choose_port("broker.port", config.broker.port, files.remembered_port("port"))
    remembered = files.remembered_port("controller_port")
    controller_port = _choose_port("broker.controller_port", config.broker.controller_port, remembered, port)
    files.write_properties(port, controller_port)
    if not files.formatted():
        broker_process.format_storage(java, jars, files)
    process = broker_process.spawn(java, jars, config.broker.heap, files)
    # Recorded before it answers, so that a start that is interrupted here can still be stopped.
    record = Record(process.pid, port, controller_port)
    files.write_record(record)
    deadline = time.monotonic() + START_SECONDS
    while not _accepts_connections(port):
        if process.poll() is not None:
            raise _failed(files, "the broker stopped while starting")
        if time.monotonic() > deadline:
            stop(config)
            raise _failed(files, f"the broker did not answer within {START_SECONDS:.0f} s")
        time.sleep(0.1)
    return record


def _failed(files: BrokerFiles, what: str) -> ReelhouseError:
    reason = files.last_problem()
    said = f" ({reason})" if reason else ""
    return ReelhouseError(f"{what}{said}; its log is {files.log}", code="broker_failed")


def _choose_port(key: str, configured: int, remembered: int | None, taken: int | None = None) -> int:
    """The configured port, or for 0 the one remembered from an earlier start, or a free one."""
    if configured:
        _require_free(key, configured)
        return configured
    if remembered and remembered != taken and _is_free(remembered):
        return remembered
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(key: str, port: int) -> None:
    if not _is_free(port):
        variable = "REELHOUSE_" + key.replace(".", "__").upper()
        also = " together with kafka.bootstrap_servers" if key == "broker.port" else ""
        message = (
            f"port {port} ({key}) is in use by another program; stop that program, or choose another port "
            f"with {key} or {variable}{also}"
        )
        raise ReelhouseError(message, code="port_busy")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the broker's own socket does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(config: Config) -> bool:
    """Stop the broker: SIGTERM, and SIGKILL after 20 s. False when it did not run; harmless then."""
    files = BrokerFiles.of(config)
    record = files.record()
    if record is None or not broker_process.is_ours(record.pid, files):
        files.forget_process()
        return False
    broker_process.terminate(record.pid, files, STOP_SECONDS)
    files.forget_process()
    return True


def status(config: Config) -> BrokerStatus:
    """Whether the embedded broker runs, where, and what it holds.

    Raises ReelhouseError (`broker_unreachable`) when its process runs but does not answer.
    """
    files = BrokerFiles.of(config)
    record = files.record()
    if record is None or not broker_process.is_ours(record.pid, files):
        return BrokerStatus(False)
    own = with_address(config, record.port)
    return BrokerStatus(True, record.pid, record.port, end_offsets(own, partition_counts(own)))


def with_embedded_broker(config: Config) -> Config:
    """The configuration with kafka.bootstrap_servers set to the embedded broker, when one is recorded.

    For a broker.port of 0, where only the broker's folder knows the port.
    """
    port = BrokerFiles.of(config).remembered_port("port")
    return with_address(config, port) if port else config


def with_address(config: Config, port: int) -> Config:
    """The configuration with 127.0.0.1:`port` as its broker, without security options."""
    changed = {"bootstrap_servers": f"127.0.0.1:{port}", "options": {}}
    return config.model_copy(update={"kafka": config.kafka.model_copy(update=changed)})
