"""One Spark session for all tests of this process, as the streams open it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pipelines.config import Config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    from pipelines.session import open_session

    session = open_session(Config(), "tests")
    yield session
    session.stop()
