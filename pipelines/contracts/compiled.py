"""A contract compiled into a condition of Spark, as far as its keywords can be.

Guarantee: where the condition holds, JSON Schema accepts the event. Where it does not, the event is in doubt.
"""

from __future__ import annotations

from collections.abc import Set
from functools import reduce
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.contracts.load import FIELD_KEYWORDS, KEYWORDS, NOTES, Fields, allows_null, kind_of
from pipelines.contracts.referee import LARGEST_NUMBER

KNOWN = KEYWORDS | NOTES
KNOWN_IN_FIELD = FIELD_KEYWORDS | NOTES
"""The keywords that are compiled: of an event, of a field. Each says the same in every draft from 07 on.

A list of `items` does not, and is not compiled; `format` does here, since the referee checks it in any draft.
"""
_KNOWN_OF_IF = frozenset({"type", "properties", "required"}) | NOTES
_KNOWN_IN_IF = frozenset({"type", "enum", "const"}) | NOTES
_TEXT_ITEM = {"type": "string"}


class _NotCompiledError(Exception):
    """A schema says what only the referee knows."""


def condition(schema: dict[str, Any], read_as: Fields, root: Column) -> Column | None:
    """The schema of an event as a condition on `root`, a struct of the fields `read_as`.

    None: it says what only the referee knows.
    """
    try:
        return _compiled(schema, read_as, root)
    except _NotCompiledError:
        return None


def _compiled(schema: Any, read_as: Fields, root: Column) -> Column:
    if _keywords(schema) - KNOWN or set(schema.get("required", ())) - read_as.keys():
        raise _NotCompiledError
    conditions = [root[name].isNotNull() for name in schema.get("required", ())]
    conditions += _of_fields(schema.get("properties", {}), read_as, root)
    if "if" in schema:
        when = _compiled(_certain(schema["if"]), read_as, root)
        conditions.append(~when | _compiled(schema.get("then", {}), read_as, root))
    return reduce(lambda a, b: a & b, conditions, F.lit(True))


def _keywords(schema: Any) -> Set[str]:
    """A schema's keywords; `true` and `false`, which are schemas too, have one that nobody knows."""
    return schema.keys() if isinstance(schema, dict) else {"true or false"}


def _certain(schema: Any) -> Any:
    """An `if` of which nothing is in doubt: what it does not pick is accepted without its `then`."""
    if _keywords(schema) - _KNOWN_OF_IF:
        raise _NotCompiledError
    fields = schema.get("properties", {})
    # A field that is null is there, which a column does not tell.
    may_be_null = [name for name in schema.get("required", ()) if allows_null(fields.get(name, {}))]
    if may_be_null or any(_keywords(field) - _KNOWN_IN_IF for field in fields.values()):
        raise _NotCompiledError
    return schema


def _of_fields(fields: Fields, read_as: Fields, root: Column) -> list[Column]:
    if fields.keys() - read_as.keys():
        raise _NotCompiledError
    return [c for name, field in fields.items() for c in _of_field(field, read_as[name], root[name])]


def _of_field(field: dict[str, Any], read_as: dict[str, Any], column: Column) -> list[Column]:
    if _keywords(field) - KNOWN_IN_FIELD or not _is_read_as(field, read_as):
        raise _NotCompiledError
    kind, least = kind_of(read_as), field.get("minimum")
    listed = [field[word] if word == "enum" else [field[word]] for word in ("enum", "const") if word in field]
    if any(not isinstance(value, str | None) for values in listed for value in values):
        raise _NotCompiledError
    if (listed and kind != "string") or (least is not None and kind != "number"):
        raise _NotCompiledError
    found = [column.isin(*[value for value in values if value is not None]) for values in listed]
    if kind == "number":  # neither too large for its column nor NaN
        found.append(column.between(-LARGEST_NUMBER if least is None else least, LARGEST_NUMBER))
    # A double is rounded: what is equal to a minimum may have been a little less, so it is in doubt; what is
    # less than 0 shows by its sign.
    if least:
        found.append(column != least)
    found = [column.isNull() | one for one in found]
    return found + _of_fields(field.get("properties", {}), read_as.get("properties", {}), column)


def _is_read_as(field: dict[str, Any], read_as: dict[str, Any]) -> bool:
    """Whether what is read as a value of one schema has the type, the format and the items of another."""
    whole, items = {**read_as, **field}, field.get("items", _TEXT_ITEM)
    types = whole["type"] if isinstance(whole["type"], list) else [whole["type"]]
    return (
        len({*types} - {"null"}) == 1
        and kind_of(whole) == kind_of(read_as)
        and whole.get("format", "date-time") == "date-time"
        and isinstance(items, dict)
        and {word: told for word, told in items.items() if word not in NOTES} == _TEXT_ITEM
    )
