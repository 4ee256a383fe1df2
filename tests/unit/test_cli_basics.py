"""The command line: quick help, one sentence for an error, exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipelines.cli import main as cli
from pipelines.errors import ReelhouseError, UsageError, exit_code_of

HEAVY = ("pyspark", "pydantic", "kafka", "pyarrow", "delta", "jsonschema")
# The budget; the command itself takes about a tenth of it.
HELP_SECONDS = 0.5


def reelhouse(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    checkout = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REELHOUSE_")}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**environment, "PYTHONPATH": checkout, **env},
    )


def the_sentence(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error, which is all that a failure prints."""
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("reelhouse: ")
    return lines[0].removeprefix("reelhouse: ")


def test_help_shows_every_verb_within_its_budget() -> None:
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy with other tests
        began = time.monotonic()
        ran = reelhouse("--help")
        seconds.append(time.monotonic() - began)
    assert ran.returncode == 0
    assert [verb for verb in cli.VERBS if f"\n  {verb} " not in ran.stdout] == []
    assert "Examples:" in ran.stdout
    assert min(seconds) < HELP_SECONDS


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pipelines.cli.main import main; code = main(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], code)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[] 0"


def _verbs(group: click.Group = cli.reelhouse, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb, and those of a verb that has some, as words."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from _verbs(command, (*above, name))


@pytest.mark.parametrize("arguments", list(_verbs()), ids=" ".join)
def test_a_verbs_help_has_an_example(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--help"]) == 0
    told = capsys.readouterr().out
    assert "Example" in told
    assert f"reelhouse {' '.join(arguments)}" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("statis",), "there is no verb statis; did you mean status?; see `reelhouse --help`"),
        (("produce",), "missing argument 'FILE…'; see `reelhouse produce --help`"),
        (("--nonsense",), "no such option"),
        (("produce", "--rate", "0", "x.csv"), "invalid value for '--rate'"),
        (("produce", "x.txt"), "x.txt is of no known kind"),
        # Before Spark starts, and gold's stream takes what silver holds.
        (("rebuild", "user_actions"), "silver.user_actions cannot be rebuilt; the gold tables can: gold."),
        (("rebuild", "gold.media_catalog", "--from", "2026-01-05"), "gold.media_catalog has no event_date"),
        (("produce", "missing.csv"), "there is no file missing.csv"),
        (
            ("--conf", "missing.toml", "broker", "status"),
            "the configuration file missing.toml",
        ),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, expected, tmp_path: Path) -> None:
    ran = reelhouse(*arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert the_sentence(ran).startswith(expected)


def test_an_unknown_key_in_the_environment_is_one_sentence(tmp_path: Path) -> None:
    ran = reelhouse("broker", "status", cwd=tmp_path, REELHOUSE_BROKER__PROT="1")
    assert ran.returncode == 2
    assert "did you mean REELHOUSE_BROKER__PORT?" in the_sentence(ran)


def test_a_failed_operation_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "e.ndjson").write_text('{"userId": "u", "action": "play"}\n')
    ran = reelhouse("produce", "e.ndjson", cwd=tmp_path, REELHOUSE_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert ran.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in the_sentence(ran)
    assert "reelhouse broker start" in the_sentence(ran)


def test_java_is_asked_for_when_it_is_missing(tmp_path: Path) -> None:
    ran = reelhouse("broker", "start", cwd=tmp_path, JAVA_HOME=str(tmp_path))
    assert ran.returncode == 1
    assert "Java 17" in the_sentence(ran)
    assert "install Java 17" in the_sentence(ran)


@pytest.mark.parametrize(("told", "version"), [("11.0.2", 11), ("1.8.0_402", 8), ("24", 24), ("25.0.1", 25)])
def test_a_java_that_is_too_old_or_too_new_is_named(tmp_path: Path, told: str, version: int) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{told}\"' >&2\n")
    java.chmod(0o755)
    ran = reelhouse("broker", "start", cwd=tmp_path, JAVA_HOME=str(tmp_path))
    assert ran.returncode == 1
    assert the_sentence(ran).startswith(
        f"Java 17 to 21 is needed, but {java} is Java {version}; install Java 17"
    )


