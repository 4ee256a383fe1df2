"""The tables by name from spark-sql, JDBC and Spark Connect, and by path without a JVM, as the streams write.

The commands are those of docs/sql.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import sql_servers
from deltalake import DeltaTable
from embedded_broker import broker_config, free_ports
from in_parts import publish_and_run
from lake_rows import _value
from postgres import PASSWORD, USER, Postgres, postgres

from pipelines import broker
from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.engine.names import register
from pipelines.errors import ReelhouseError
from pipelines.gold import media_daily
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation
from pipelines.tables import TABLES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_WAIT_SECONDS = 240
_COLUMNS = """
from pyspark.sql import SparkSession
catalog = SparkSession.builder.getOrCreate()._jsparkSession.sharedState().externalCatalog()
print(*catalog.getTable("gold", "media_daily").schema().fieldNames())
"""
_PLAYS = "SELECT sum(plays) AS plays FROM gold.media_daily"


@dataclass
class Ran:
    """A lake with a simulation in it, and its broker."""

    config: Config
    lake: Lake
    folder: Path
    conf: Path

    def plays(self) -> int:
        """What the streams' own session says."""
        return int(
            self.lake.spark.sql(f"SELECT sum(plays) FROM delta.`{self.lake.root}/gold/media_daily`").first()[
                0
            ]
        )

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return sql_servers.run_command([sys.executable, "-m", *arguments], self.folder, **environment)

    def sql(self, query: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ("pipelines.cli.main", "--conf", str(self.conf), "sql", "--format", "json", query)
        return self.python(*command, **environment)


@pytest.fixture(scope="module")
def ran(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("doors")
    config = broker_config(folder, partitions=1)
    write_simulation(folder, users=5, days=1, seed=3)
    conf = folder / "conf.toml"
    conf.write_text(
        f'[storage]\nroot = "{config.storage.root}"\n'
        f'[kafka]\nbootstrap_servers = "{config.kafka.bootstrap_servers}"\n'
        "[stream]\nrules_minutes = 0\n"
    )
    broker.start(config)
    try:
        publish_and_run(spark, config, folder, parts=1)
        yield Ran(config, Lake.of(spark, config), folder, conf)
    finally:
        broker.stop(config)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.full_name)
def test_readers_without_a_jvm_see_what_spark_sees(ran: Ran, table: Table) -> None:
    seen = DeltaTable(ran.lake.path(table))
    expected = _checksum(row.asDict(recursive=True) for row in ran.lake.read(table).collect())
    assert _checksum(seen.to_pyarrow_table().to_pylist()) == expected
    rows = seen.to_pyarrow_dataset()  # DuckDB finds it by its name
    assert _checksum(duckdb.sql("SELECT * FROM rows").to_arrow_table().to_pylist()) == expected
    assert rows.count_rows() == expected[0]


def _checksum(rows: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> tuple[int, str]:
    lines = sorted(json.dumps(_plain(row), sort_keys=True) for row in rows)
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else _value(value)


def test_a_name_that_is_another_lakes_is_refused(ran: Ran, tmp_path: Path) -> None:
    table = TABLES[0]
    assert register(ran.lake, ran.config, [table]) == [table]
    assert register(ran.lake, ran.config, [table]) == [table]  # as often as wanted
    other = Lake(ran.lake.spark, str(tmp_path))
    other.create([table])
    with pytest.raises(ReelhouseError, match=f"has {table.full_name} of another lake") as refused:
        register(other, ran.config, [table])
    assert refused.value.code == "catalog_of_another_lake"
    ran.lake.spark.sql(f"DROP DATABASE {table.layer} CASCADE")
    assert ran.lake.exists(table), "the files are gone with the name"


def test_a_derby_in_the_folder_names_the_tables_for_spark_sql(ran: Ran) -> None:
    for _ in range(2):  # again after new tables: it changes only what is missing
        written = ran.python("pipelines.spark_conf", "spark", "conf.toml")
        assert written.stdout.startswith(f"{len(TABLES)} tables named"), written.stderr
    command = [sql_servers.program("spark-sql"), "-S", "-e", f"{_PLAYS}; DESCRIBE gold.media_daily"]
    answered = sql_servers.run_command(command, ran.folder, SPARK_CONF_DIR=str(ran.folder / "spark"))
    lines = answered.stdout.splitlines()
    assert lines[0] == str(ran.plays()), answered.stderr
    assert any("Playbacks that started (count)." in line for line in lines), answered.stdout
    notebook = f"""
from pyspark.sql import SparkSession
print(SparkSession.builder.getOrCreate().sql("{_PLAYS}").first()[0])
"""
    command = [sys.executable, "-c", notebook]
    answered = sql_servers.run_command(command, ran.folder, SPARK_CONF_DIR=str(ran.folder / "spark"))
    assert answered.stdout.split() == [str(ran.plays())], answered.stderr
    # Who has the variable set needs no metastore for our own commands.
    shutil.move(ran.folder / "spark" / "metastore", ran.folder / "aside")
    (ran.folder / "spark" / "metastore").write_text("not a database")
    answered = ran.sql(_PLAYS, SPARK_CONF_DIR=str(ran.folder / "spark"))
    assert json.loads(answered.stdout) == {"plays": ran.plays()}, answered.stderr


def test_a_column_that_is_new_is_in_the_catalogue_as_jdbc_lists_it(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake, table = Lake(spark, str(tmp_path / "lake")), media_daily.TABLE
    for known in (dataclasses.replace(table, columns=table.columns[:-1]), table):
        lake.create([known])
        command = [sys.executable, "-m", "pipelines.spark_conf", "spark"]
        written = sql_servers.run_command(command, tmp_path, REELHOUSE_STORAGE__ROOT=lake.root)
        assert written.stdout.startswith("1 tables named"), written.stderr
    command = [sys.executable, "-c", _COLUMNS]
    told = sql_servers.run_command(command, tmp_path, SPARK_CONF_DIR=str(tmp_path / "spark"))
    assert told.stdout.split() == list(table.column_names), told.stderr
    assert lake.exists(table), "the files are gone with the name"


def test_two_servers_and_sql_share_a_catalogue_while_a_stream_writes(ran: Ran) -> None:
    with postgres() as server, contextlib.ExitStack() as running:
        ran.conf.write_text(ran.conf.read_text() + f'[catalog]\nurl = "{server.url}"\nusername = "{USER}"\n')
        environment = {"REELHOUSE_CATALOG__PASSWORD": PASSWORD}
        thrift, connect = free_ports(2)
        written = ran.python("pipelines.spark_conf", "shared", "conf.toml", **environment)
        assert written.returncode == 0, written.stderr
        named = ran.folder / "shared"
        running.enter_context(sql_servers.thrift(ran.folder, named, thrift))
        running.enter_context(sql_servers.connect(ran.folder, named, connect))
        stream = running.enter_context(_streams(ran, environment))
        before = ran.plays()
        assert sql_servers.by_jdbc(ran.folder, thrift, _PLAYS) == before
        assert sql_servers.by_connect(ran.folder, connect, _PLAYS) == before

        _one_more_play(ran)
        assert sql_servers.by_jdbc(ran.folder, thrift, _PLAYS) == before + 1
        assert sql_servers.by_connect(ran.folder, connect, _PLAYS) == before + 1
        answered = ran.sql(_PLAYS, **environment)
        assert json.loads(answered.stdout) == {"plays": before + 1}, answered.stderr

        _a_catalogue_that_is_down(ran, server, environment)
        assert stream.poll() is None, "the streams have ended"


def _a_catalogue_that_is_down(ran: Ran, server: Postgres, environment: dict[str, str]) -> None:
    """`sql` says so in a sentence; the streams go on."""
    server.stop()
    refused = ran.sql(_PLAYS, **environment)
    assert refused.returncode == 1
    sentence = refused.stderr.strip().splitlines()[-1]
    assert sentence.startswith(f"reelhouse: the catalogue {server.url} does not answer"), refused.stderr
    assert "start it, or correct catalog.url" in sentence
    assert PASSWORD not in refused.stderr
    _one_more_play(ran)


def _one_more_play(ran: Ran) -> None:
    """Publish one, and wait until the streams have it in gold."""
    before, deadline = ran.plays(), time.monotonic() + _WAIT_SECONDS
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event = {"userId": f"late-{now}", "action": "play", "timestamp": now, "mediaId": "door"}
    (ran.folder / "play.ndjson").write_text(json.dumps(event) + "\n")
    produce(ran.config, [ran.folder / "play.ndjson"])
    while ran.plays() == before and time.monotonic() < deadline:
        time.sleep(1)
    assert ran.plays() == before + 1


@contextlib.contextmanager
def _streams(ran: Ran, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipelines.cli.main", "--conf", "conf.toml", "run"]
    with sql_servers.process(command, ran.folder, environment, "run") as process:
        yield process
