"""Patterns of JSON texts that a contract's types allow beyond doubt, compiled from its fields.

Spark's JSON parser is lenient: it reads a number as text and text as a number, and stops at the object's end.
A text that matches leaves it no choice: one object, nothing behind it, each known field of its declared type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipelines.contracts.load import is_nullable, kind_of

_SPACE = r"[ \t\n\r]*+"
_PAIR = r"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = rf'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{{4}}|{_PAIR})'
_PLAIN = r'[^"\\]*+'
_STRING = rf'"{_PLAIN}(?:{_ESCAPE}{_PLAIN})*+"'
_UNSIGNED = r"(?:0|[1-9]\d{0,30}+)(?:\.\d{1,30}+)?(?:[eE][+-]?\d{1,2})?"
_NUMBER = rf"-?{_UNSIGNED}"
_TIME = r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-7]):[0-5]\d)"'


def pattern_of(fields: Mapping[str, dict[str, Any]]) -> str:
    """A Java pattern of a whole text: one object of these fields and of others, one level deep."""
    return rf"^{_SPACE}{_object(fields)}{_SPACE}\z"


def _object(fields: Mapping[str, dict[str, Any]]) -> str:
    known = [rf'{re.escape(name)}"{_SPACE}:{_SPACE}{_value(field)}' for name, field in fields.items()]
    names = "|".join(map(re.escape, fields))
    other = rf'(?!(?:{names})"){_PLAIN}"{_SPACE}:{_SPACE}{_anything()}'
    member = "|".join([*known, other])
    return r"\{" + _listed(f'"(?>{member})', r"\}")


def _listed(element: str, end: str) -> str:
    """Elements with commas between them, up to the bracket `end`."""
    return rf"{_SPACE}(?:{element}{_SPACE}(?:,{_SPACE}(?!{end})|(?={end})))*+{end}"


def _value(field: dict[str, Any]) -> str:
    kind = kind_of(field)
    if kind == "object":
        found = _object(field["properties"])
    else:
        found = {
            "string": _STRING,
            "date-time": _TIME,
            # A little less than 0 would be rounded to 0 before it is compared.
            "number": _UNSIGNED if field.get("minimum") == 0 else _NUMBER,
            "integer": r"-?\d{1,9}+(?![.eE\d])",
            "array": r"\[" + _listed(_STRING, r"\]"),
        }[kind]
    return f"(?>{found}|null)" if is_nullable(field) else found


def _anything() -> str:
    """A value of a field that the contract does not know: a scalar, or a list or an object of scalars."""
    scalar = rf"(?>{_STRING}|{_NUMBER}|true|false|null)"
    member = rf"{_STRING}{_SPACE}:{_SPACE}{scalar}"
    listed, nested = _listed(scalar, r"\]"), _listed(member, r"\}")
    return rf"(?>{scalar}|\[{listed}|\{{{nested})"
