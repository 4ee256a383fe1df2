"""`reelhouse reconcile`: prove that nothing is lost and nothing is twice."""

from __future__ import annotations

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import FORMATS, show

_EPILOG = """\b
Examples:
  reelhouse reconcile
  reelhouse reconcile --format json
"""


@click.command(epilog=_EPILOG)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_context
def command(ctx: click.Context, format_name: str) -> None:
    """Compare Kafka's offsets, bronze, silver, quarantine and gold with the ledger and with one another.

    Works while the streams run: what they have not taken yet is lag, not a fault. Exit code 1 when something
    is missing, twice or different; then it says where, down to the offsets.
    """
    from pipelines.engine.reconcile import reconcile_records
    from pipelines.engine.reconcile_gold import reconcile_gold

    lake, config = open_lake("reconcile")
    report = reconcile_records(lake, config)
    gold, notes = reconcile_gold(lake)
    findings = [*report.findings, *gold]
    balances = [(*b.place, b.records, b.silver_rows, b.duplicates, b.held) for b in report.balances]
    show(("topic", "partition", "records", "silver", "duplicates", "quarantined"), balances, format_name)
    notes = [*report.notes, *notes]
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if not findings:
        what = "what was compared adds up" if notes else "it adds up"
        click.echo(f"{what}: nothing lost, nothing twice", err=True)
        return
    click.echo(err=format_name != "table")
    rows = [(f.check, f.where, f.expected, f.found, f.detail) for f in findings]
    show(("check", "where", "expected", "found", "detail"), rows, format_name)
    click.echo(f"it does not add up: {len(findings)} findings", err=True)
    ctx.exit(1)
