"""How far long work has come: a bar on a terminal, a line now and then when piped; both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_SECONDS_BETWEEN_LINES = 5.0
Report = Callable[[int, "float | None"], None]
"""Called with how many are done, and with the share (0 to 1) of all; None: how many there are is unknown."""


@contextmanager
def progress(doing: str, done: str) -> Iterator[Report]:
    """What to call; `doing` labels the bar ("producing"), `done` the line ("produced {} events")."""
    if not sys.stderr.isatty():
        yield _lines(done)
        return
    with click.progressbar(length=1000, label=doing, file=sys.stderr, show_pos=False) as bar:
        shown = 0

        def report(count: int, share: float | None) -> None:
            nonlocal shown
            thousandths = int(1000 * (share or 0))
            bar.label = f"{doing} {count:,}"
            bar.update(thousandths - shown)
            shown = thousandths

        yield report


def _lines(done: str) -> Report:
    last = time.monotonic()

    def report(count: int, share: float | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            told = "" if share is None else f" ({share:.0%})"
            click.echo(done.format(f"{count:,}") + told, err=True)

    return report
