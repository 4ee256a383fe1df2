"""`reelhouse status`: how the streams and the tables are."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import plain, show

if TYPE_CHECKING:
    from pipelines.engine.stream_facts import StreamFacts

_EPILOG = """\b
Examples:
  reelhouse status
  reelhouse status --json
"""
_HEADINGS = ("stream", "health", "lag (records)", "lag (s)", "last batch", "records", "records/s", "idle (s)")
_UNHEALTHY = ("stalled", "source unreachable", "source lost", "never started")


@click.command(epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show each stream's lag, rate and last batch, and each table's rows and freshness.

    Exit code 1 when a stream is unhealthy: stalled for 5 minutes with work left, never started, or its source
    does not answer or is gone. The layers of a process take turns: while it works on one, none is stalled.
    """
    from pipelines.engine.facts import quarantined, table_facts
    from pipelines.engine.stream_facts import stream_facts
    from pipelines.tables import TABLES

    lake, config = open_lake("status")
    streams = stream_facts(lake, config)
    tables = [table_facts(lake, table) for table in TABLES]
    held = quarantined(lake)
    healthy = not any(stream.health in _UNHEALTHY for stream in streams)
    if as_json:
        shown = {
            "healthy": healthy,
            "quarantined": held,
            "streams": {
                s.layer: {
                    "lag_records": s.lag.records if s.lag else None,
                    "lag_seconds": s.lag.seconds if s.lag else None,
                    "last_batch": s.last_batch,
                    "last_batch_at": plain(s.last_batch_at),
                    "last_batch_records": s.last_batch_records,
                    "last_batch_records_per_second": s.last_batch_rate and round(s.last_batch_rate),
                    "idle_seconds": _seconds_since(s.last_batch_at),
                    "health": s.health,
                }
                for s in streams
            },
            "tables": {
                t.table.full_name: {"rows": t.rows, "fresh_until": plain(t.fresh_until)} for t in tables
            },
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        show(_HEADINGS, [_row(s) for s in streams], "table")
        click.echo()
        show(
            ("table", "rows", "fresh until"),
            [(t.table.full_name, t.rows, t.fresh_until) for t in tables],
            "table",
        )
        click.echo(f"\nquarantined: {held:,} records; healthy: {'yes' if healthy else 'no'}")
    if not healthy:
        ctx.exit(1)


def _row(s: StreamFacts) -> tuple[Any, ...]:
    lag = (s.lag.records, s.lag.seconds) if s.lag else (None, None)
    rate = None if s.last_batch_rate is None else round(s.last_batch_rate)
    return (
        s.layer,
        s.health,
        *lag,
        s.last_batch,
        s.last_batch_records,
        rate,
        _seconds_since(s.last_batch_at),
    )


def _seconds_since(moment: datetime | None) -> int | None:
    return None if moment is None else int((datetime.now(timezone.utc) - moment).total_seconds())
