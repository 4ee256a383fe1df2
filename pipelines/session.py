"""The Spark session, made from the configuration."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import submitted
from pipelines.catalog import connection_properties, metastore_settings
from pipelines.class_archive import java_options
from pipelines.config import Config, is_folder
from pipelines.errors import ReelhouseError, UsageError
from pipelines.jars import postgresql_jars, s3a_jars, spark_jars
from pipelines.java import require_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Avro allocates what a record says that it holds: a length that lies would end the process.
_AVRO_LIMITS = {
    "org.apache.avro.limits.bytes.maxLength": str(16 << 20),
    "org.apache.avro.limits.string.maxLength": str(16 << 20),
    "org.apache.avro.limits.collectionItems.maxLength": str(1 << 20),
}
_LIMITED = " ".join(f"-D{key}={value}" for key, value in _AVRO_LIMITS.items())
_JAVA_OPTIONS = "-XX:+UseParallelGC -Duser.timezone=UTC"
# Hadoop starts a `chmod` for a file that it makes: without a helper process before each. Only Java on Linux
# knows it; elsewhere the first process that Java starts would fail.
_ON_LINUX = "-Djdk.lang.Process.launchMechanism=VFORK"
# Without it Spark tells five lines about its own logging before it can be told not to.
_QUIET = f'"-Dlog4j2.configurationFile={Path(__file__).with_name("log4j2.properties")}"'
_OWN = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.sources.default": "delta",
    # Also where SPARK_CONF_DIR names a shared catalogue, which may be down or in use.
    "spark.sql.catalogImplementation": "in-memory",
    # Small tables: 50 partitions of a snapshot's state would cost more than reading it.
    "spark.databricks.delta.snapshotPartitions": "1",
    # Delta would not read them, and each listing of a log, some thirty in a round, would be twice as long.
    "spark.databricks.delta.writeChecksumFile.enabled": "false",
    # What bronze and gold have taken is counted by them: one for each batch of a backlog.
    "spark.sql.streaming.numRecentProgressUpdates": "1000",
    # Only files smaller than this are merged by a compaction, up to that.
    "spark.databricks.delta.optimize.minFileSize": str(32 << 20),
    "spark.databricks.delta.optimize.maxFileSize": str(128 << 20),
    "spark.sql.parquet.compression.codec": "zstd",
    # As small as by the usual level 3, for less work.
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    # Nearly every value is another: a dictionary of them costs a tenth of a batch, and is thrown away.
    "spark.hadoop.parquet.enable.dictionary#value": "false",
    "spark.hadoop.parquet.enable.dictionary#event_id": "false",
    "spark.hadoop.parquet.enable.dictionary#playback_id": "false",
    "spark.hadoop.parquet.enable.dictionary#user_id": "false",
    "spark.hadoop.parquet.enable.dictionary#session_id": "false",
    "spark.hadoop.parquet.enable.dictionary#offset": "false",
    "spark.hadoop.parquet.enable.dictionary#occurred_at": "false",
    "spark.hadoop.parquet.enable.dictionary#record_timestamp": "false",
    "spark.hadoop.parquet.enable.dictionary#position_seconds": "false",
    # A batch has few days: a file open for each is cheaper than sorting the batch by day.
    "spark.sql.maxConcurrentOutputFileWriters": "32",
    # Java does not compile a longer method (bytes): a plan fused into one would be interpreted, half as fast.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A batch is kept for seconds: compressing it would take longer than reading it.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # Spark takes 16 MB for each small hash table that is broadcast, and frees it when garbage is collected: a
    # heap of 2 GB was full of them after some twenty rounds, and then collected without end.
    "spark.buffer.pageSize": "2m",
    # Plans repeat from batch to batch: keep what was compiled for them.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Spark would keep up to 1,024 threads of 0.1 MB for each of these, of which a few are at work.
    "spark.sql.shuffleExchange.maxThreadThreshold": "32",
    "spark.sql.resultQueryStage.maxThreadThreshold": "32",
    "spark.sql.broadcastExchange.maxThreadThreshold": "32",
    # Records may be large: few at a time make a page, are read, and go to the workers. No dearer for small.
    "spark.hadoop.parquet.page.size.row.check.min": "8",
    "spark.sql.parquet.columnarReaderBatchSize": "32",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    # HDFS's client, told that a file's last block is not reported yet, waits 0.4 s before it asks again: with
    # that nearly each of a round's small files took so long. This asks sooner, and no less long.
    "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "20",
    "spark.hadoop.dfs.client.block.write.locateFollowingBlock.retries": "10",
    # Where in Python an expression was made: three more calls of Java for each, half a second in a round.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.executor.extraJavaOptions": _LIMITED,
}
# What results depend on: nobody changes it.
_FIXED = {
    "spark.sql.session.timeZone": "UTC",
    # The workers' Python shows and takes times in its zone.
    "spark.executorEnv.TZ": "UTC",
    # The gold step replaces rows that are not final and adds final ones in one commit.
    "spark.databricks.delta.replaceWhere.constraintCheck.enabled": "false",
    "spark.databricks.delta.stalenessLimit": "0",
    # The text of a time is part of events' identities.
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # By 64 bits, whole: half the work of Spark's default of 96, and with the statistics that skip rows.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Rows that cannot be read are no rows less.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # An event's id in a condition may hold ${env:…}: it is what it is.
    "spark.sql.variable.substitute": "false",
}
# spark-submit and a cluster's spark-defaults.conf do not change it; the configuration does.
_NEEDED = _FIXED | {"spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog"}
# On one machine nobody else has to reach the driver, or looks at its pages.
_ALONE = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
# Without Hadoop's native library its usual classes start a process (readlink, chmod) some 150 times in a
# round of small batches, a fifth of its time. These do the same by Java's own calls, but for some chmod; the
# checksum file beside each file, which Delta and Parquet do not need, goes with them.
_ON_DISK = {
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
    "spark.delta.logStore.file.impl": "io.delta.storage.LocalLogStore",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}
# Keys in spark.conf first, then the usual places: environment, profile, web identity, container, instance.
_S3A_CREDENTIALS = (
    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider",
    "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
)
_S3A = {
    "spark.hadoop.fs.s3a.aws.credentials.provider": ",".join(_S3A_CREDENTIALS),
}
# Delta asks for the end of a log instead of all of it, a page for each thousand files.
_S3A_LISTS = {"spark.hadoop.delta.enableFastS3AListFrom": "true"}


def open_session(config: Config, name: str, *, with_catalog: bool = False) -> SparkSession:
    """The session of this process, made when there is none; `spark-submit`'s own settings win.

    `with_catalog`: names are looked up in the shared catalogue, when there is one. Not for streams, which
    know their tables by path: so a catalogue that is down is nothing to them.

    Raises ReelhouseError (`java_missing`, `jars_unresolved`, `jars_missing`, `spark_failed`).
    """
    from pyspark.sql import SparkSession

    found = SparkSession.getActiveSession()
    if found is not None:
        return found
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # What is freed stays with the arena of its thread: few of them, for Java and the workers of Python.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    if _is_alone(config):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python shows and takes Spark's times in the zone of the process: make it UTC, as the session's is.
    os.environ["TZ"] = "UTC"
    time.tzset()
    builder = SparkSession.builder.appName(f"reelhouse {name}")
    shares_names = with_catalog and config.catalog.url is not None
    for key, value in spark_settings(config, with_catalog=shares_names).items():
        builder = builder.config(key, value)
    try:
        with _uninterrupted():
            session = builder.getOrCreate()
    except Exception as error:
        lines = str(error).splitlines()
        told = next((line[2:] for line in lines if line.startswith(": ")), lines[0])  # Java's own words
        message = f"Spark does not start ({told}); see spark.master, spark.driver_memory and spark.conf"
        raise ReelhouseError(message, code="spark_failed") from error
    # Not by Java options, which under spark-submit are not ours.
    java_machine: Any = session.sparkContext._jvm
    for key, value in _AVRO_LIMITS.items():
        java_machine.System.setProperty(key, value)
    zones = java_machine.java.util.TimeZone
    zones.setDefault(zones.getTimeZone("UTC"))
    if shares_names:
        hadoop = session.sparkContext._jsc.hadoopConfiguration()
        for key, value in connection_properties(config.catalog).items():
            hadoop.set(key, value)
    _set_log_level(session)
    return session


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM wait until Spark has started: Java that is left alone before then never ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_log_level(session: SparkSession) -> None:
    from pyspark.logger import PySparkLogger

    session.sparkContext.setLogLevel("OFF")
    if level := os.environ.get("REELHOUSE_LOG_LEVEL"):
        # From another level: Spark takes INFO for what it has, and goes on to show warnings only.
        session.sparkContext.setLogLevel(level)
        return
    # Beside raising an error of a query, PySpark logs it with Java's whole stack.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel("CRITICAL")
    # Where Java has gone, Py4J tells a traceback for each call, some of them to the root logger.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_not_of_py4j)


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return record.module != "java_gateway"


def spark_settings(config: Config, *, with_catalog: bool) -> dict[str, str]:
    """Spark's properties of a session with these tables. Raises UsageError (`wrong_value`)."""
    _require_fixed(config.spark.conf)
    own = _OWN | _NEEDED | {"spark.sql.shuffle.partitions": str(config.spark.shuffle_partitions)}
    own |= _ON_DISK if is_folder(config.storage.root) else {}
    own |= _S3A if _is_on_s3(config) else {}
    own |= metastore_settings(config) if with_catalog else {}
    if submitted.is_submitted():  # it brings master and jars
        given = submitted.given_settings()
        submitted.require_jars(on_s3=_is_on_s3(config))
        own |= _S3A_LISTS if _is_on_s3(config) and submitted.delta_sees_s3a() else {}
        submitted.take_wheels()
        return submitted.laid_over(submitted.laid_over(own, config.spark.conf), given) | _needed(config)
    own |= _ALONE if _is_alone(config) else {}
    own |= _S3A_LISTS if _is_on_s3(config) else {}
    return submitted.laid_over(own | _brought(config, with_catalog), config.spark.conf)


