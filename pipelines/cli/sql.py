"""`reelhouse sql`: query the tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.main import session
from pipelines.cli.output import FORMATS, show
from pipelines.errors import ReelhouseError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_EPILOG = """\b
Examples:
  reelhouse sql "SELECT * FROM gold.media_daily ORDER BY plays DESC LIMIT 10"
  reelhouse sql --format csv "SELECT event_date, plays FROM gold.audience_daily"
  reelhouse sql
"""


@click.command(epilog=_EPILOG)
@click.argument("query", required=False)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
def command(query: str | None, format_name: str) -> None:
    """Run one QUERY, or without one a prompt; works while the streams run.

    It only reads, and makes temporary views.
    """
    from pipelines.engine.lake import Lake
    from pipelines.engine.names import register
    from pipelines.session import open_session
    from pipelines.tables import TABLES

    config = session().config()
    spark = open_session(config, "sql", with_catalog=True)
    register(Lake.of(spark, config), config, TABLES)
    if query is not None:
        _run(spark, query, format_name)
    else:
        _prompt(spark, format_name)


def _run(spark: SparkSession, query: str, format_name: str) -> None:
    from pyspark.errors import PySparkException

    from pipelines.engine.statements import require_reading

    statement = query.strip().rstrip(";")
    try:
        require_reading(spark, statement)
        frame = spark.sql(statement)
        show(frame.columns, _rows(frame), format_name)
    except PySparkException as error:
        sentence = str(error).strip().splitlines()[0]
        raise ReelhouseError(f"the query failed: {sentence}", code="query_failed") from error
    except (ValueError, OverflowError) as error:
        # Inside arrays, structs and maps a time may still be of a year that Python does not have.
        message = f"the query failed: {error}; take a part of it, or CAST(… AS STRING)"
        raise ReelhouseError(message, code="query_failed") from error


def _rows(frame: DataFrame) -> list[Sequence[Any]]:
    """The frame's rows; a time of a year that Python does not have comes as Spark's text of it."""
    from pyspark.sql.types import DateType, TimestampNTZType, TimestampType

    kinds = [field.dataType for field in frame.schema]
    times = [
        n for n, kind in enumerate(kinds) if isinstance(kind, DateType | TimestampType | TimestampNTZType)
    ]
    # By number: names may be there twice. Of the year 1 Python does not take the first day.
    known, texts = [f"c{n}" for n in range(len(kinds))], []
    for n in times:
        known[n] = f"if(year(c{n}) BETWEEN 2 AND 9999, c{n}, NULL)"
        texts.append(f"if(year(c{n}) BETWEEN 2 AND 9999, NULL, string(c{n}))")
    numbered = frame.toDF(*(f"c{n}" for n in range(len(kinds))))
    rows: list[Sequence[Any]] = []
    for row in numbered.selectExpr(*known, *texts).collect():
        values = list(row[: len(kinds)])
        for n, text in zip(times, row[len(kinds) :], strict=True):
            values[n] = values[n] if text is None else text
        rows.append(values)
    return rows


def _prompt(spark: SparkSession, format_name: str) -> None:
    import readline  # noqa: F401  # line editing and history for input()

    if sys.stdin.isatty():
        click.echo("end a query with ; and the prompt with Ctrl-D", err=True)
    lines: list[str] = []
    while True:
        try:
            lines.append(input(("sql> " if not lines else "...> ") if sys.stdin.isatty() else ""))
        except EOFError:
            break
        if lines[-1].rstrip().endswith(";"):
            _try(spark, "\n".join(lines), format_name)
            lines = []
    if "".join(lines).strip():
        _run(spark, "\n".join(lines), format_name)


def _try(spark: SparkSession, query: str, format_name: str) -> None:
    """At a terminal a wrong query is told, and the prompt goes on."""
    try:
        _run(spark, query, format_name)
    except ReelhouseError as error:
        if not sys.stdin.isatty():
            raise
        click.echo(str(error), err=True)
