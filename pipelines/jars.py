"""Resolves the jars of Spark's connectors and of the broker: once, through the Ivy inside PySpark.

`python -m pipelines.jars` resolves them; with `packages` it prints the coordinates for spark-submit's
`--packages`, with `paths` the resolved files for its `--jars`; an `s3a` after either adds Hadoop's S3A.

They land in a cache folder whose name is a hash of what was asked for; afterwards no network is needed.
Environment: REELHOUSE_JARS is the cache folder (default ~/.cache/reelhouse/jars); REELHOUSE_IVY_SETTINGS
is an Ivy settings file for those who resolve from their own repository.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ReelhouseError, exit_code_of
from pipelines.java import require_java

SPARK_COORDINATES = (
    "io.delta:delta-spark_4.1_2.13:4.4.0",
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.1.1",
    "org.apache.spark:spark-avro_2.13:4.1.1",
)
KAFKA_COORDINATES = (
    "org.apache.kafka:kafka_2.13:4.4.0",
    # Without a logging backend a broker that cannot start says nothing about why.
    "org.slf4j:slf4j-simple:1.7.36",
)
# Hadoop's version is that of the client inside PySpark. S3A names the whole SDK, 600 MB; it uses these.
S3A_COORDINATES = (
    "org.apache.hadoop:hadoop-aws:3.4.2",
    "software.amazon.awssdk:s3:2.29.52",
    "software.amazon.awssdk:s3-transfer-manager:2.29.52",
    # Roles by web identity (Kubernetes) and by profiles.
    "software.amazon.awssdk:sts:2.29.52",
)
POSTGRESQL_COORDINATES = ("org.postgresql:postgresql:42.7.7",)
# What PySpark ships already: a second copy on the class path would be one too many.
_IN_PYSPARK = (
    "org.apache.hadoop",
    "org.apache.avro",
    "org.apache.parquet",
    "org.scala-lang",
    "org.apache.logging.log4j",
    "org.slf4j",
    "com.github.luben",
    "org.lz4",
    "org.xerial.snappy",
    "org.roaringbitmap",
    "com.fasterxml.jackson.core",
    "com.fasterxml.jackson.datatype",
)
_IN_PYSPARK_MODULES = ("spark-tags_2.13",)
_NOT_FOR_S3A = ("org.slf4j", "io.netty", "org.apache.httpcomponents", "commons-codec", "commons-logging")
_NOT_FOR_S3A_MODULES = ("bundle", "hadoop-client-api", "hadoop-client-runtime")
_TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class _JarSet:
    name: str
    coordinates: tuple[str, ...]
    excluded_organisations: tuple[str, ...] = ()
    excluded_modules: tuple[str, ...] = ()

    def folder_name(self) -> str:
        asked = repr((self.coordinates, self.excluded_organisations, self.excluded_modules))
        return f"{self.name}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


_SPARK = _JarSet("spark", SPARK_COORDINATES, _IN_PYSPARK, _IN_PYSPARK_MODULES)
_KAFKA = _JarSet("kafka", KAFKA_COORDINATES)
_S3A = _JarSet("s3a", S3A_COORDINATES, _NOT_FOR_S3A, _NOT_FOR_S3A_MODULES)
_POSTGRESQL = _JarSet("postgresql", POSTGRESQL_COORDINATES, ("org.checkerframework",))


def spark_jars() -> list[Path]:
    """Delta Lake's and the Kafka source's jars for Spark (`spark.jars`), without what PySpark ships.

    Downloads them the first time. Raises ReelhouseError when that fails or the cache cannot be written.
    """
    return _resolve(_SPARK)


def kafka_jars() -> list[Path]:
    """The broker's jars, all in one folder. Downloads them the first time, errors as `spark_jars`."""
    return _resolve(_KAFKA)


def s3a_jars() -> list[Path]:
    """Hadoop's S3A and what it needs of Amazon's SDK. Downloads them the first time; errors: `spark_jars`."""
    return _resolve(_S3A)


def postgresql_jars() -> list[Path]:
    """PostgreSQL's JDBC driver. Downloads it the first time, errors as `spark_jars`."""
    return _resolve(_POSTGRESQL)


