"""How long `--help` and a first answer of `sql` take, each a process of its own (median of 5 and 3)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.setup import environment
from pipelines.config import Config


def measure(folder: Path) -> None:
    """Print both."""
    config = Config.model_validate({"storage": {"root": str(folder / "lake")}})
    for words, runs in ((["--help"], 5), (["sql", "SELECT 1"], 3)):
        times = []
        for _ in range(runs):
            began = time.monotonic()
            command = [sys.executable, "-m", "pipelines.cli.main", *words]
            subprocess.run(command, env=environment(config), check=True, capture_output=True)
            times.append(time.monotonic() - began)
        print(f"reelhouse {' '.join(words)}: median {statistics.median(times):.2f} s")
