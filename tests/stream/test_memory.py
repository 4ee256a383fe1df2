"""Java's memory: many large records fit in it, and where it did not do, a sentence says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from pipelines.bronze import events
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.silver import quarantine
from pipelines.tables import OF_LAYER

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_RECORDS = 700
_FILES = 2
"""As many as cores: each reads one at a time."""
_BYTES = 1_000_000
_HEAP = "1g"
"""Half of what `run` has by itself."""
_ENDED = """
import sys
from pipelines.cli.main import main
from pipelines.config import Config
from pipelines.session import open_session
open_session(Config(), "ended").sparkContext._gateway.proc.kill()
sys.exit(main(["sql", "SELECT 1"]))
"""
_RECORD = {
    "value": f"CAST(repeat('x', {_BYTES}) AS BINARY)",
    "topic": "'media.user-actions'",
    "partition": "0",
    "offset": "id",
    "timestamp": "TIMESTAMP'2026-01-05 11:00:00'",
    "ingested_at": "TIMESTAMP'2026-01-05 11:00:01'",
}


def test_many_large_records_go_to_quarantine(spark: SparkSession, tmp_path: Path) -> None:
    config = Config.model_validate({"storage": {"root": str(tmp_path / "lake")}})
    lake = Lake.of(spark, config)
    lake.create(OF_LAYER["bronze"])
    columns = {c.name: _RECORD.get(c.name, f"CAST(NULL AS {c.type})") for c in events.TABLE.columns}
    rows = spark.range(0, _RECORDS, 1, _FILES).select(*(F.expr(text).alias(n) for n, text in columns.items()))
    lake.append(events.TABLE, rows)
    # In a process of its own, which a heap that is full would end.
    command = [sys.executable, "-m", "pipelines.cli.main", "run", "--layers", "silver", "--available-now"]
    settings = {"REELHOUSE_STORAGE__ROOT": config.storage.root, "REELHOUSE_SPARK__DRIVER_MEMORY": _HEAP}
    ran = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    held = lake.read(quarantine.TABLE).where(F.length("value") == _BYTES)
    assert held.select("offset").distinct().count() == held.count() == _RECORDS


def test_java_that_has_ended_is_told_in_a_sentence() -> None:
    ran = subprocess.run([sys.executable, "-c", _ENDED], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert "spark.driver_memory" in ran.stderr.splitlines()[-1]
