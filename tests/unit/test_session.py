"""What the session's Java is told."""

from __future__ import annotations

import sys

import pytest

from pipelines.config import Config
from pipelines.session import spark_settings


@pytest.mark.parametrize(("platform", "is_told"), [("linux", True), ("darwin", False)])
def test_only_java_on_linux_is_told_how_to_start_processes(
    platform: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    options = spark_settings(Config(), with_catalog=False)["spark.driver.extraJavaOptions"]
    assert ("launchMechanism" in options) == is_told
