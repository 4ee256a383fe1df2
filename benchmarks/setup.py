"""A broker, a configuration and events for the benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pipelines import broker
from pipelines.config import Config

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
_ACTIONS = ("play", "pause", "resume", "seek", "complete", "play", "skip")


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Config]:
    """A broker of its own on free ports, and a lake beside it."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        ports = a.getsockname()[1], b.getsockname()[1]
    config = Config.model_validate(
        {
            "storage": {"root": str(folder / "lake")},
            "broker": {"dir": str(folder / "broker"), "port": ports[0], "controller_port": ports[1]},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{ports[0]}"},
        }
    )
    broker.start(config)
    try:
        yield config
    finally:
        broker.stop(config)


def with_root(config: Config, root: Path) -> Config:
    """The same with another lake."""
    return config.model_copy(update={"storage": config.storage.model_copy(update={"root": str(root)})})


def environment(config: Config) -> dict[str, str]:
    """The configuration for a process of its own."""
    return {
        **os.environ,
        "REELHOUSE_STORAGE__ROOT": config.storage.root,
        "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS": config.kafka.bootstrap_servers,
    }


def write_actions(file: Path, count: int, users: int = 50_000) -> None:
    """User actions of version 2, about 224 bytes each, over one day."""
    step = timedelta(days=1) / max(count, 86_400)
    with file.open("w") as out:
        for number in range(count):
            at = (START + number * step).replace(tzinfo=None).isoformat(timespec="milliseconds")
            event = {
                "schemaVersion": 2,
                "eventId": f"event-{number:012}",
                "userId": f"user-{number * 7919 % users:06}",
                "action": _ACTIONS[number % len(_ACTIONS)],
                "timestamp": at + "Z",
                "mediaId": f"media-{number * 31 % 2000:05}",
                "sessionId": f"session-{number % users:06}",
                "positionSeconds": number % 300,
                "region": "eu-west",
            }
            out.write(json.dumps(event, separators=(",", ":")) + "\n")


def process_tree(pid: int) -> Iterator[Path]:
    """Folders under `/proc` of a process and its children; one that ends meanwhile may be among them."""
    waiting = [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        yield process
        # Java starts Python's workers from any of its threads.
        with contextlib.suppress(OSError):
            for children in process.glob("task/*/children"):
                waiting += map(int, children.read_text().split())
