"""The entry point: finds the verb, loads only its module, and turns errors into one sentence."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipelines.errors import ReelhouseError, disk_full
from pipelines.text import nearest

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.engine.lake import Lake

# verb: (module:attribute, short help). Here and not in the modules, so that --help imports none of them.
VERBS = {
    "broker": ("pipelines.cli.broker:command", "Start, stop or show the embedded broker for development."),
    "produce": ("pipelines.cli.produce:command", "Publish events from NDJSON, CSV or Parquet files."),
    "simulate": ("pipelines.cli.simulate:command", "Write realistic, reproducible events with ground truth."),
    "run": ("pipelines.cli.run:command", "Run the streams: bronze, silver and gold."),
    "status": ("pipelines.cli.status:command", "Show the streams' lag, the tables' freshness, and health."),
    "sql": ("pipelines.cli.sql:command", "Query the tables: one query, or a prompt."),
    "tables": ("pipelines.cli.tables:command", "Show the catalogue of tables, or one of them."),
    "check": ("pipelines.cli.check:command", "Check the tables by their suites of Great Expectations."),
    "quarantine": ("pipelines.cli.quarantine:command", "Look at held records; release those that pass now."),
    "schemas": ("pipelines.cli.schemas:command", "Look at the contracts, check and release them."),
    "reconcile": ("pipelines.cli.reconcile:command", "Prove that nothing is lost and nothing is twice."),
    "backtest": ("pipelines.cli.backtest:command", "Show what this checkout's code would change."),
    "rebuild": ("pipelines.cli.rebuild:command", "Recompute gold tables from silver."),
}
_EPILOG = """\b
Examples:
  reelhouse broker start
  reelhouse produce events.ndjson
  reelhouse run --available-now
  reelhouse sql "SELECT * FROM gold.media_daily LIMIT 10"
"""


class Session:
    """What the verbs share: the options before the verb, and the configuration, loaded when first asked."""

    def __init__(self) -> None:
        self.conf: str | None = None
        self.debug = False
        self._config: Config | None = None

    def config(self) -> Config:
        """The configuration of --conf and the environment. Raises UsageError."""
        if self._config is None:
            from pipelines.config import load_config

            self._config = load_config(self.conf)
        return self._config


def session() -> Session:
    """The session of the running command."""
    found: Session = click.get_current_context().find_root().obj
    return found


def open_lake(name: str) -> tuple[Lake, Config]:
    """The configured lake in a Spark session of this name, and the configuration. Raises ReelhouseError."""
    from pipelines.engine.lake import Lake
    from pipelines.session import open_session

    config = session().config()
    return Lake.of(open_session(config, name), config), config


class _Verbs(click.Group):
    """A group that knows its verbs' names and short help, and imports a verb only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, attribute = VERBS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            hint = nearest(args[0], VERBS, f"the verbs are {', '.join(VERBS)}", cutoff=0.5)
            ctx.fail(f"there is no verb {args[0]}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib import metadata

        click.echo(f"reelhouse {metadata.version('reelhouse')}")
        ctx.exit()


@click.group(
    cls=_Verbs,
    epilog=_EPILOG,
    subcommand_metavar="VERB …",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--conf", metavar="FILE", help="Configuration (default: conf/local.toml when it exists).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("--version", is_flag=True, callback=_show_version, expose_value=False, is_eager=True)
@click.pass_obj
def reelhouse(session: Session, conf: str | None, debug: bool) -> None:
    """Streams of media events from Kafka to bronze, silver and gold tables.

    Any key of the configuration is overridden by a variable REELHOUSE_SECTION__KEY, for instance
    REELHOUSE_STORAGE__ROOT. Exit codes: 0 done, 1 failed or found a fault, 2 usage.
    """
    session.conf, session.debug = conf, debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 failed or found a fault, 2 usage, 130 interrupted."""
    shared = Session()
    try:
        args = None if arguments is None else list(arguments)
        returned = reelhouse.main(args, prog_name="reelhouse", obj=shared, standalone_mode=False)
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except ReelhouseError as error:
        return _fail(str(error), error.exit_code, shared.debug)
    except click.ClickException as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130, False)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _unexpected(error, shared)


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "reelhouse"
    sentence = error.format_message().rstrip(".").replace(". (", " (")
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    return _fail(f"{sentence[:1].lower()}{sentence[1:]}; see `{path} --help`", error.exit_code, False)


def _unexpected(error: Exception, shared: Session) -> int:
    debug = shared.debug
    if (known := disk_full(error) or _of_spark(error, shared)) is not None:
        return _fail(str(known), known.exit_code, debug)
    lines = str(error).strip().splitlines()
    sentence = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return _fail(f"{sentence}{'' if debug else '; `reelhouse --debug VERB` tells the traceback'}", 1, debug)


def _of_spark(error: Exception, shared: Session) -> ReelhouseError | None:
    """The sentence when Spark failed at the storage, or ended: any statement may be the one that meets it."""
    if "pyspark" not in sys.modules:
        return None
    from pipelines.engine.storage_errors import causes, storage_failure
    from pipelines.java import java_ended

    if isinstance(error, ConnectionError):  # to Java: the storage's reach us as Spark's
        return java_ended()
    try:
        return storage_failure(shared.config().storage.location, "\n".join(causes(error)))
    except Exception:  # Java has gone, and tells no causes
        return java_ended()


def _fail(sentence: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"reelhouse: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
