"""The tables' names in the shared catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError


def register(lake: Lake, config: Config, tables: Iterable[Table]) -> list[Table]:
    """Name the tables that exist by now, again as often as wanted; returns them.

    In the shared catalogue for every SQL client, else for this session. Raises ReelhouseError
    (`catalog_unreachable`, `catalog_failed`, `catalog_of_another_lake`).
    """
    made = [table for table in tables if lake.exists(table)]
    try:
        lake.register(made)
        elsewhere = [table for table in made if not lake.is_named(table)]
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
