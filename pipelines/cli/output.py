"""Rows for people and for programs: a table, CSV or JSON lines on standard output."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import click

from pipelines.text import shortened

FORMATS = ("table", "csv", "json")
_WIDEST = 60
# Commands to a terminal, halves of surrogate pairs, and whatever else XML 1.0 does not take.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def show(names: Sequence[str], rows: Iterable[Sequence[Any]], format_name: str) -> None:
    """Write the rows; `json` is one object a line."""
    if format_name == "json":
        for row in rows:
            click.echo(json.dumps(dict(zip(names, map(plain, row), strict=True)), ensure_ascii=False))
    elif format_name == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(value, "") for value in row] for row in rows)
    else:
        _table(names, [[_shortened(_text(value, "NULL")) for value in row] for row in rows])


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(names)]
    for line in (names, ["-" * width for width in widths], *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def plain(value: Any) -> Any:
    """A value as JSON has it: times RFC 3339 in UTC, decimals as text, exact, and what is no
    finite number as text, too."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)  # NaN and Infinity are no numbers of JSON
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode(errors="replace")
    if hasattr(value, "asDict"):
        return {name: plain(inner) for name, inner in value.asDict().items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(plain(name)): plain(inner) for name, inner in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _text(value: Any, null: str) -> str:
    found = plain(value)
    if found is None:
        return null
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def printable(text: str) -> str:
    """The text with what no terminal or XML file should get as \\xNN or \\uNNNN; lines and tabs stay."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _shortened(text: str) -> str:
    return shortened(printable(text.replace("\n", "\\n")), _WIDEST)
