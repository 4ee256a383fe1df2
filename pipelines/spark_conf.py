"""Writes Spark's configuration for the tables, so that Spark's own SQL tools find them by name.

`python -m pipelines.spark_conf FOLDER [CONF]` names the tables in the shared catalogue and writes
FOLDER/spark-defaults.conf; with `SPARK_CONF_DIR=FOLDER` spark-sql, notebooks, the Thrift server and the Spark
Connect server need nothing else. Again after new tables or columns: it changes only what is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipelines.catalog import connection_properties
from pipelines.config import Config, load_config
from pipelines.engine.lake import Lake
from pipelines.engine.names import register
from pipelines.errors import UsageError, exit_code_of
from pipelines.session import open_session, spark_settings
from pipelines.tables import TABLES

# The servers listen on this machine only, unless the folder's file is changed.
_LOOPBACK = {
    "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
    "spark.hadoop.hive.server2.thrift.port": "10000",
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "15002",
}


def write(config: Config, folder: Path) -> Path:
    """Write the configuration, readable by its owner only: it holds the catalogue's password."""
    connection = connection_properties(config.catalog)
    settings = _LOOPBACK | {f"spark.hadoop.{key}": value for key, value in connection.items()}
    settings |= spark_settings(config, with_catalog=True)  # what the configuration chose wins
    file = folder / "spark-defaults.conf"
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        os.fchmod(out.fileno(), 0o600)  # a file that was there keeps its mode
        for key, value in sorted(settings.items()):
            escaped = value.replace("\\", "\\\\")  # a properties file, in which a backslash escapes
            print(f"{key} {escaped}", file=out)
    return file


def with_metastore(config: Config, folder: Path) -> Config:
    """The configuration with a catalogue: the one it names, else an embedded Derby in the folder."""
    if config.catalog.url is not None:
        return config
    url = f"jdbc:derby:;databaseName={folder.resolve() / 'metastore'};create=true"
    return config.model_copy(update={"catalog": config.catalog.model_copy(update={"url": url})})


def main() -> int:
    """Write the folder's file and name the tables; 1 with a sentence when the catalogue does not answer."""
    return exit_code_of(_main)


def _main() -> None:
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        message = "name a folder: python -m pipelines.spark_conf .work/spark [conf/local.toml]"
        raise UsageError(message, code="usage")
    folder = Path(sys.argv[1])
    config = with_metastore(load_config(sys.argv[2] if sys.argv[2:] else None), folder)
    file = write(config, folder)
    spark = open_session(config, "names", with_catalog=True)
    named = register(Lake.of(spark, config), config, TABLES)
    spark.stop()
    print(f"{len(named)} tables named; export SPARK_CONF_DIR={file.parent}")


if __name__ == "__main__":
    raise SystemExit(main())
