"""Whose settings count under spark-submit, what is said of a worker's lack, and what a user types."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.jars import SPARK_COORDINATES, spark_jars
from pipelines.submitted import lacking_on_workers, laid_over

OURS = {
    "spark.ui.enabled": "false",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.executor.extraJavaOptions": "-Da=1 -Db=2",
}


def test_what_is_given_takes_the_place_of_ours() -> None:
    assert laid_over(OURS, {"spark.ui.enabled": "true", "mine": "x"}) == {
        **OURS,
        "spark.ui.enabled": "true",
        "mine": "x",
    }


def test_lists_that_are_given_are_joined_with_ours_and_win_where_they_name_the_same() -> None:
    given = {
        "spark.sql.extensions": "mine.Extension,io.delta.sql.DeltaSparkSessionExtension",
        "spark.executor.extraJavaOptions": "--add-opens=java.base/x --add-opens=java.base/y -Db=3",
    }
    assert laid_over(OURS, given) == {
        "spark.ui.enabled": "false",
        "spark.sql.extensions": "mine.Extension,io.delta.sql.DeltaSparkSessionExtension",
        "spark.executor.extraJavaOptions": "--add-opens=java.base/x --add-opens=java.base/y -Db=3 -Da=1",
    }


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("Traceback …\nModuleNotFoundError: No module named 'pyarrow'\n", "package_missing", "pyarrow"),
        ("Caused by: java.lang.ClassNotFoundException: io.delta.Some$Thing", "jars_missing", "io.delta.Some"),
        ("java.lang.NoClassDefFoundError: org/apache/kafka/X", "jars_missing", "org/apache/kafka/X"),
        ("cannot assign instance of java.lang.invoke.SerializedLambda to field x", "jars_missing", "jars"),
    ],
)
def test_what_workers_lack_is_said_with_the_fix(text: str, code: str, named: str) -> None:
    error = lacking_on_workers(text)
    assert error is not None
    assert error.code == code
    assert named in str(error)
    assert "--archives" in str(error) or "--packages" in str(error)


def test_another_failure_is_no_lack() -> None:
    assert lacking_on_workers("org.apache.spark.SparkException: Job aborted") is None


@pytest.mark.parametrize(
    ("word", "expected"),
    [("packages", ",".join(SPARK_COORDINATES)), ("paths", ",".join(map(str, spark_jars())))],
)
def test_the_jars_are_printed_as_spark_submit_takes_them(word: str, expected: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.jars", word], capture_output=True, text=True, check=True
    )
    assert ran.stdout == expected + "\n"


def test_another_word_is_a_usage_error() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.jars", "nonsense"], capture_output=True, check=False
    )
    assert ran.returncode == 2
