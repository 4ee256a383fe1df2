"""`python -m benchmarks [NAME…]`: startup, throughput, encodings, ledger, freshness,
growth, check; prints what it measured.

Sizes: REELHOUSE_BENCH_EVENTS (throughput, default 3,000,000; encodings, default 300,000;
ledger, default 1,000,000), REELHOUSE_BENCH_SECONDS (freshness, default 180),
REELHOUSE_BENCH_DAYS (growth, default 30).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import check, encodings, freshness, growth, ledger, startup, throughput

ALL = {
    "startup": startup.measure,
    "throughput": throughput.measure,
    "encodings": encodings.measure,
    "ledger": ledger.measure,
    "freshness": freshness.measure,
    "growth": growth.measure,
    "check": check.measure,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; 2 for an unknown name."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names or ALL:
        with tempfile.TemporaryDirectory(prefix="reelhouse-bench-") as folder:
            print(f"== {name}", flush=True)
            ALL[name](Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
