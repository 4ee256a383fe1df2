"""What a batch of gold reads."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.config import Config
from pipelines.engine.batch import pins
from pipelines.engine.gold_step import GoldStep
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams
from pipelines.silver import user_actions
from pipelines.tables import SILVER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.stream


def test_gold_reads_silver_as_far_as_its_batch_has_come(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what has come since: that is for batches to come, and would be in gold before its time."""
    pinned: list[int] = []
    take = GoldStep.__call__

    def noted(step: GoldStep, batch: DataFrame, batch_id: int, lake: Lake) -> None:
        take(step, batch, batch_id, lake)
        held = pins(lake, "gold")
        assert held is not None
        pinned.append(held.versions[user_actions.TABLE.full_name])

    monkeypatch.setattr(GoldStep, "__call__", noted)
    config = Config.model_validate(
        {"storage": {"root": str(tmp_path)}, "stream": {"max_records_per_batch": 1, "rules_minutes": 0}}
    )
    lake = Lake.of(spark, config)
    lake.create(SILVER)
    for number in range(2):
        at = datetime(2026, 1, 5, 12, number)
        told = {"event_id": f"e{number}", "user_id": "u", "action": "play", "media_id": "m"}
        told |= {"occurred_at": at, "event_date": at.date(), "record_timestamp": at, "ingested_at": at}
        row = tuple(told.get(name) for name in user_actions.TABLE.column_names)
        lake.append(user_actions.TABLE, spark.createDataFrame([row], user_actions.TABLE.schema()))
    (done,) = Streams(spark, config, ("gold",), print).run(available_now=True)
    assert (done.records, done.batches) == (2, 2)
    assert pinned == [1, 2]
