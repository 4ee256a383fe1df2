"""The Spark session, made from the configuration."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from pipelines.class_archive import java_options
from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.jars import spark_jars
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
_OWN = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.default": "delta",
    # Small tables: 50 partitions of a snapshot's state would cost more than reading it.
    "spark.databricks.delta.snapshotPartitions": "1",
    # The gold step replaces rows that are not final and adds final ones in one commit.
    "spark.databricks.delta.replaceWhere.constraintCheck.enabled": "false",
    "spark.databricks.delta.stalenessLimit": "0",
    "spark.sql.streaming.numRecentProgressUpdates": "10",
    # Only files smaller than this are merged by a compaction, up to that.
    "spark.databricks.delta.optimize.minFileSize": str(32 << 20),
    "spark.databricks.delta.optimize.maxFileSize": str(128 << 20),
    "spark.sql.parquet.compression.codec": "zstd",
    # Nearly every value is another: a dictionary of them costs a tenth of a batch, and is thrown away.
    "spark.hadoop.parquet.enable.dictionary#value": "false",
    "spark.hadoop.parquet.enable.dictionary#event_id": "false",
    "spark.hadoop.parquet.enable.dictionary#playback_id": "false",
    # A batch has few days: a file open for each is cheaper than sorting the batch by day.
    "spark.sql.maxConcurrentOutputFileWriters": "32",
    # Plans repeat from batch to batch: keep what was compiled for them.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Records in doubt may be large: few of them at a time go to the referee.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "2000",
    "spark.executor.extraJavaOptions": _LIMITED,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}


def open_session(config: Config, name: str) -> SparkSession:
    """The session of this process, made when there is none; `spark-submit`'s own settings win.

    Raises ReelhouseError (`java_missing`, `jars_unresolved`, `spark_failed`).
    """
    from pyspark.sql import SparkSession

    found = SparkSession.getActiveSession()
    if found is not None:
        return found
    java = require_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Python shows and takes Spark's times in the zone of the process: make it UTC, as the session's is.
    os.environ["TZ"] = "UTC"
    time.tzset()
    builder = SparkSession.builder.appName(f"reelhouse {name}")
    for key, value in _settings(config, java).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        message = f"Spark does not start ({str(error).splitlines()[0]}); see spark.master and spark.conf"
        raise ReelhouseError(message, code="spark_failed") from error
    java_machine = session.sparkContext._jvm
    assert java_machine is not None
    for key, value in _AVRO_LIMITS.items():  # not by Java options, which under spark-submit are not ours
        java_machine.System.setProperty(key, value)
    session.sparkContext.setLogLevel(os.environ.get("REELHOUSE_LOG_LEVEL", "OFF"))
    return session


def _settings(config: Config, java: str) -> dict[str, str]:
    settings = dict(_OWN)
    if "SPARK_ENV_LOADED" not in os.environ:  # not under spark-submit, which brings master and jars
        settings["spark.master"] = config.spark.master
        settings["spark.driver.memory"] = config.spark.driver_memory
        jars = [str(jar) for jar in spark_jars()]
        settings["spark.jars"] = ",".join(jars)
        # On the driver's own class path their classes can come from the archive.
        settings["spark.driver.extraClassPath"] = ":".join(jars)
        settings["spark.driver.extraJavaOptions"] = f"{_JAVA_OPTIONS} {java_options(java)}".strip()
    settings["spark.sql.shuffle.partitions"] = str(config.spark.shuffle_partitions)
    return settings | config.spark.conf
