"""The data-quality job as a CI system runs it: conf/ci/check.sh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

_SCRIPT = Path(__file__).resolve().parents[2] / "conf" / "ci" / "check.sh"


def run_ci_job(folder: Path, *tables: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it with `reelhouse` on the path; its pages and JUnit XML land in the folder."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = {"PATH": programs, "REELHOUSE_CHECK_DIR": str(folder), **environment}
    return subprocess.run(
        [_SCRIPT, *tables], env=os.environ | told, capture_output=True, text=True, check=False
    )


def broken_checks(folder: Path) -> list[str]:
    """The checks that its JUnit XML tells as failed."""
    failed = ElementTree.parse(folder / "check.xml").findall(".//testcase[failure]")
    return [case.get("name", "") for case in failed]
