"""The Spark session that all tests of this process share, and the Java of those that they start."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pipelines.config import Config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_JAVA_OPTIONS = "JDK_JAVA_OPTIONS"
_GIVEN = os.environ.get(_JAVA_OPTIONS, "")


@pytest.fixture(scope="session", autouse=True)
def quick_java() -> Iterator[None]:
    """Java in the processes that tests start lives for seconds: compiling for long runs is a third of it."""
    # It would take a fifth of the usual room for what is compiled: full of Spark and S3A, a write fails.
    quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_JAVA_OPTIONS, f"{_GIVEN} {quick}")
        yield


@pytest.fixture(scope="module", autouse=True)
def frames_given_back() -> Iterator[None]:
    """Java keeps what frames have made until Python collects them: its heap would fill in a session."""
    yield
    gc.collect()


@pytest.fixture
def quiet_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count lines: Java tells on one of its own that it was given options."""
    monkeypatch.delenv(_JAVA_OPTIONS)


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    from pipelines.session import open_session

    with pytest.MonkeyPatch.context() as patch:
        # With the streams' tests it lives for half an hour, in which compiling well pays; else for minutes.
        if any(item.get_closest_marker("stream") for item in request.session.items):
            patch.setenv(_JAVA_OPTIONS, _GIVEN)
        session = open_session(Config(), "tests")
    yield session
    session.stop()
