"""`reelhouse broker`: the embedded broker for development."""

from __future__ import annotations

import click

from pipelines.cli.main import session

_EPILOG = """\b
Examples:
  reelhouse broker start
  reelhouse broker status
  REELHOUSE_BROKER__PORT=0 reelhouse broker start
"""


@click.group(epilog=_EPILOG)
def command() -> None:
    """The embedded broker: a real single-node Kafka on 127.0.0.1, for development."""


@command.command(epilog="\b\nExample:\n  reelhouse broker start")
def start() -> None:
    """Start it, and create the configured topics; it runs on until `broker stop`."""
    from pipelines import broker

    config = session().config()
    started = broker.start(config)
    address = f"127.0.0.1:{started.port}"
    already = "already runs" if started.already_ran else "runs"
    click.echo(f"the broker {already} on {address} (process {started.pid})")
    if address not in config.kafka.bootstrap_servers.replace("localhost", "127.0.0.1").split(","):
        advice = f"set kafka.bootstrap_servers, or REELHOUSE_KAFKA__BOOTSTRAP_SERVERS, to {address} to use it"
        click.echo(f"the other verbs use {config.kafka.bootstrap_servers}: {advice}", err=True)


@command.command(epilog="\b\nExample:\n  reelhouse broker stop")
def stop() -> None:
    """Stop it; what its topics hold is kept."""
    from pipelines import broker

    click.echo("the broker is stopped" if broker.stop(session().config()) else "the broker does not run")


@command.command(epilog="\b\nExample:\n  reelhouse broker status")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show whether it runs, and the records of each topic; exit code 1 when it does not run."""
    from pipelines import broker

    found = broker.status(session().config())
    if not found.running:
        click.echo("the broker does not run; start it with `reelhouse broker start`")
        ctx.exit(1)
    click.echo(f"the broker runs on 127.0.0.1:{found.port} (process {found.pid})")
    width = max((len(name) for name in found.topics), default=5)
    click.echo(f"{'topic':<{width}}  partitions  end offsets")
    for name, ends in found.topics.items():
        offsets = " ".join(str(end) for end in ends.values())
        click.echo(f"{name:<{width}}  {len(ends):>10}  {offsets}")
