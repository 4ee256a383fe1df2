"""The Spark session that all tests of this process share, and how Java runs in it and in what they start."""

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


@pytest.fixture(scope="session", autouse=True)
def quick_java() -> Iterator[None]:
    """Java of tests lives for seconds, or has ever other plans: compiling for long runs is a third of it."""
    # It would take a fifth of the usual room for what is compiled: full of Spark and S3A, a write fails.
    quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_JAVA_OPTIONS, f"{os.environ.get(_JAVA_OPTIONS, '')} {quick}")
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
def spark(quick_java: None) -> Iterator[SparkSession]:
    from pipelines.session import open_session

    session = open_session(Config(), "tests")
    yield session
    session.stop()
