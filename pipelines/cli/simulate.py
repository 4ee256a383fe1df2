"""`reelhouse simulate`: realistic, reproducible events with the ground truth beside them."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from pipelines.cli.main import session
from pipelines.cli.progress import progress
from pipelines.errors import UsageError

_EPILOG = """\b
Examples:
  reelhouse simulate --users 400 --days 7 --seed 1
  reelhouse simulate --users 50 --days 2 --seed 7 --out /tmp/small
  reelhouse simulate --users 400 --days 7 --seed 1 --rate 1000
"""


@click.command(epilog=_EPILOG)
@click.option("--users", type=click.IntRange(min=1), default=400, show_default=True, help="Viewers (count).")
@click.option("--days", type=click.IntRange(min=1), default=7, show_default=True, help="Simulated days.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed writes the same bytes.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Publish to Kafka as well, at this many events a second (default: write the files only).",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    default=".work/simulation",
    show_default=True,
    help="Folder to write to.",
)
def command(users: int, days: int, seed: int, rate: float | None, out: str) -> None:
    """Write the events of a viewer model, and what must come out of them.

    OUT/events.ndjson holds the records in the order of their delivery, duplicates, late and broken ones
    among them; OUT/truth holds the counts and the gold tables' rows. `reelhouse produce` publishes the
    events; with --rate this command does. A simulation of 400 users over 7 days has about 100,000 records.
    """
    from pipelines.simulate.write import EVENTS_FILE, TRUTH_FOLDER, write_simulation
    from pipelines.topics import by_event_type

    _check_past(days)
    topics = by_event_type(session().config())
    with progress("simulating", "simulated {} records") as report:
        counts = write_simulation(out, users, days, seed, topics=topics, on_progress=report)
    events, truth = Path(out) / EVENTS_FILE, Path(out) / TRUTH_FOLDER
    click.echo(
        f"wrote {counts.records.total():,} records to {events}: {counts.valid.total():,} events, "
        f"{counts.duplicates.total():,} duplicates, {counts.broken.total():,} broken; the truth is in {truth}"
    )
    if rate is None:
        click.echo(f"publish them with: reelhouse produce {events}", err=True)
    else:
        _publish(events, rate)


def _check_past(days: int) -> None:
    """Raise UsageError when the simulated time would end in the future: brokers refuse such records."""
    from pipelines.simulate.model import DEFAULT_START

    passed = (datetime.now(timezone.utc) - DEFAULT_START).days
    if days > passed:
        begins = f"the simulation begins on {DEFAULT_START:%Y-%m-%d} and must end by now"
        raise UsageError(f"{begins}; give --days {passed} or fewer", code="simulated_future")


def _publish(events: Path, rate: float) -> None:
    from pipelines.produce import produce

    with progress("producing", "produced {} events") as report:
        done = produce(session().config(), [events], rate=rate, progress=report)
    click.echo(f"produced {done.count:,} events in {done.seconds:.1f} s")
