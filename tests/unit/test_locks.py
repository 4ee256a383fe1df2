"""Who holds a layer, seen from outside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.engine.lake import Lake
from pipelines.engine.locks import holder, is_held, only_writer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_on_a_disk_a_lock_is_held_until_its_writer_ends_and_tells_who_was_the_last(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake(spark, str(tmp_path))
    assert (holder(lake, "silver"), is_held(lake, "silver")) == (None, False)
    with only_writer(lake, ["silver"]):
        assert is_held(lake, "silver")
        assert not is_held(lake, "gold")
    assert not is_held(lake, "silver")
    assert (holder(lake, "silver") or "").startswith(f"process {os.getpid()} on ")


def test_in_object_storage_there_is_a_lease_while_it_is_held(spark: SparkSession) -> None:
    class Stored(Lake):
        def read_text(self, path: str) -> str | None:
            lease = json.dumps({"holder": "process 7 on a", "id": "x", "renewal": "y"})
            return lease if path == "s3a://bucket/lake/_locks/silver.lease" else None

    lake = Stored(spark, "s3a://bucket/lake")
    assert (holder(lake, "silver"), is_held(lake, "silver")) == ("process 7 on a", True)
    assert (holder(lake, "gold"), is_held(lake, "gold")) == (None, False)