def _require_fixed(given: Mapping[str, str]) -> None:
    for key, value in _FIXED.items():
        if given.get(key, value) != value:
            message = f"spark.conf sets {key}, which results depend on; leave it out, it is {value}"
            raise UsageError(message, code="wrong_value")


def _is_alone(config: Config) -> bool:
    """Whether driver and executors are one process."""
    return not submitted.is_submitted() and config.spark.master.startswith("local")


def _is_on_s3(config: Config) -> bool:
    return config.storage.location.startswith("s3a://")


def _needed(config: Config) -> dict[str, str]:
    return {key: config.spark.conf.get(key, value) for key, value in _NEEDED.items()}


def _brought(config: Config, with_catalog: bool) -> dict[str, str]:
    """What spark-submit would bring."""
    jars = [str(jar) for jar in spark_jars()]
    further = [str(jar) for jar in s3a_jars()] if _is_on_s3(config) else []
    # The metastore's client looks for a driver on the class path of the driver's Java only.
    is_postgresql = with_catalog and (config.catalog.url or "").startswith("jdbc:postgresql:")
    drivers = [str(jar) for jar in postgresql_jars()] if is_postgresql else []
    return {
        "spark.master": config.spark.master,
        "spark.driver.memory": config.spark.driver_memory,
        "spark.jars": ",".join([*jars, *further]),
        # On the driver's own class path their classes can come from the archive; there Delta looks for S3A's.
        "spark.driver.extraClassPath": ":".join([*jars, *further, *drivers]),
        "spark.driver.extraJavaOptions": _driver_options(),
    }


def _driver_options() -> str:
    launched = _ON_LINUX if sys.platform == "linux" else ""
    return " ".join(filter(None, (_JAVA_OPTIONS, launched, _QUIET, java_options(require_java()))))
