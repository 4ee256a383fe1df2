"""What a JSON Schema refuses of events by another: Python has no library for it, so the rules are here.

They know the keywords that contracts use; what they cannot compare counts as a clash.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft7Validator

from pipelines.contracts.clash import Clash, listed
from pipelines.contracts.load import FIELD_KEYWORDS, KEYWORDS, NOTES

Schema = Mapping[str, Any]
_ANY = ["string", "number", "array", "object", "boolean", "null"]


def meaning(schema: Schema | bool) -> dict[str, Any]:
    """A JSON Schema without titles and descriptions, which say nothing about events."""
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    found = {key: value for key, value in schema.items() if key not in NOTES}
    if isinstance(found.get("items"), list):
        found["items"] = {"items by position": found["items"]}
    for key in ("items", "if", "then"):
        if key in found:
            found[key] = meaning(found[key])
    if "properties" in found:  # its keys are names of fields, `title` may be one
        found["properties"] = {name: meaning(field) for name, field in found["properties"].items()}
    return found


def object_clashes(reader: Schema, writer: Schema, above: str = "") -> Iterator[Clash]:
    """What a reader's schema refuses of a writer's events; `above`: the path of an object in them."""
    allowed = FIELD_KEYWORDS if above else KEYWORDS
    yield from _incomparable(reader, writer, allowed, above.rstrip(".") or "events")
    promised = writer.get("required", ())
    for name in reader.get("required", ()):
        if name not in promised:
            yield Clash(f"refuses events without {above}{name}", "may send")
    written = writer.get("properties", {})
    for name, field in reader.get("properties", {}).items():
        if name in written:
            yield from _field_clashes(field, written[name], f"{above}{name}")
    yield from _conditional_clashes(reader, writer, above)


def _incomparable(reader: Schema, writer: Schema, allowed: frozenset[str], path: str) -> Iterator[Clash]:
    for keyword in sorted((reader.keys() | writer.keys()) - allowed):
        yield Clash(f"may refuse {path}", f"send: the keyword {keyword!r} cannot be compared; leave it out")


def _field_clashes(reader: Schema, writer: Schema, path: str) -> Iterator[Clash]:
    if reader == writer:
        return
    unknown = list(_incomparable(reader, writer, FIELD_KEYWORDS, path))
    values = _values(writer)
    if unknown:
        yield from unknown
    elif "format" in reader and reader["format"] != writer.get("format"):
        yield Clash(f"expects {path} as {reader['format']}", "do not promise")
    elif values is not None:
        accepts = Draft7Validator(reader).is_valid
        refused = [value for value in values if not accepts(value)]
        if refused:
            yield Clash(f"refuses {path} {listed(refused)}", "send")
    else:
        yield from _open_clashes(reader, writer, path)


def _values(field: Schema) -> list[Any] | None:
    """Every value that the field can have; None: they are not listed."""
    if "enum" not in field and "const" not in field:
        return None
    accepts = Draft7Validator(field).is_valid
    return [value for value in field.get("enum", [field.get("const")]) if accepts(value)]


def _open_clashes(reader: Schema, writer: Schema, path: str) -> Iterator[Clash]:
    """Of a field whose producers do not list its values."""
    read, written = _types(reader), _types(writer)
    if "number" in read:
        read = [*read, "integer"]
    others = [one for one in written if one not in read and one != "null"]
    if others:
        yield Clash(f"expects {path} as {' or '.join(_types(reader))}", f"send as {' or '.join(others)}")
        return
    if "null" in written and "null" not in read:
        yield Clash(f"refuses {path} null", "may send")
    values = _values(reader)
    if values is not None:
        yield Clash(f"knows for {path} only {listed(values)}", "do not keep to")
    least = reader.get("minimum")
    if least is not None and writer.get("minimum", least - 1) < least:
        yield Clash(f"refuses {path} below {least}", "may send")
    if "items" in reader:
        yield from _field_clashes(reader["items"], writer.get("items", {}), f"{path}[]")
    if "properties" in reader:
        yield from object_clashes(reader, writer, f"{path}.")


def _types(field: Schema) -> list[str]:
    types = field.get("type", _ANY)
    return types if isinstance(types, list) else [types]


def _conditional_clashes(reader: Schema, writer: Schema, above: str) -> Iterator[Clash]:
    """What the reader's `then` refuses of events that its `if` picks."""
    condition = reader.get("if")
    if condition is None or _never(condition, writer):
        return
    promised = dict(writer)
    if writer.get("if") == condition:
        promised = _overlaid(writer, writer.get("then", {}))
    when = json.dumps(condition, ensure_ascii=False)
    for clash in object_clashes(reader.get("then", {}), promised, above):
        yield Clash(f"{clash.consumer} if {when}", clash.producer)


def _never(condition: Schema, writer: Schema) -> bool:
    """Whether no event of the writer fulfils the condition: a field or a value that it does not know."""
    fields = writer.get("properties", {})
    for name in condition.get("required", ()):
        if name not in fields:
            return True
        values, asked = _values(fields[name]), condition.get("properties", {}).get(name, {})
        if values is not None and not any(map(Draft7Validator(asked).is_valid, values)):
            return True
    return False


def _overlaid(schema: Schema, more: Schema) -> dict[str, Any]:
    """What holds when both do; of a keyword in both, the second's."""
    fields, others = schema.get("properties", {}), more.get("properties", {})
    return {
        "required": [*schema.get("required", ()), *more.get("required", ())],
        "properties": {**fields, **{name: {**fields.get(name, {}), **one} for name, one in others.items()}},
    }
