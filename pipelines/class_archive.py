"""An archive of the classes that Spark loads (Java's class data sharing): Spark starts a third sooner.

`make setup` makes it once, in the cache of the jars. It is an aid only: Java goes on without it when it is
missing or made by another Java.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipelines.errors import exit_code_of
from pipelines.jars import cache_dir, spark_jars
from pipelines.java import require_java

_QUIET = "-Xlog:disable -Xlog:all=error:stderr"
_RECORD = "REELHOUSE_RECORD_CLASSES"
_TIMEOUT_SECONDS = 600


def java_options(java: str) -> str:
    """What the driver's `java` is told: to use the archive, or to record one, or nothing."""
    recorded = os.environ.get(_RECORD)
    if recorded:
        return f"-XX:ArchiveClassesAtExit={recorded} {_QUIET}"
    archive = _path(java)
    return f"-XX:SharedArchiveFile={archive} {_QUIET}" if archive.exists() else ""


def _path(command: str) -> Path:
    """Named after what it depends on: this Java, and these jars in this order."""
    java = Path(command).resolve()
    spark = importlib.util.find_spec("pyspark")
    parts = [java, java.stat().st_mtime_ns, spark and spark.origin, *spark_jars()]
    return cache_dir() / f"classes-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}.jsa"


def make() -> None:
    """Make the archive when it is missing; what goes wrong is told, and does no harm."""
    target = _path(require_java())
    if target.exists():
        return
    print("recording Spark's classes, once", file=sys.stderr, flush=True)
    partial = target.with_suffix(f".{os.getpid()}")
    environment = {**os.environ, _RECORD: str(partial)}
    command = [sys.executable, "-m", "pipelines.class_archive", "record"]
    try:
        subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
        partial.rename(target)
    except (OSError, subprocess.SubprocessError) as error:
        partial.unlink(missing_ok=True)
        print(
            f"reelhouse: Spark's classes could not be recorded ({error}); it starts without", file=sys.stderr
        )


def _record() -> None:
    """Load what a run loads: a few events through silver and gold."""
    from pipelines.bronze import events
    from pipelines.config import Config
    from pipelines.engine.lake import Lake
    from pipelines.engine.stream import Streams
    from pipelines.session import open_session

    with tempfile.TemporaryDirectory(prefix="reelhouse-classes-") as folder:
        config = Config.model_validate({"storage": {"root": folder}})
        spark = open_session(config, "record classes")
        lake, now = Lake.of(spark, config), datetime.now(timezone.utc)
        topics = config.kafka.topics
        values = {
            topics.user_actions: f'{{"userId":"u","action":"play","mediaId":"m","timestamp":"{now:%FT%TZ}"}}',
            topics.system_events: "broken",
        }
        rows = [(None, v.encode(), topic, 0, 0, now, None, now) for topic, v in values.items()]
        lake.create([events.TABLE])
        lake.append(events.TABLE, lake.frame(events.TABLE, rows))
        Streams(spark, config, ("silver", "gold"), lambda _: None).run(available_now=True)
        gateway: Any = spark.sparkContext._gateway
        spark.stop()
        # Java writes the archive when it ends, and it ends when nobody speaks to it any more.
        gateway.proc.stdin.close()
        gateway.proc.wait(_TIMEOUT_SECONDS)


def main() -> int:
    """Make the archive; 0 also when it could not be made."""
    return exit_code_of(_record if sys.argv[1:] == ["record"] else make)


if __name__ == "__main__":
    raise SystemExit(main())
