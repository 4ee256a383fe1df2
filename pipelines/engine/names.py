"""The tables' names in SQL: `<layer>.<name>`, in this session or in the shared catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake, literal
from pipelines.errors import ReelhouseError


def register(lake: Lake, config: Config, tables: Iterable[Table]) -> list[Table]:
    """Name the tables that exist by now, again as often as wanted; returns them.

    In the shared catalogue for every SQL client, else for this session. Raises ReelhouseError
    (`catalog_unreachable`, `catalog_failed`, `catalog_of_another_lake`).
    """
    made = [table for table in tables if lake.exists(table)]
    try:
        for table in made:
            _register(lake, table)
        elsewhere = [table for table in made if not _is_named(lake, table)]
    except (PySparkException, Py4JError) as error:
        if config.catalog.url is None:
            raise
        raise _failure(config.catalog.url, error) from error
    if elsewhere:
        name = elsewhere[0].full_name
        message = (
            f"the catalogue {_shown(config.catalog.url)} has {name} of another lake "
            f"than {lake.root}; give each lake a database of its own in catalog.url, or DROP TABLE {name}"
        )
        raise ReelhouseError(message, code="catalog_of_another_lake")
    return made


def _register(lake: Lake, table: Table) -> None:
    lake.spark.sql(f"CREATE DATABASE IF NOT EXISTS {table.layer}")
    _name(lake, table)
    if _is_named(lake, table) and _has_other_columns(lake, table):
        lake.spark.sql(f"DROP TABLE IF EXISTS {table.full_name}")  # the files stay
        _name(lake, table)


def _name(lake: Lake, table: Table) -> None:
    location = literal(lake.path(table))
    lake.spark.sql(f"CREATE TABLE IF NOT EXISTS {table.full_name} USING DELTA LOCATION {location}")


def _has_other_columns(lake: Lake, table: Table) -> bool:
    """Whether the catalogue, which JDBC's clients ask for columns, tells others than the table has."""
    found = _named(lake, table)
    told, held = json.loads(found.schema().json()), lake.read(table).schema.jsonValue()
    told, held = ({field["name"]: field for field in schema["fields"]} for schema in (told, held))
    # A session's own catalogue tells none. A table that is the catalogue's would go with its files.
    return bool(told) and told != held and found.tableType().name() == "EXTERNAL"


def _is_named(lake: Lake, table: Table) -> bool:
    """Whether this session's SQL finds this lake's table by its name, and not another's."""
    _, path = lake.hadoop_files(lake.path(table))
    found, own = _named(lake, table).location(), path.toUri()
    # Without the scheme, which a folder's path may lack.
    return (found.getAuthority(), found.getPath()) == (own.getAuthority(), own.getPath())


def _named(lake: Lake, table: Table) -> Any:
    """What the catalogue says of the table's name."""
    session = lake.spark._jsparkSession.sessionState()
    return session.catalog().getTableMetadata(session.sqlParser().parseTableIdentifier(table.full_name))


def _failure(url: str, error: Exception) -> ReelhouseError:
    text = str(error)
    if "SessionHiveMetaStoreClient" not in text:
        message = f"the catalogue {_shown(url)} refuses the tables' names: {text.splitlines()[0][:300]}"
        return ReelhouseError(message, code="catalog_failed")
    # Why is not in what Hive says, whichever it is.
    if url.startswith("jdbc:derby:"):
        advice = "Derby serves one process at a time: end the other one, or use PostgreSQL in catalog.url"
    else:
        advice = "start it, or correct catalog.url, catalog.username and catalog.password"
    message = f"the catalogue {_shown(url)} does not answer, or does not let the user in; {advice}"
    return ReelhouseError(message, code="catalog_unreachable")


def _shown(url: str | None) -> str:
    """Without its parameters, which may hold a password."""
    return (url or "of this session").partition("?")[0].partition(";")[0]
