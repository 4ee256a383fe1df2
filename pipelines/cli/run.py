"""`reelhouse run`: run the streams."""

from __future__ import annotations

import signal
import time
from typing import Any

import click

from pipelines.cli.main import session
from pipelines.errors import ReelhouseError, UsageError

_EPILOG = """\b
Examples:
  reelhouse run
  reelhouse run --available-now
  reelhouse run --layers bronze,silver
"""
_LAYERS = ("bronze", "silver", "gold")


@click.command(epilog=_EPILOG)
@click.option("--layers", default=",".join(_LAYERS), show_default=True, help="Which streams, by commas.")
@click.option("--available-now", is_flag=True, help="Take what is there, and end.")
def command(layers: str, available_now: bool) -> None:
    """Run the streams from Kafka to bronze, silver and gold.

    Until SIGTERM or Ctrl-C, which finish the running batch and exit with 0; with --available-now until what
    is there has gone through. Killed at any moment, the next run goes on exactly where this one was.
    """
    from py4j.protocol import Py4JError

    from pipelines import submitted
    from pipelines.engine.stream import Streams
    from pipelines.session import open_session

    chosen = _parse(layers)
    config = session().config()
    stopping: list[bool] = []
    running: list[Streams] = []

    def stop(*_: Any) -> None:
        if not stopping:  # a signal to a whole process group comes twice: to Java and to Python
            click.echo("stopping after the running batch", err=True)
        stopping.append(True)
        for one in running:
            one.stop()

    # Spark takes seconds to start, in which a scheduler may think better of it, and may stop Java as well.
    signal.signal(signal.SIGTERM, stop)
    try:
        spark = open_session(config, f"run {','.join(chosen)}")
    except (ReelhouseError, KeyboardInterrupt) as error:
        if stopping or isinstance(error, KeyboardInterrupt):
            return
        raise
    signal.signal(signal.SIGINT, stop)  # afterwards: PySpark has put a handler of its own
    streams = Streams(spark, config, chosen, report=lambda line: click.echo(line, err=True))
    running.append(streams)
    if stopping:
        return
    if submitted.is_submitted():
        submitted.on_java_signals(stop)
    if not available_now:
        click.echo(f"running {', '.join(chosen)} into {config.storage.root}; Ctrl-C ends it", err=True)
    began = time.monotonic()
    try:
        taken = streams.run(available_now)
    except (Py4JError, ConnectionError):
        if not stopping:
            raise
        # Who stops a whole process group stops Spark's Java as well: the batch is taken again next time.
        click.echo("stopped; the running batch is taken again by the next run", err=True)
        return
    parts = ", ".join(f"{of.layer} {of.records:,}" for of in taken)
    click.echo(f"done in {time.monotonic() - began:.1f} s; records taken: {parts}")


def _parse(layers: str) -> list[str]:
    chosen = [name.strip() for name in layers.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in _LAYERS]
    if unknown or not chosen:
        named = ", ".join(unknown) or "nothing"
        raise UsageError(f"--layers {named}: the layers are {', '.join(_LAYERS)}", code="unknown_layer")
    return chosen
