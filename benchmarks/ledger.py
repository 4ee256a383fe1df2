"""What `ops.ledger` costs: the processor time of its commits, as a share of silver's, warm, in the same run.

Processor time, because a clock shows more noise here than a commit takes.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.setup import process_tree, running_broker, with_root, write_actions
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.produce import produce
from pipelines.session import open_session
from pipelines.silver import ledger

_WARM_UPS, _ROUNDS, _COMMITS = 2, 5, 20
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(folder: Path) -> None:
    """Print both (processor seconds) and their ratio."""
    count = int(os.environ.get("REELHOUSE_BENCH_EVENTS", "1000000"))
    with running_broker(folder) as config:
        write_actions(folder / "events.ndjson", count)
        produce(config, [folder / "events.ndjson"])
        Streams(open_session(config, "ledger"), config, ["bronze"], lambda _: None).run(available_now=True)
        rounds = [_silver_and_ledger(config, folder / f"lake-{n}") for n in range(_WARM_UPS + _ROUNDS)]
    silver, commits = (statistics.median(found) for found in zip(*rounds[_WARM_UPS:], strict=True))
    print(f"silver of {count:,} records: {silver:.1f} processor seconds; the ledger's commits: {commits:.2f}")
    print(f"ratio {commits / silver:.1%}")


def _silver_and_ledger(config: Config, root: Path) -> tuple[float, float]:
    """Of all records through silver in a lake of its own, and of as many commits as its ledger got."""
    (root / "bronze").mkdir(parents=True)
    (root / "bronze" / "events").symlink_to(f"{config.storage.root}/bronze/events")
    spark = open_session(config, "ledger")
    streams = Streams(spark, with_root(config, root), ["silver"], lambda _: None)
    silver = _processor_seconds(lambda: streams.run(available_now=True))
    lake = Lake(spark, str(root))
    entries = [ledger.Entry(*row) for row in lake.read(ledger.TABLE).collect()]
    batches = len({entry.batch for entry in entries})
    first = [entry for entry in entries if entry.batch == 0]

    def commits() -> None:
        for _ in range(_COMMITS):
            lake.append(ledger.TABLE, lake.frame(ledger.TABLE, first))

    return silver, _processor_seconds(commits) / _COMMITS * batches


def _processor_seconds(step: Callable[[], Any]) -> float:
    """Of this process, Java's and the workers', while the step runs."""
    before = _ticks()
    step()
    return (_ticks() - before) / _TICKS


def _ticks() -> int:
    ticks = 0
    for process in process_tree(os.getpid()):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks
