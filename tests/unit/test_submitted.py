"""Whose settings count under spark-submit, what is said of a worker's lack, and what a user types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from pipelines.errors import ReelhouseError
from pipelines.jars import S3A_COORDINATES, SPARK_COORDINATES, s3a_jars, spark_jars
from pipelines.submitted import lacking_on_workers, laid_over, require_jars

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
        (
            "ClassNotFoundException: Class org.apache.hadoop.fs.s3a.X not found",
            "jars_missing",
            "packages s3a",
        ),
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
    ("words", "expected"),
    [
        ("packages", SPARK_COORDINATES),
        ("packages s3a", SPARK_COORDINATES + S3A_COORDINATES),
        ("paths", spark_jars()),
        ("paths s3a", spark_jars() + s3a_jars()),
    ],
)
def test_the_jars_are_printed_as_spark_submit_takes_them(words: str, expected: Sequence[object]) -> None:
    command = [sys.executable, "-m", "pipelines.jars", *words.split()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == ",".join(map(str, expected)) + "\n"


def test_another_word_is_a_usage_error() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.jars", "nonsense"], capture_output=True, check=False
    )
    assert ran.returncode == 2


@pytest.mark.usefixtures("spark")
def test_a_root_on_s3_needs_its_jars() -> None:
    """This session has those of Spark only, as spark-submit with `packages`."""
    require_jars(on_s3=False)
    with pytest.raises(
        ReelhouseError, match=r"without the jars of Hadoop's S3A; .* packages s3a\)"
    ) as refused:
        require_jars(on_s3=True)
    assert refused.value.code == "jars_missing"
