"""From an event's produce time to its commit in gold.media_daily, at 1,000 events/s, and memory meanwhile.

Each second's plays are of a media of their own; the first version of the table that holds it tells when it
was visible, so nothing disturbs the run while it is measured.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.setup import environment, process_tree, running_broker
from pipelines import broker
from pipelines.config import Config
from pipelines.kafka_clients import producer
from pipelines.tables import LAYERS

RATE = 1000
_WARM_UP_SECONDS = 90
_PACES = 20
_WINDOW_SECONDS = 300


def measure(folder: Path) -> None:
    """Print the median and 95th percentile (seconds) of every five minutes, and resident memory (MB)."""
    seconds = int(os.environ.get("REELHOUSE_BENCH_SECONDS", "180"))
    with running_broker(folder) as config, (folder / "run.log").open("wb") as log:
        command = [sys.executable, "-m", "pipelines.cli.main", "run"]
        run = subprocess.Popen(
            command, env=environment(config), stdout=log, stderr=log, start_new_session=True
        )
        try:
            memory = _publish(config, seconds + _WARM_UP_SECONDS, run.pid)
            time.sleep(30)
            run.send_signal(signal.SIGTERM)
            run.wait(timeout=120)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
        waits = list(_visible_after(config))
        for start in range(0, len(waits), _WINDOW_SECONDS):
            part = sorted(waits[start : start + _WINDOW_SECONDS])
            print(f"from second {start + _WARM_UP_SECONDS}, {len(part)} marks: ", end="")
            print(f"median {statistics.median(part):.1f} s, p95 {part[int(0.95 * len(part))]:.1f} s")
        print("run and broker, MB every minute:", *(f"{size:,.0f}" for size in memory[::6]))
        told = (folder / "run.log").read_text()
        for layer in LAYERS:
            print(f"{layer}, seconds of each round:", *re.findall(rf"^{layer}: .* in (\S+) s", told, re.M))


def _publish(config: Config, seconds: int, pid: int) -> list[float]:
    sender, began, number, memory = producer(config, linger_ms=5), time.time(), 0, []
    broker_pid = broker.status(config).pid or 0
    for tick in range(seconds * _PACES):
        time.sleep(max(0.0, began + tick / _PACES - time.time()))
        for _ in range(RATE // _PACES):
            sender.send(config.kafka.topics.user_actions, _event(number), key=b"%d" % (number % 997))
            number += 1
        if tick % (10 * _PACES) == 0 and tick >= _WARM_UP_SECONDS * _PACES:
            memory.append(_resident(pid) + _resident(broker_pid))
    sender.close()
    return memory


def _event(number: int) -> bytes:
    now = datetime.now(timezone.utc)
    event = {
        "schemaVersion": 2,
        "eventId": f"e{number}",
        "userId": f"user-{number * 7919 % 20_000}",
        "action": ("play", "pause", "play", "skip")[number % 4],
        "timestamp": now.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        # The second of its production, and few enough media to be like a catalogue.
        "mediaId": f"{int(now.timestamp())}" if number % 50 == 0 else f"media-{number % 2000}",
        "positionSeconds": 1.5,
        "region": "eu",
    }
    return json.dumps(event).encode()


def _resident(pid: int) -> float:
    """Memory (MB) of a process and its children, what they share counted once."""
    total = 0.0
    for process in process_tree(pid):
        try:
            parts = (process / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) / 1024 for line in parts if line.startswith("Pss:"))
    return total


def _visible_after(config: Config) -> Iterator[float]:
    """Seconds from the middle of each marked second to the commit that shows it, the warm-up left out."""
    log = Path(config.storage.root) / "gold" / "media_daily" / "_delta_log"
    seen: dict[int, float] = {}
    from pipelines.engine.lake import Lake
    from pipelines.gold import media_daily
    from pipelines.session import open_session

    lake = Lake.of(open_session(config, "freshness"), config)
    for file in sorted(log.glob("*.json")):
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        info = next(a["commitInfo"] for a in actions if "commitInfo" in a)
        if info["operation"] != "WRITE":
            continue
        rows = (
            lake.read(media_daily.TABLE, int(file.stem)).where("media_id RLIKE '^[0-9]+$'").select("media_id")
        )
        for row in rows.distinct().collect():
            seen.setdefault(int(row[0]), info["timestamp"] / 1000)
    first = min(seen)
    for second, visible in sorted(seen.items()):
        if second >= first + _WARM_UP_SECONDS:
            yield visible - (second + 0.5)
