"""The files of the embedded broker: its settings, data, log, and the record of its process."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.text import shortened

_LOG_BYTES = 10 * 1024 * 1024
_TAIL_BYTES = 65_536
_LINE_CHARACTERS = 200
_PROPERTIES = """\
# Written by `reelhouse broker start` at every start: changes here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
# Development: keep everything, however old its timestamps are, in few segments.
log.retention.ms=-1
log.retention.bytes=-1
log.roll.hours=87600
message.max.bytes=10485760
replica.fetch.max.bytes=10485760
# One node, little memory.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill, the node waits for its former self's session to end before it takes part again.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(frozen=True)
class Record:
    """The broker's process as `start` recorded it; `pid` 0 when it was stopped."""

    pid: int
    port: int
    controller_port: int


@dataclass(frozen=True)
class BrokerFiles:
    """The paths under broker.dir, absolute."""

    folder: Path

    @classmethod
    def of(cls, config: Config) -> BrokerFiles:
        """The files under the configured folder."""
        return cls(Path(config.broker.dir).resolve())

    @property
    def properties(self) -> Path:
        """Settings; its path on a process's command line tells that the process is this broker."""
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        """Topics' data."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Output of the broker."""
        return self.folder / "broker.log"

    @property
    def _record_file(self) -> Path:
        return self.folder / "broker.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against another `start`. Raises ReelhouseError when it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            message = f"{self.folder} cannot be written ({error.strerror}); allow it, or set broker.dir"
            raise ReelhouseError(message, code="broker_dir_unwritable") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def record(self) -> Record | None:
        """The record of the last start, None when there is none or it was cut short by a crash."""
        try:
            return Record(**json.loads(self._record_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_record(self, record: Record) -> None:
        """Replace the record atomically."""
        partial = self._record_file.with_suffix(".tmp")
        partial.write_text(json.dumps(asdict(record)))
        partial.replace(self._record_file)

    def forget_process(self) -> None:
        """Keep the ports, which a broker.port of 0 goes on using, but no process."""
        record = self.record()
        if record is not None:
            self.write_record(Record(0, record.port, record.controller_port))

    def remembered_port(self, name: str) -> int | None:
        """`port` or `controller_port` of the last start."""
        record = self.record()
        return None if record is None else int(getattr(record, name))

    def write_properties(self, port: int, controller_port: int) -> None:
        """Write server.properties. Raises ReelhouseError (`broker_dir`) for a path that Kafka splits."""
        if "," in str(self.data):
            message = f"Kafka takes {self.data} for several folders, by its comma; set broker.dir to another"
            raise ReelhouseError(message, code="broker_dir")
        # A properties file is Latin-1, in which Java reads what JSON escapes.
        data = json.dumps(str(self.data))[1:-1]
        text = _PROPERTIES.format(port=port, controller_port=controller_port, data=data)
        self.properties.write_text(text, encoding="ascii")

    def formatted(self) -> bool:
        """Whether the data folder belongs to a cluster already."""
        return (self.data / "meta.properties").is_file()

    def open_log(self) -> int:
        """A file descriptor that appends to the log; a log over 10 MB is set aside as broker.log.1."""
        if self.log.is_file() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def last_problem(self) -> str:
        """The last line of the log that reports an error, shortened; empty when there is none."""
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
            telling = [line for line in lines if "ERROR" in line or "Exception" in line or "Error:" in line]
            return shortened(telling[-1].strip(), _LINE_CHARACTERS) if telling else ""
        return ""


def new_cluster_id() -> str:
    """22 characters of URL-safe base64, as Kafka asks; none that a command line would take for an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
