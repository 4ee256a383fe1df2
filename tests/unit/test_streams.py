"""What the streams do between batches, and say of what went wrong."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.cli.output import plain
from pipelines.config import Config
from pipelines.engine.batch import as_declared
from pipelines.engine.lake import Lake
from pipelines.engine.stream import Streams, _Every
from pipelines.engine.stream_errors import explained
from pipelines.errors import ReelhouseError
from pipelines.silver import user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_what_takes_long_is_done_less_often() -> None:
    done: list[str] = []

    def slow() -> None:
        time.sleep(0.05)
        done.append("slow")

    every = _Every(0)
    every.do(slow)
    every.do(slow)
    assert done == ["slow"]
    time.sleep(0.5)
    every.do(slow)
    assert done == ["slow", "slow"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (
            "kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [m]",
            "kafka_denied",
        ),
        ("kafka.common.errors.SaslAuthenticationException: Authentication failed", "kafka_denied"),
        (
            "kafka.common.errors.TimeoutException: Timed out waiting for a node assignment",
            "broker_unreachable",
        ),
    ],
)
def test_a_broker_that_denies_is_not_waited_for(told: str, code: str) -> None:
    failure = explained("bronze", RuntimeError(f"org.apache.{told}"), "/lake", Config())
    assert failure.code == code
    assert "\n" not in str(failure)


def test_what_failed_in_java_is_named_rather_than_that_python_called_it() -> None:
    told = (
        "Traceback (most recent call last):\n  File ...\n"
        "py4j.protocol.Py4JJavaError: An error occurred while calling o3393.save.\n"
        ": java.lang.VirtualMachineError: Out of space in CodeCache for adapters\n\tat java.base/…\n"
    )
    failure = explained("silver", RuntimeError(told), "/lake", Config())
    assert str(failure) == (
        "the silver stream failed: java.lang.VirtualMachineError: Out of space in CodeCache for adapters"
    )


def test_layers_whose_source_is_not_there_yet_say_so(spark: SparkSession, tmp_path: Path) -> None:
    config = Config.model_validate({"storage": {"root": str(tmp_path)}})
    with pytest.raises(ReelhouseError, match=r"no bronze\.events .* start `reelhouse run`") as refused:
        Streams(spark, config, ("silver", "gold"), print).run(available_now=True)
    assert refused.value.code == "table_missing"


def test_every_value_that_sql_gives_has_a_text() -> None:
    assert plain(timedelta(minutes=10)) == "0:10:00"
    assert plain({"a": [Decimal("1.50"), None, True]}) == {"a": ["1.50", None, True]}


def test_a_small_file_is_never_seen_half_or_gone_while_it_is_replaced(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake(spark, str(tmp_path))
    path, ended = f"{lake.root}/pins.json", threading.Event()
    lake.write_text(path, "whole")

    def replace() -> int:
        times = 0
        while not ended.is_set():
            lake.write_text(path, "whole")
            times += 1
        return times

    with ThreadPoolExecutor(1) as pool:
        replaced = pool.submit(replace)
        try:
            seen = {lake.read_text(path) for _ in range(1500)}
        finally:
            ended.set()
    assert replaced.result() > 100
    assert seen == {"whole"}


def test_a_table_of_a_later_release_is_read_by_the_columns_of_this_one(spark: SparkSession) -> None:
    table = user_actions.TABLE
    rows = spark.createDataFrame([("u", 1, "e")], "user_id string, later int, event_id string")
    read = as_declared(rows, table)
    assert read.schema.simpleString() == table.schema().simpleString()
    assert read.select("event_id", "user_id", "region").collect() == [("e", "u", None)]
