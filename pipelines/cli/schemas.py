"""`reelhouse schemas`: look at the contracts, check them, and record them as released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipelines.cli.main import session
from pipelines.cli.output import FORMATS, show

if TYPE_CHECKING:
    from pipelines.contracts.check import Fault

_EPILOG = """\b
Examples:
  reelhouse schemas list
  reelhouse schemas check
  reelhouse schemas release
  reelhouse schemas publish
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """Look at the contracts of schemas/, check them, and record new versions as released."""


@command.command("list", epilog=_EPILOG)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
def list_(format_name: str) -> None:
    """Show every version of every event, whether it is released, and what a new one may change."""
    from pipelines.contracts.load import contracts, event_types, settings
    from pipelines.contracts.released import read_lock

    lock = read_lock()
    rows = []
    for event in event_types():
        told = settings(event)
        for version, one in contracts(event).items():
            facts = (version in lock.get(event, {}), told.compatibility, len(one.fields))
            rows.append((event, version, *facts, ", ".join(one.required), ", ".join(told.identity)))
    names = ("event", "version", "released", "compatibility", "fields", "required", "identity")
    show(names, rows, format_name)


@command.command("check", epilog=_EPILOG)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
@click.pass_context
def check_(ctx: click.Context, format_name: str) -> None:
    """Check that the files of a version agree, released ones are unchanged, and new ones break nobody.

    Every fault is printed, with what breaks for whom. Exit code 1 when there is one.
    """
    from pipelines.contracts.check import Fault, faults
    from pipelines.contracts.released import read_lock

    lock = read_lock()
    missing = Fault("released", "", "schemas/released.json holds no version; put it back")
    if not _is_sound([*faults(lock)] if lock else [missing, *faults(lock)], format_name):
        ctx.exit(1)


@command.command("release", epilog=_EPILOG)
@click.pass_context
def release_(ctx: click.Context) -> None:
    """Record the new versions as released, when `check` finds no fault: from then on they never change."""
    from pipelines.contracts.check import faults
    from pipelines.contracts.released import read_lock, release

    lock = read_lock()
    if not _is_sound([*faults(lock)], "table"):
        ctx.exit(1)
    added = release(lock)
    for one in added:
        click.echo(f"{one.event_type} {one.version} is released")
    if not added:
        click.echo("nothing is new: every version was released before", err=True)


@command.command("publish", epilog=_EPILOG)
@click.option("--format", "format_name", type=click.Choice(FORMATS), default="table", show_default=True)
def publish_(format_name: str) -> None:
    """Register every version in the schema registry (registry.url), in all three encodings.

    Again changes nothing: what is registered keeps its id.
    """
    from pipelines import topics
    from pipelines.contracts.publish import publish
    from pipelines.registry import Registry

    config = session().config()
    found = publish(Registry.of(config.registry), topics.by_event_type(config))
    names = ("event", "version", "encoding", "subject", "id")
    rows = [(p.event_type, p.version, p.encoding, p.subject, p.schema_id) for p in found]
    show(names, rows, format_name)


def _is_sound(found: Sequence[Fault], format_name: str) -> bool:
    """Print the faults; returns whether there are none."""
    if format_name == "table":  # in whole sentences, which a table would cut
        for one in found:
            click.echo(one.fault)
    else:
        show(("check", "event", "fault"), found, format_name)
    faults = "1 fault" if len(found) == 1 else f"{len(found)} faults"
    click.echo(faults if found else "the contracts are sound", err=True)
    return not found
