"""A record's value for people, decoded as far as it can be, with its faults pointed at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.cli.output import printable
from pipelines.text import shortened

Reason = tuple[str, str, str]
"""Code, field, message."""
_WIDEST = 100
_MOST_LINES = 60
_AROUND = 16


def pointed(value: bytes | None, event: Any, reasons: Sequence[Reason]) -> Iterator[str]:
    """The lines: the event field by field, text, or bytes; each fault beside its field, the others first.

    `event` is what the value says, as far as it could be read; None: it could not.
    """
    shown: set[str] = set()
    lines: list[str] = []
    for path, line in _lines(event) if event is not None else _raw(value):
        marks = [f"{code}: {message}" for code, field, message in reasons if field and field == path]
        if marks:
            shown.add(path)
        lines.append(f"{_short(line)}{'   ◄ ' if marks else ''}{'; '.join(map(_short, marks))}")
    for code, field, message in reasons:
        if field not in shown:
            yield f"◄ {code}{f' {printable(field)}' if field else ''}: {_short(message)}"
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"… {len(lines) - _MOST_LINES} more lines"


def _lines(value: Any, path: str = "", indent: str = "") -> Iterator[tuple[str, str]]:
    """Each field on a line of its own, with its path."""
    if not isinstance(value, dict):
        yield path, f"{indent}{json.dumps(value, ensure_ascii=False, default=str)}"
        return
    for name, inner in value.items():
        inside = f"{path}.{name}" if path else name
        if isinstance(inner, dict) and inner:
            yield inside, f"{indent}{name}:"
            yield from _lines(inner, inside, indent + "  ")
        else:
            yield inside, f"{indent}{name}: {json.dumps(inner, ensure_ascii=False, default=str)}"


def _raw(value: bytes | None) -> Iterator[tuple[str, str]]:
    if value is None:
        yield "", "(no value)"
        return
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        start = max(0, error.start - _AROUND)
        yield "", f"bytes {start} to {error.start + _AROUND}: {value[start : error.start + _AROUND].hex(' ')}"
        text = value.decode(errors="replace")
    for line in text.splitlines():
        yield "", line


def _short(text: str) -> str:
    return shortened(printable(text), _WIDEST)
