"""`reelhouse produce`: publish files of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipelines.cli.main import session
from pipelines.cli.progress import progress

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.contracts.encode import Encoder

_EPILOG = """\b
Examples:
  reelhouse produce events.ndjson
  reelhouse produce --rate 1000 monday.parquet tuesday.parquet
  reelhouse produce --topic media.user-actions plays.csv
  reelhouse produce --encoding json,avro,protobuf events.ndjson
"""


@click.command(epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second (default: no limit)."
)
@click.option("--topic", help="Publish everything to this topic (default: told by each event).")
@click.option(
    "--encoding",
    metavar="NAME[,NAME…]",
    help="json, avro or protobuf, told by headers; several take turns (default: as the file has it).",
)
@click.option(
    "--registry", is_flag=True, help="In Confluent's wire format, by the ids of the schema registry."
)
def command(
    files: tuple[str, ...], rate: float | None, topic: str | None, encoding: str | None, registry: bool
) -> None:
    """Publish the events of FILES: NDJSON (also - for standard input), CSV or Parquet.

    Each line or row is an event, whose topic and key are told by its fields, or an envelope as
    `reelhouse simulate` writes it. Returns when the broker has acknowledged all of them.
    """
    from pipelines.produce import produce

    config = session().config()
    encode = _encoder(config, encoding or "json", registry) if encoding or registry else None
    with progress("producing", "produced {} events") as report:
        done = produce(config, files, topic=topic, rate=rate, encode=encode, progress=report)
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(done.by_topic.items()))
    speed = done.count / max(done.seconds, 0.001)
    listed = f": {parts}" if parts else ""
    click.echo(f"produced {done.count:,} events in {done.seconds:.1f} s ({speed:,.0f}/s){listed}")
    if encode and encode.left:
        click.echo(f"{encode.left:,} of them fulfil no contract and went out as they were", err=True)


def _encoder(config: Config, names: str, by_registry: bool) -> Encoder:
    from pipelines import topics
    from pipelines.contracts.encode import Encoder
    from pipelines.contracts.publish import ids_of, publish, require_encodings
    from pipelines.registry import Registry

    chosen = tuple(name.strip() for name in names.split(","))
    require_encodings(chosen)
    types = topics.event_types(config)
    if not by_registry:
        return Encoder(chosen, types, None)
    published = publish(Registry.of(config.registry), topics.by_event_type(config), set(chosen))
    return Encoder(chosen, types, ids_of(published))
