"""Under spark-submit: what it has set, what the cluster must have, and how it asks to stop.

spark-submit starts Java, and Java starts this Python. So Java's settings are there before ours, and signals
reach Java only.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import ReelhouseError

_NEEDED_CLASSES = {
    "io.delta.sql.DeltaSparkSessionExtension": "Delta Lake",
    "org.apache.spark.sql.kafka010.KafkaSourceProvider": "Spark's Kafka source",
    "org.apache.spark.sql.avro.AvroFileFormat": "Spark's Avro",
}
_DELTA_ON_S3 = "io.delta.storage.S3SingleDriverLogStore"
_S3A_CLASS = "org.apache.hadoop.fs.s3a.S3AFileSystem"
GIVE_JARS = 'give them to spark-submit with --packages "$(python -m pipelines.jars packages)"'
# Without the bundle, which is the whole SDK.
_GIVE_S3A_JARS = (
    'give them to spark-submit with --packages "$(python -m pipelines.jars packages s3a)" '
    "--exclude-packages software.amazon.awssdk:bundle"
)
# Lists, to which a user's own settings are added instead of replacing ours.
_LISTS = {"spark.sql.extensions": ",", "spark.executor.extraJavaOptions": " "}


def is_submitted() -> bool:
    """Whether spark-submit started this process, in whatever deploy mode."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def given_settings() -> dict[str, str]:
    """What spark-submit was told: its options, `--conf` and spark-defaults.conf."""
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()  # Java knows the settings: without it SparkConf holds nothing
    given = dict(SparkConf().getAll())
    # Nobody chose it: spark-submit names an application after its file.
    if given.get("spark.app.name") == Path(sys.argv[0]).name:
        del given["spark.app.name"]
    return given


def laid_over(settings: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The settings, with those that were given in their place, or before them where they are lists."""
    merged = dict(settings) | dict(given)
    for key, separator in _LISTS.items():
        if key in settings and given.get(key):
            named = {part.partition("=")[0] for part in given[key].split(separator)}
            ours = [p for p in settings[key].split(separator) if p.partition("=")[0] not in named]
            merged[key] = separator.join([given[key], *ours])
    return merged


def _class_loader() -> Any:
    from pyspark import SparkContext

    jvm: Any = SparkContext._jvm
    return jvm.java.lang.Thread.currentThread().getContextClassLoader()


def require_jars(*, on_s3: bool) -> None:
    """Look for the jars before anything is asked of the cluster. Raises ReelhouseError (`jars_missing`)."""
    from py4j.protocol import Py4JJavaError

    loader = _class_loader()
    needed = _NEEDED_CLASSES | ({_S3A_CLASS: "Hadoop's S3A"} if on_s3 else {})
    for name, what in needed.items():
        try:
            loader.loadClass(name)
        except Py4JJavaError as error:
            give = _GIVE_S3A_JARS if on_s3 else GIVE_JARS
            message = f"Spark was started without the jars of {what}; {give}"
            raise ReelhouseError(message, code="jars_missing") from error


def delta_sees_s3a() -> bool:
    """Whether Delta's own class loader finds S3A: where Delta is on the cluster's class path and S3A is not,
    it does not.
    """
    from py4j.protocol import Py4JJavaError

    loader = _class_loader()
    try:
        loader.loadClass(_DELTA_ON_S3).getClassLoader().loadClass(_S3A_CLASS)
    except Py4JJavaError:
        return False
    return True


def lacking_on_workers(text: str) -> ReelhouseError | None:
    """What a failure says that the workers lack, in a sentence (`jars_missing`, `package_missing`)."""
    package = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", text)
    if package:
        message = (
            f"the workers' Python has no {package.group(1)}; install it there, or ship an environment with "
            "--archives: see docs/cluster.md"
        )
        return ReelhouseError(message, code="package_missing")
    name = re.search(r"(?:ClassNotFoundException|NoClassDefFoundError): (?:Class )?([\w.$/]+)", text)
    # Java's other way to say it: the class whose function it was asked to read is not there.
    if name or "cannot assign instance of java.lang.invoke.SerializedLambda" in text:
        missing = f" (there is no {name.group(1)})" if name else ""
        give = _GIVE_S3A_JARS if "s3a" in missing else GIVE_JARS
        return ReelhouseError(f"the workers lack jars{missing}; {give}", code="jars_missing")
    return None


def take_wheels() -> None:
    """Let the workers' Python import from a wheel of `--py-files`: PySpark knows only zip, egg and jar."""
    from pyspark import SparkContext

    if ".whl" not in SparkContext.PACKAGE_EXTENSIONS:
        SparkContext.PACKAGE_EXTENSIONS = (*SparkContext.PACKAGE_EXTENSIONS, ".whl")


def on_java_signals(stop: Callable[[], None]) -> None:
    """Call `stop` when Java gets SIGTERM or SIGINT, which would end it, and this process with it."""
    from pyspark import SparkContext
    from pyspark.java_gateway import ensure_callback_server_started

    gateway: Any = SparkContext._gateway
    ensure_callback_server_started(gateway)
    for name in ("TERM", "INT"):
        signal = gateway.jvm.sun.misc.Signal
        signal.handle(signal(name), _Handler(stop))


class _Handler:
    """A Java signal handler in Python."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def handle(self, _: Any) -> None:
        """Called by Java, in a thread of its own."""
        self._stop()

    class Java:
        """What py4j asks for: the interface."""

        implements = ("sun.misc.SignalHandler",)
