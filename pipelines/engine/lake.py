"""The lake's storage: where tables are, how they are made, read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError, Py4JNetworkError
from pyspark.sql import DataFrame, SparkSession

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.storage_errors import storage_failure, unwritable
from pipelines.errors import ReelhouseError

# A file appears there only when it is whole, and replaces another in one step.
_ATOMIC_OVERWRITE = ("s3a://", "gs://")
# For the size of a row: commits of fewer rows say little of it, as most of their files is overhead.
_COMMITS_LOOKED_AT, _ENOUGH_ROWS = 3, 1000
_READS = 3
"""How often a small file is asked for (count): between two storages' steps of replacing it, it is gone."""
_PROPERTIES = {
    "delta.checkpointInterval": "50",
    # `cut_log` does it: Delta itself does not know what the streams have yet to read.
    "delta.enableExpiredLogCleanup": "false",
}


@dataclass(frozen=True)
class Txn:
    """Identity of one batch's write to one table: the same identity is never written twice."""

    app_id: str
    version: int


@dataclass(frozen=True)
class Lake:
    """The tables under one storage root, seen through one Spark session."""

    spark: SparkSession
    root: str

    @classmethod
    def of(cls, spark: SparkSession, config: Config) -> Lake:
        """The configured lake; a relative root is made absolute."""
        return cls(spark, config.storage.location)

    def path(self, table: Table) -> str:
        """`<root>/<layer>/<name>`."""
        return f"{self.root}/{table.layer}/{table.name}"

    def checkpoint(self, layer: str) -> str:
        """Folder of the checkpoint of a layer's stream."""
        return f"{self.root}/_checkpoints/{layer}"

    def exists(self, table: Table) -> bool:
        """Whether the table has been made. Raises ReelhouseError (`storage_denied` and the like)."""
        try:
            return DeltaTable.isDeltaTable(self.spark, self.path(table))
        except Py4JNetworkError:
            raise  # Java has ended: the storage has nothing to do with it
        except Exception as error:
            raise storage_failure(self.root, str(error)) or error from error

    def create(self, tables: Iterable[Table]) -> None:
        """Make the tables that are missing, and add columns that are new. Raises ReelhouseError."""
        for table in tables:
            try:
                if not self.exists(table):
                    self._make(table)
                else:
                    self._add_columns(table)
            except (ReelhouseError, Py4JNetworkError):
                raise
            except Exception as error:
                raise unwritable(self.root, error) from error

    def _make(self, table: Table) -> None:
        path = self.path(table)
        # Named as well: Delta would make a name of the location as it is.
        builder = DeltaTable.createIfNotExists(self.spark).tableName(_by_path(path)).location(path)
        builder = builder.comment(table.comment).addColumns(table.schema())
        if table.partition_cols:
            builder = builder.partitionedBy(*table.partition_cols)
        if table.stats_cols:
            builder = builder.property("delta.dataSkippingStatsColumns", ",".join(table.stats_cols))
        for key, value in _PROPERTIES.items():
            builder = builder.property(key, value)
        builder.execute()

    def _add_columns(self, table: Table) -> None:
        held = self.read(table).columns
        missing = [c for c in table.columns if c.name not in held]
        if missing:
            added = ", ".join(f"`{c.name}` {c.type} COMMENT {json.dumps(c.comment)}" for c in missing)
            self.spark.sql(f"ALTER TABLE {_by_path(self.path(table))} ADD COLUMNS ({added})")

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table's rows, now or at a version of its log. Raises ReelhouseError (`table_missing`)."""
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        try:
            return reader.load(self.path(table))
        except Exception as error:
            if not self.exists(table):
                message = f"there is no {table.full_name} under {self.root} yet; start `reelhouse run` first"
                raise ReelhouseError(message, code="table_missing") from error
            raise

    def frame(self, table: Table, rows: Sequence[Sequence[Any]]) -> DataFrame:
        """Rows of Python's values, in the order of the table's columns, of its types."""
        # Arrow's become a part of the plan; a list's go through workers of Python: a commit costs twice that.
        columns = {name: [row[place] for row in rows] for place, name in enumerate(table.column_names)}
        return self.spark.createDataFrame(pa.table(columns), table.schema())

    def version(self, table: Table) -> int:
        """The newest version of the table's log."""
        return int(self._snapshot(table).version())

    def txn_version(self, table: Table, app_id: str) -> int | None:
        """The newest write to the table under this identity; None: there is none."""
        found = self._snapshot(table).transactions().get(app_id)
        return int(found.get()) if found.isDefined() else None

    def table_id(self, table: Table) -> str | None:
        """The table's own identity, by which streams name it; None when it has not been made."""
        if not self.exists(table):
            return None
        return str(self._snapshot(table).metadata().id())

    def has_first_version(self, table: Table) -> bool:
        """Whether the log still has the table's first commit, which `cut_log` removes some day."""
        return self.written_at(table, 0) is not None

    def bytes_per_row(self, table: Table) -> float | None:
        """Size of a row in the table's files (bytes), by one of its newest commits; None: they tell none."""
        newest = self.version(table)
        for version in range(newest, max(-1, newest - _COMMITS_LOOKED_AT), -1):
            text = self.read_text(f"{self.path(table)}/_delta_log/{version:020}.json") or ""
            actions = [json.loads(line) for line in text.splitlines() if line.startswith('{"commitInfo"')]
            for metrics in (action["commitInfo"].get("operationMetrics", {}) for action in actions):
                rows, size = int(metrics.get("numOutputRows", 0)), int(metrics.get("numOutputBytes", 0))
                if rows >= _ENOUGH_ROWS:
                    return size / rows
        return None

    def append(self, table: Table, rows: DataFrame, txn: Txn | None = None) -> None:
        """Add rows, once for each `txn`."""
        _writer(rows, table, txn).mode("append").save(self.path(table))

    def overwrite(self, table: Table, rows: DataFrame, txn: Txn | None = None) -> None:
        """Replace the whole table in one commit."""
        # Said here, as a cluster's settings may have it otherwise: partitions without rows would stay.
        writer = _writer(rows, table, txn).mode("overwrite").option("partitionOverwriteMode", "static")
        writer.save(self.path(table))

    def overwrite_partitions(self, table: Table, rows: DataFrame, txn: Txn) -> None:
        """Replace, in one commit, the partitions that `rows` have rows of."""
        writer = _writer(rows, table, txn).mode("overwrite").option("partitionOverwriteMode", "dynamic")
        writer.save(self.path(table))

    def replace_where(self, table: Table, rows: DataFrame, predicate: str, txn: Txn | None = None) -> None:
        """In one commit delete the rows that fulfil `predicate`, and add `rows`, whatever they fulfil."""
        _writer(rows, table, txn).mode("overwrite").option("replaceWhere", predicate).save(self.path(table))

    def compact(self, table: Table) -> None:
        """Merge the small files of many batches; the rows stay as they are."""
        self.spark.sql(f"OPTIMIZE {_by_path(self.path(table))}")

    def written_at(self, table: Table, version: int) -> datetime | None:
        """When a version was written (UTC), by its file in the log; None: the log has it not, or no more."""
        path = f"{self.path(table)}/_delta_log/{version:020}.json"
        files, commit = self.hadoop_files(path)
        if not files.exists(commit):
            return None
        return datetime.fromtimestamp(files.getFileStatus(commit).getModificationTime() / 1000, timezone.utc)

    def cut_log(self, table: Table, before: datetime) -> None:
        """Remove from the log what only tells of versions that were replaced before then (UTC).

        Later versions can be read as ever. Files of data stay.
        """
        age = max(timedelta(0), datetime.now(timezone.utc) - before)
        milliseconds = self._java("java.util.OptionalLong").of(int(age.total_seconds() * 1000))
        # By Delta's own way, which runs after each checkpoint for what is older than thirty days and a day.
        to_the_minute = getattr(self._java("org.apache.spark.sql.delta.TruncationGranularity$"), "MODULE$")
        retention = self._java("scala.jdk.javaapi.OptionConverters").toScala(milliseconds)
        log, none = self._log(table), self._java("scala.Option").empty()
        log.cleanUpExpiredLogs(self._snapshot(table), none, retention, to_the_minute.MINUTE())

    def read_text(self, path: str) -> str | None:
        """A small file's text; None when there is none."""
        files, file = self.hadoop_files(path)
        for _ in range(_READS):
            if not files.exists(file):
                continue
            try:
                stream = files.open(file)
            except Py4JJavaError as error:
                if "FileNotFoundException" not in str(error.java_exception.getClass().getName()):
                    raise
                continue  # it is being replaced
            try:
                data = self._java("org.apache.commons.io.IOUtils").toByteArray(stream)
                return bytes(data).decode()
            finally:
                stream.close()
        return None

    def write_text(self, path: str, text: str) -> None:
        """Write a small file whole: it appears under its name only when complete."""
        files, target = self.hadoop_files(path)
        in_place = path.startswith(_ATOMIC_OVERWRITE)
        written = target if in_place else self._hadoop(path + ".tmp")
        stream = files.create(written, True)
        stream.write(bytearray(text.encode()))
        stream.close()
        # On a disk a file takes the place of another in one step.
        if not in_place and not files.rename(written, target):
            self._replace(files, written, target)

    def _replace(self, files: Any, written: Any, target: Any) -> None:
        """As HDFS can, in one step; elsewhere after the target was removed: who reads it asks again."""
        if files.getScheme() == "hdfs":
            how, gateway = self._java("org.apache.hadoop.fs.Options$Rename"), self.spark.sparkContext._gateway
            options = gateway.new_array(how, 1)  # type: ignore[union-attr]
            options[0] = how.OVERWRITE
            files.rename(written, target, options)
        else:
            files.delete(target, False)
            files.rename(written, target)

    def remove(self, path: str) -> None:
        """Remove a small file."""
        files, target = self.hadoop_files(path)
        files.delete(target, False)

    def files_of(self, folder: str) -> dict[str, datetime]:
        """Names of a folder's files and when they were written (UTC); empty when there is no folder."""
        files, path = self.hadoop_files(folder)
        if not files.exists(path):
            return {}
        return {
            status.getPath().getName(): datetime.fromtimestamp(
                status.getModificationTime() / 1000, timezone.utc
            )
            for status in files.listStatus(path)
        }

    def default_storage(self) -> str:
        """Where Hadoop looks for a path without a scheme, as a URI: `file:///` on most machines."""
        configuration = self.spark._jsparkSession.sessionState().newHadoopConf()
        return str(self._java("org.apache.hadoop.fs.FileSystem").getDefaultUri(configuration).toString())

    def hadoop_files(self, path: str) -> tuple[Any, Any]:
        """Hadoop's file system of a path, and the path as that wants it."""
        file = self._hadoop(path)
        return file.getFileSystem(self.spark._jsparkSession.sessionState().newHadoopConf()), file

    def _snapshot(self, table: Table) -> Any:
        none = self._java("scala.Option").empty()
        return self._log(table).update(False, none, none)

    def _log(self, table: Table) -> Any:
        logs = self._java("org.apache.spark.sql.delta.DeltaLog")
        return logs.forTable(self.spark._jsparkSession, self.path(table))

    def _java(self, name: str) -> Any:
        """A class of Java, by its whole name at once: for each part alone Java would look into every jar."""
        return getattr(self.spark._jvm, name)

    def _hadoop(self, path: str) -> Any:
        return self._java("org.apache.hadoop.fs.Path")(path)


def _by_path(path: str) -> str:
    """A table's name in SQL by its path, which may have any letters."""
    return "delta.`" + path.replace("`", "``") + "`"


def literal(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _writer(rows: DataFrame, table: Table, txn: Txn | None) -> Any:
    # As texts: a column made here for each would be two calls of Java.
    writer = rows.selectExpr(*[f"`{name}`" for name in table.column_names]).write.format("delta")
    if table.partition_cols:
        writer = writer.partitionBy(*table.partition_cols)
    if txn is not None:
        writer = writer.option("txnAppId", txn.app_id).option("txnVersion", txn.version)
    return writer