def cache_dir() -> Path:
    """The cache folder: REELHOUSE_JARS, else ~/.cache/reelhouse/jars."""
    chosen = os.environ.get("REELHOUSE_JARS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "reelhouse" / "jars"


def _resolve(jars: _JarSet) -> list[Path]:
    folder = cache_dir() / jars.folder_name()
    if not folder.is_dir():
        try:
            _fill(jars, folder)
        except OSError as error:
            message = (
                f"the jar cache {cache_dir()} cannot be written ({error.strerror}); free or allow it, "
                "or set REELHOUSE_JARS to another folder"
            )
            raise ReelhouseError(message, code="jar_cache_unwritable") from error
    return sorted(folder.glob("*.jar"))


def _fill(jars: _JarSet, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / ".lock"):
        if folder.is_dir():  # another process resolved it while this one waited
            return
        print(f"resolving the {jars.name} jars, once", file=sys.stderr, flush=True)
        work = Path(tempfile.mkdtemp(prefix=".resolving-", dir=folder.parent))
        try:
            _run_ivy(jars, work)
            # A rename is atomic: the folder exists only when it is complete.
            (work / "jars").rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run_ivy(jars: _JarSet, work: Path) -> None:
    (work / "ivy.xml").write_text(_ivy_file(jars))
    settings = os.environ.get("REELHOUSE_IVY_SETTINGS")
    command = [
        *(require_java(), "-cp", str(_ivy_jar()), "org.apache.ivy.Main", "-cache", str(work / "cache")),
        *(("-settings", settings) if settings else ()),
        *("-ivy", str(work / "ivy.xml"), "-confs", "default"),
        *("-retrieve", str(work / "jars" / "[artifact]-[revision](-[classifier]).[ext]")),
        *("-types", "jar", "bundle"),  # last: it takes every word that follows
    ]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        output, failed = ran.stdout + ran.stderr, ran.returncode != 0
    except subprocess.TimeoutExpired:
        output, failed = f"no answer within {_TIMEOUT_SECONDS} s", True
    if failed or not list((work / "jars").glob("*.jar")):
        raise _unresolved(jars, output)


def _unresolved(jars: _JarSet, output: str) -> ReelhouseError:
    if "No space left on device" in output:
        message = f"the disk of {cache_dir()} is full; free some space, or set REELHOUSE_JARS elsewhere"
        return ReelhouseError(message, code="disk_full")
    telling = ("unresolved dependency", "unknownhost", "connection", "timed out", "no answer", "not found")
    lines = [line.strip(" :\t") for line in output.splitlines() if any(t in line.lower() for t in telling)]
    reason = f" ({lines[0]})" if lines else ""
    message = (
        f"the {jars.name} jars could not be downloaded{reason}; connect this machine to a Maven repository "
        "(proxy: JAVA_TOOL_OPTIONS, own repository: REELHOUSE_IVY_SETTINGS) and try again"
    )
    return ReelhouseError(message, code="jars_unresolved")


def _ivy_file(jars: _JarSet) -> str:
    wanted = [coordinate.split(":") for coordinate in jars.coordinates]
    dependencies = [
        f'<dependency org="{org}" name="{name}" rev="{revision}" conf="default->default"/>'
        for org, name, revision in wanted
    ]
    excludes = [f'<exclude org="{organisation}"/>' for organisation in jars.excluded_organisations]
    excludes += [f'<exclude module="{module}"/>' for module in jars.excluded_modules]
    return (
        '<ivy-module version="2.0"><info organisation="reelhouse" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{''.join(dependencies + excludes)}</dependencies></ivy-module>"
    )


def _ivy_jar() -> Path:
    # Found without importing PySpark, which would take a second.
    spec = importlib.util.find_spec("pyspark")
    found = sorted(Path(spec.origin).parent.glob("jars/ivy-*.jar")) if spec and spec.origin else []
    if not found:
        message = "PySpark is not installed in this Python; run `make setup`, and use .venv/bin/reelhouse"
        raise ReelhouseError(message, code="pyspark_missing")
    return found[-1]


def main() -> int:
    """Resolve both sets, with a line for each; or print what spark-submit needs. 1 when it fails, 2 usage."""
    actions = {
        (): _resolve_both,
        ("packages",): lambda: _print(SPARK_COORDINATES),
        ("packages", "s3a"): lambda: _print(SPARK_COORDINATES + S3A_COORDINATES),
        ("paths",): lambda: _print(spark_jars()),
        ("paths", "s3a"): lambda: _print(spark_jars() + s3a_jars()),
    }
    action = actions.get(tuple(sys.argv[1:]))
    if action is None:
        message = "reelhouse: say nothing, packages [s3a] or paths [s3a] after pipelines.jars"
        print(message, file=sys.stderr)
        return 2
    return exit_code_of(action)


def _resolve_both() -> None:
    for name, jars in (("spark", spark_jars()), ("kafka", kafka_jars())):
        print(f"{name}: {len(jars)} jars in {jars[0].parent}")


def _print(parts: Iterable[object]) -> None:
    print(",".join(map(str, parts)))


if __name__ == "__main__":
    raise SystemExit(main())
