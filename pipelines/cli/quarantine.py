"""`reelhouse quarantine`: look at held records, and release those that pass now."""

from __future__ import annotations

from datetime import datetime

import click

from pipelines.cli.main import open_lake
from pipelines.cli.output import FORMATS, show
from pipelines.cli.times import TIME, utc

_EPILOG = """\b
Examples:
  reelhouse quarantine list
  reelhouse quarantine show --reason unknown_version --limit 3
  reelhouse quarantine replay --reason unknown_version --dry-run
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Look at the records that no contract accepts, and release them after a fix."""


@command.command("list", epilog=_EPILOG)
@click.option("--released", is_flag=True, help="Those that were released, instead of those that are held.")
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
def list_(released: bool, format_name: str) -> None:
    """Count the held records by event, version, and each of their reasons."""
    from pyspark.sql import functions as F

    from pipelines.silver import quarantine

    state = "released_at IS NOT NULL" if released else "released_at IS NULL"
    lake, _ = open_lake("quarantine")
    reasons = lake.read(quarantine.TABLE).where(state).withColumn("reason", F.explode("reasons"))
    groups = reasons.groupBy("event_type", "schema_version", "reason.code", "reason.field").agg(
        F.count("*").alias("records"),
        F.min("quarantined_at").alias("first_held"),
        F.max("quarantined_at").alias("last_held"),
    )
    found = groups.orderBy(F.desc("records"), "code", "field")
    show(found.columns, found.collect(), format_name)


@command.command("show", epilog=_EPILOG)
@click.option("--reason", help="Only with this code among the reasons.")
@click.option("--event", "event_type", help="Only of this event type.")
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="At most so many.")
def show_(reason: str | None, event_type: str | None, limit: int) -> None:
    """Show held records, decoded as far as they can be, with the faults pointed at; the newest first."""
    from pyspark.sql import functions as F

    from pipelines import topics
    from pipelines.cli.pointed import pointed
    from pipelines.contracts.binary import encoding
    from pipelines.contracts.decode import header, record_time
    from pipelines.contracts.reading import Told, as_told
    from pipelines.contracts.schema_ids import SchemaIds
    from pipelines.engine.replay import Wanted
    from pipelines.silver import quarantine

    lake, config = open_lake("quarantine")
    held = lake.read(quarantine.TABLE).where(Wanted(_codes(reason), event_type).condition())
    newest = held.orderBy(F.desc("timestamp"), "topic", "partition", "offset").limit(limit)
    ids = SchemaIds(config)
    told = newest.withColumn("timestamp", record_time()).select(
        "*",
        encoding(topics.encodings(config)).alias("encoding"),
        header("schema-version").alias("told_version"),
    )
    for row in told.collect():
        at = row["timestamp"].isoformat(timespec="milliseconds")
        version = "" if row["schema_version"] is None else f" version {row['schema_version']}"
        kind = f"{row['event_type'] or 'no event type'}{version}"
        click.echo(f"{row['topic']} partition {row['partition']} offset {row['offset']} at {at}Z: {kind}")
        value = None if row["value"] is None else bytes(row["value"])
        beside = Told(row["timestamp"], row["encoding"], row["told_version"])
        event = as_told(row["event_type"], value, beside, ids)
        for line in pointed(value, event, [(r["code"], r["field"], r["message"]) for r in row["reasons"]]):
            click.echo(f"  {line}")
        click.echo()


@command.command("replay", epilog=_EPILOG)
@click.option("--reason", help="Only with this code among the reasons.")
@click.option("--event", "event_type", help="Only of this event type.")
@click.option("--since", type=TIME, help="Only held at this time (UTC) or later.")
@click.option("--dry-run", is_flag=True, help="Only say how many would pass.")
def replay_(reason: str | None, event_type: str | None, since: datetime | None, dry_run: bool) -> None:
    """Judge held records anew by the contracts of now; release those that pass, each once.

    `reelhouse run` must not run meanwhile. A replay that is interrupted is made whole by the next one.
    """
    from pipelines.engine.replay import Wanted, replay
    from pipelines.engine.stream import Streams

    lake, config = open_lake("quarantine")
    wanted = Wanted(_codes(reason), event_type, utc(since))
    if not dry_run:
        # What bronze holds goes first, so that no batch is half done.
        Streams(lake.spark, config, ["silver"], lambda line: click.echo(line, err=True)).run(True)
    told = replay(lake, config, wanted, dry_run)
    names = ("event_type", "reason", "held", "would_pass" if dry_run else "released")
    show(names, [(one.event_type, one.code, one.held, one.passing) for one in told], "table")
    held, passing = sum(one.held for one in told), sum(one.passing for one in told)
    done = "would be released" if dry_run else "were released; `reelhouse run` takes them into gold"
    click.echo(f"\n{passing:,} of {held:,} records {done}")


def _codes(reason: str | None) -> tuple[str, ...]:
    return () if reason is None else (reason,)
