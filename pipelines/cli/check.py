"""`reelhouse check`: data-quality checks of the tables, for people and for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import FORMATS, show
from pipelines.errors import ReelhouseError

if TYPE_CHECKING:
    from pipelines.declare import Table
    from pipelines.engine.lake import Lake
    from pipelines.quality.suites import Found

_EPILOG = """\b
Examples:
  reelhouse check
  reelhouse check gold.playbacks gold.media_daily
  reelhouse check --docs .work/docs --junit .work/check.xml
"""
_NAMES = ("table", "check", "severity", "checked", "violations", "example")


@click.command(epilog=_EPILOG)
@click.argument("names", metavar="[TABLE]…", nargs=-1)
@click.option("--docs", type=click.Path(file_okay=False, path_type=Path), help="Write pages (HTML) there.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML for CI.")
@click.option("--save/--no-save", default=True, help="Append to ops.quality_results (default).")
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_context
def command(
    ctx: click.Context,
    names: Sequence[str],
    docs: Path | None,
    junit: Path | None,
    save: bool,
    format_name: str,
) -> None:
    """Check the tables, or those named, by their suites of Great Expectations; works while the streams run.

    A table shows what is broken, the other formats every check. Exit code 1 when a check of severity error
    is broken; those of severity warn are only told.
    """
    from pipelines.cli.junit import write_junit
    from pipelines.engine import check
    from pipelines.quality.suites import Checks
    from pipelines.tables import table_named

    chosen = [*dict.fromkeys(map(table_named, names))]
    (lake, config), checks = open_lake("check"), Checks()
    found = check.check(lake, config, chosen or _existing(lake), checks)
    if save and not check.save(lake, found):
        click.echo("not saved: the stream of gold is running, and has ops.quality_results alone", err=True)
    if junit is not None:
        write_junit(junit, found)
    if docs is not None:
        click.echo(f"pages: {checks.write_docs(docs)}", err=True)
    _tell(found, format_name)
    if any(one.is_failure for one in found):
        ctx.exit(1)


def _existing(lake: Lake) -> list[Table]:
    from pipelines.tables import TABLES

    found = [table for table in TABLES if lake.exists(table)]
    if not found:
        message = f"there is no table under {lake.root} yet; start `reelhouse run` first"
        raise ReelhouseError(message, code="table_missing")
    return found


def _tell(found: Sequence[Found], format_name: str) -> None:
    broken = [one for one in found if one.violations]
    shown = broken if format_name == "table" else found
    if shown:
        rows = [(o.table, o.rule, o.severity, o.checked, o.violations, o.example) for o in shown]
        show(_NAMES, rows, format_name)
    errors = sum(one.is_failure for one in found)
    tables = len({one.table for one in found})
    told = f"{len(found)} checks of {tables} tables: {errors} broken, {len(broken) - errors} warnings"
    click.echo(told, err=True)
