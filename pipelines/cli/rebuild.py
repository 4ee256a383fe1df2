"""`reelhouse rebuild`: recompute gold tables."""

from __future__ import annotations

import time
from datetime import datetime

import click

from pipelines.cli.main import open_lake

_EPILOG = """\b
Examples:
  reelhouse rebuild gold.media_daily
  reelhouse rebuild gold.playbacks gold.media_daily gold.audience_daily --from 2026-01-05
"""


@click.command(epilog=_EPILOG)
@click.argument("tables", nargs=-1, required=True, metavar="TABLE…")
@click.option(
    "--from", "since", type=click.DateTime(["%Y-%m-%d"]), help="Only rows of this UTC date and later ones."
)
def command(tables: tuple[str, ...], since: datetime | None) -> None:
    """Recompute gold TABLES from silver.

    First the gold stream takes what silver holds; `reelhouse run` must not run meanwhile. Readers see the
    former table until the new one is whole.
    """
    from pipelines.engine.locks import only_writer
    from pipelines.engine.rebuild import rebuild, require_rebuildable
    from pipelines.engine.stream import Streams
    from pipelines.tables import table_named

    chosen, first = [table_named(name) for name in tables], since.date() if since else None
    require_rebuildable(chosen, first)
    lake, config = open_lake("rebuild")
    began = time.monotonic()
    # Silver is held too, so that gold has taken all of it when it is computed anew.
    with only_writer(lake, ["silver"]):
        Streams(lake.spark, config, ["gold"], lambda line: click.echo(line, err=True)).run(available_now=True)
        with only_writer(lake, ["gold"]):
            rebuild(lake, config, chosen, first)
    names = ", ".join(table.full_name for table in chosen)
    click.echo(f"rebuilt {names} in {time.monotonic() - began:.1f} s")
