"""Finds the Java that Spark and the embedded broker run on, and tells when Spark's has ended."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from pipelines.errors import ReelhouseError, exit_code_of

# Reelhouse is tested with these. Hadoop, which Spark brings, does not start on Java 24 and later, nor on 23
# without an option: they took Subject.getSubject away.
MINIMUM, MAXIMUM = 17, 21
_ENDS_WITHIN = 3.0
"""How long (s) Java may take to end once it no longer answers."""
_INSTALL = (
    "install Java 17 (Debian or Ubuntu: apt-get install openjdk-17-jre-headless; Fedora: dnf install "
    "java-17-openjdk-headless; macOS: brew install openjdk@17), or set JAVA_HOME to it"
)


def require_java() -> str:
    """Path of a `java` of version 17 to 21: JAVA_HOME's, else the first on PATH.

    Raises ReelhouseError (`java_missing`, `java_version`) that says what to install.
    """
    path = _find()
    if path is None:
        raise ReelhouseError(
            f"Java {MINIMUM} to {MAXIMUM} is needed and none was found; {_INSTALL}", code="java_missing"
        )
    version = _major_version(path)
    if version is None:
        message = f"{path} does not run as Java; {_INSTALL}"
        raise ReelhouseError(message, code="java_missing")
    if not MINIMUM <= version <= MAXIMUM:
        message = f"Java {MINIMUM} to {MAXIMUM} is needed, but {path} is Java {version}; {_INSTALL}"
        raise ReelhouseError(message, code="java_version")
    return path


def java_ended() -> ReelhouseError | None:
    """The sentence when the Java of this process's session has ended by itself; None: it has not."""
    from pyspark import SparkContext

    process = getattr(SparkContext._gateway, "proc", None)
    if process is None:
        return None
    try:
        process.wait(_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        return None
    message = (
        "Spark's Java has ended by itself, most often for want of memory; raise spark.driver_memory, and "
        "start again: nothing is lost"
    )
    return ReelhouseError(message, code="java_ended")


def _find() -> str | None:
    # JAVA_HOME first, as Spark's own launcher does: both must run on the same Java.
    home = os.environ.get("JAVA_HOME")
    if home:
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def _major_version(java: str) -> int | None:
    """17 for `version "17.0.15"`, 8 for `version "1.8.0_402"`, None when it does not run."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(found.group(1)) if found else None


def main() -> int:
    """Check for Java before a long setup: print the sentence and return 1 when it is missing."""
    return exit_code_of(lambda: print(f"Java: {require_java()}"))


if __name__ == "__main__":
    raise SystemExit(main())
