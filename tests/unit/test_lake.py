"""Where a lake's tables are, whatever its folder is called, and what SQL knows of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.engine.locks import only_writer
from pipelines.engine.names import register
from pipelines.errors import ReelhouseError
from pipelines.gold import media_daily

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TABLE = media_daily.TABLE
# As a release made it that did not have the last column yet.
FORMER = dataclasses.replace(TABLE, columns=TABLE.columns[:-1])


@pytest.fixture(autouse=True)
def names(spark: SparkSession) -> Iterator[None]:
    yield
    spark.sql("DROP DATABASE IF EXISTS gold CASCADE")


@pytest.mark.parametrize("folder", ["it's", "back\\slash", "tick`s", '100%25 #1?"*'])
def test_a_folder_may_have_any_letters(spark: SparkSession, tmp_path: Path, folder: str) -> None:
    lake = Lake(spark, str(tmp_path / folder))
    lake.create([FORMER])
    lake.create([TABLE])
    register(lake, Config(), [TABLE])
    assert spark.sql("SELECT * FROM gold.media_daily").columns == list(TABLE.column_names)
    lake.compact(TABLE)
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert Path(tmp_path, folder, "gold", "media_daily", "_delta_log").is_dir()


def test_the_whole_table_is_replaced_whatever_a_cluster_sets(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake(spark, str(tmp_path / "lake"))
    lake.create([TABLE])
    rows = {day: lake.frame(TABLE, [("m", date(2026, 1, day), *[0] * 7)]) for day in (1, 2)}
    spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
    try:
        for day in rows:
            lake.overwrite(TABLE, rows[day])
    finally:
        spark.conf.unset("spark.sql.sources.partitionOverwriteMode")
    assert [row.event_date.day for row in lake.read(TABLE).collect()] == [2]


def test_a_root_that_cannot_be_written_says_why(spark: SparkSession) -> None:
    """Hadoop's reason is the last of its causes: here S3A is not on the class path."""
    with pytest.raises(ReelhouseError, match=r"cannot be written \(.*S3AFileSystem not found\)") as refused:
        Lake(spark, "s3a://bucket/lake").create([TABLE])
    assert refused.value.code == "storage_unwritable"


def test_a_folder_that_hadoop_takes_for_one_of_a_cluster_has_no_writer(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Its lock would be on this machine, its tables on all."""
    lake = Lake(spark, str(tmp_path / "lake"))
    spark.conf.set("fs.defaultFS", "hdfs://localhost:1")
    try:
        with (
            pytest.raises(ReelhouseError, match="takes for one of hdfs://localhost:1") as refused,
            only_writer(lake, ["gold"]),
        ):
            pass
    finally:
        spark.conf.unset("fs.defaultFS")
    assert refused.value.code == "storage_not_local"
    with only_writer(lake, ["gold"]):
        assert (tmp_path / "lake" / "_locks" / "gold.lock").exists()
