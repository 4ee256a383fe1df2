"""`reelhouse backtest`: what this checkout would change, before it is deployed."""

from __future__ import annotations

from datetime import datetime

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import FORMATS, show
from pipelines.cli.times import TIME, utc

_EPILOG = """\b
Examples:
  reelhouse backtest
  reelhouse backtest --since 2026-01-05 --threshold 0.5
  reelhouse backtest --format json
"""
_NAMES = ("what", "where", "name", "rows", "percent", "before", "after", "example")


@click.command(epilog=_EPILOG)
@click.option(
    "--since",
    type=TIME,
    help="Records that came into bronze at this time (UTC) or later (default: 24 hours before its newest).",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    default=0.0,
    show_default=True,
    help="Exit with 1 when more of the records, or of a gold table's rows, differ.",
)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_context
def command(ctx: click.Context, since: datetime | None, threshold: float, format_name: str) -> None:
    """Run this checkout's contracts and transforms over recent bronze, and compare with what the tables hold.

    Shows records that would newly be quarantined, accepted or copies, and columns and gold measures that
    would change; before and after are sums for numbers of gold, else the values of the example. A column that
    a table does not have yet is shown and does not count. Nothing is written, and the streams may run. All
    of gold is computed, as by `reelhouse rebuild`, and costs as much.
    """
    from pipelines.engine.backtest import backtest
    from pipelines.engine.backtest_gold import backtest_gold

    lake, config = open_lake("backtest")
    found = backtest(lake, config, utc(since))
    gold, in_gold, notes = backtest_gold(lake, config, found)
    rows = [
        (d.what, d.where, d.name, d.rows, round(d.percent, 4), d.before, d.after, d.example)
        for d in [*found.differences, *in_gold]
    ]
    if rows or format_name != "table":
        show(_NAMES, rows, format_name)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    compared = [found.compared, *gold]
    for one in compared:
        click.echo(f"{one.where}: {one.differ:,} of {one.rows:,} differ ({one.percent:.4g} %)", err=True)
    if any(one.percent > threshold for one in compared):
        click.echo(f"more than {threshold:g} % differ", err=True)
        ctx.exit(1)
