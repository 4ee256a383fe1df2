"""What the session's Java is told."""

from __future__ import annotations

import sys

import pytest

from pipelines.config import Config
from pipelines.errors import UsageError
from pipelines.session import spark_settings


@pytest.mark.parametrize(("platform", "is_told"), [("linux", True), ("darwin", False)])
def test_only_java_on_linux_is_told_how_to_start_processes(
    platform: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    options = spark_settings(Config(), with_catalog=False)["spark.driver.extraJavaOptions"]
    assert ("launchMechanism" in options) == is_told


def test_what_results_depend_on_is_not_set_otherwise() -> None:
    zone = "spark.sql.session.timeZone"
    config = Config.model_validate({"spark": {"conf": {zone: "America/Lima"}}})
    with pytest.raises(UsageError, match=rf"sets {zone}, which results depend on; leave it out, it is UTC"):
        spark_settings(config, with_catalog=False)
    same = Config.model_validate({"spark": {"conf": {zone: "UTC"}}})
    assert spark_settings(same, with_catalog=False)[zone] == "UTC"
