"""Runs a simulation into a lake, a part at a time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import Config
from pipelines.engine.stream import Streams
from pipelines.produce import produce
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def publish_and_run(spark: SparkSession, config: Config, folder: Path, parts: int) -> None:
    """Publish `events.ndjson` of the folder in so many parts, and run all layers after each."""
    lines = (folder / "events.ndjson").read_text().splitlines(keepends=True)
    ends = [len(lines) * part // parts for part in range(parts + 1)]
    for start, end in pairwise(ends):
        (folder / "part.ndjson").write_text("".join(lines[start:end]))
        produce(config, [folder / "part.ndjson"])
        bronze, silver, _ = Streams(spark, config, LAYERS, print).run(available_now=True)
        assert silver.records == bronze.records, "each record is told once, however often it is read"
