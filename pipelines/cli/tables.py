"""`reelhouse tables`: the catalogue."""

from __future__ import annotations

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import FORMATS, show

_EPILOG = """\b
Examples:
  reelhouse tables
  reelhouse tables gold.playbacks
  reelhouse tables --format json
"""


@click.command(epilog=_EPILOG)
@click.argument("name", required=False)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
def command(name: str | None, format_name: str) -> None:
    """Show every table with its grain, rows and freshness, or the columns of the one with this NAME."""
    from pipelines.engine.facts import table_facts
    from pipelines.tables import TABLES, table_named

    chosen = table_named(name) if name else None
    lake, _ = open_lake("tables")
    facts = [table_facts(lake, table) for table in ([chosen] if chosen else TABLES)]
    if chosen is None:
        rows = [(f.table.full_name, f.rows, f.fresh_until, f.table.grain) for f in facts]
        show(("table", "rows", "fresh_until", "grain"), rows, format_name)
        return
    if format_name == "table":
        click.echo(f"{chosen.full_name}: {chosen.comment}")
        click.echo(f"one row: {chosen.grain}; unique by {', '.join(chosen.keys)}")
        click.echo(f"rows: {_told(facts[0].rows)}; fresh until: {_told(facts[0].fresh_until)}\n")
    show(("column", "type", "comment"), [(c.name, c.type, c.comment) for c in chosen.columns], format_name)


def _told(value: object) -> str:
    return "none yet" if value is None else str(value)