def test_broker_status_says_that_it_does_not_run_with_exit_code_1(tmp_path: Path) -> None:
    ran = reelhouse("broker", "status", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "reelhouse broker start" in ran.stdout


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Makes `reelhouse tables` do what a test wants."""

    def install(action) -> None:
        command = click.Command("tables", callback=action)
        monkeypatch.setattr(f"{__name__}.replaced", command, raising=False)
        monkeypatch.setitem(cli.VERBS, "tables", (f"{__name__}:replaced", ""))

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return install


def raising(error: BaseException):
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ReelhouseError("it is broken; mend it", code="broken"), 1, "it is broken; mend it"),
        (UsageError("no such thing"), 2, "no such thing"),
        (ValueError("a\nb"), 1, "ValueError: a; `reelhouse --debug VERB` tells the traceback"),
        (ZeroDivisionError(), 1, "ZeroDivisionError; `reelhouse --debug VERB` tells the traceback"),
        (OSError(28, "No space left on device"), 1, "the disk is full; free some space and try again"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_sentences_and_codes(verb, capsys, error, code, sentence) -> None:
    verb(raising(error))
    assert cli.main(["tables"]) == code
    # Click ends the line of a ^C, which may leave an empty one.
    assert capsys.readouterr().err.lstrip("\n") == f"reelhouse: {sentence}\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UsageError("no such thing"), 2, "no such thing"),
        (
            PermissionError(13, "Permission denied", ".work"),
            1,
            "[Errno 13] Permission denied: '.work'; see to that, and try again",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_programs_of_make_become_sentences_and_codes(capsys, error, code, sentence) -> None:
    assert exit_code_of(raising(error)) == code
    assert capsys.readouterr().err == f"reelhouse: {sentence}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_full_disk_is_told_by_the_programs_of_make(capsys) -> None:
    assert exit_code_of(lambda: Path("/dev/full").write_text("x") and None) == 1
    assert capsys.readouterr().err == "reelhouse: the disk is full; free some space and try again\n"


@pytest.mark.parametrize("error", [ValueError("deep"), ReelhouseError("shallow")])
def test_debug_shows_the_traceback(verb, capsys, error) -> None:
    verb(raising(error))
    assert cli.main(["--debug", "tables"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "in action" in shown


def test_a_verb_that_finds_a_fault_exits_with_1(verb) -> None:
    verb(lambda: click.get_current_context().exit(1))
    assert cli.main(["tables"]) == 1


def test_a_verb_that_is_done_exits_with_0(verb) -> None:
    verb(lambda: None)
    assert cli.main(["tables"]) == 0


@pytest.mark.usefixtures("quiet_java")
@pytest.mark.parametrize(
    ("verb", "number", "seconds", "code"),
    [
        ("tables", signal.SIGINT, 0.0, 130),
        ("tables", signal.SIGINT, 1.5, 130),
        ("run", signal.SIGINT, 0.0, 0),
        ("run", signal.SIGTERM, 1.5, 0),
    ],
)
def test_a_signal_while_spark_starts_leaves_no_java_behind(
    verb: str, number: signal.Signals, seconds: float, code: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "REELHOUSE_STORAGE__ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "pipelines.cli.main", verb]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # pytest-xdist's processes ignore SIGINT, which a child inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # Not by the clock alone: on a busy machine Java may not be there yet. Its first line is of modules.
    assert process.stderr is not None
    assert b"incubator" in process.stderr.readline()
    time.sleep(seconds)
    # As a terminal does: to Java, too.
    os.killpg(process.pid, number)
    try:
        # Until nobody holds the other end of the pipe, Java neither.
        _, told = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == code, told.decode()
    if code:
        assert told.decode().strip().endswith("reelhouse: interrupted")
