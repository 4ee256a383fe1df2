"""Decodes and validates JSON events by Spark's own expressions, compiled from the contracts.

Guarantee: what `decode` accepts, the contract accepts, and the row is the event's. What it does not accept is
in doubt, not refused: the referee (`pipelines.contracts.referee`) decides those few.

Expressions are made once in a process and used for every batch: there are some 800 of them, each a few calls
of Java, which took longer than to decode a small batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.contracts import plain
from pipelines.contracts.load import (
    FIELD_KEYWORDS,
    KEYWORDS,
    NOTES,
    Contract,
    all_contracts,
    all_fields,
    contracts,
    event_types,
    kind_of,
    settings,
)
from pipelines.contracts.referee import Limits

NUMBER = "decimal(18,6)"
_TYPES = {"string": "string", "date-time": "string", "number": NUMBER, "array": "array<string>"}
_VERSION_HEADER = "schema-version"
_VERSION_FIELD = {"schemaVersion": {"type": "integer"}}
_CORRUPT = "_corrupt"
_HEADERS = "_headers"
_KNOWN = KEYWORDS | NOTES
_KNOWN_IN_FIELD = FIELD_KEYWORDS | {"description"}


def struct_name(event_type: str) -> str:
    """The column of `decode` that holds the fields of this event type."""
    return event_type.replace("-", "_")


def header(name: str) -> Column:
    """The text of a Kafka header; null when there is none of that name."""
    found = F.filter("headers", lambda h: h["key"] == name)
    return F.when(F.col("headers").isNotNull(), F.try_element_at(found, F.lit(1))["value"].cast("string"))


def event_type_of(types: Mapping[str, str]) -> Column:
    """The event type of `topic` by the configured names; else by the CloudEvents header `ce_type`."""
    by_topic = [F.when(F.col("topic") == topic, F.lit(event_type)) for topic, event_type in types.items()]
    ce_type = F.regexp_replace(header("ce_type"), r"^media\.", "")
    by_header = F.when(ce_type.isin(*event_types()), ce_type)
    return F.coalesce(*by_topic, by_header)


def decode(records: DataFrame, limits: Limits, version: Column | None = None) -> DataFrame:
    """The records with `schema_version`, `event_id`, `occurred_at`, a struct per event type, `accepted`.

    `records` has bronze's columns and `event_type`. `version` is given with the referee's canonical text:
    it overrides what the record tells, and nothing of the text is in doubt. No row is lost.
    """
    is_canonical = version is not None
    frame = records.select("*", *_parsed(limits.max_bytes, is_canonical), headers_told())
    told = frame.withColumn("schema_version", _told_version() if version is None else version)
    return finished(told, limits, is_canonical)


@cache
def _parsed(max_bytes: int, is_canonical: bool) -> tuple[Column, ...]:
    """The struct of each event type, from the record's value."""
    is_small, value = F.length("value") <= max_bytes, F.col("value")
    return tuple(
        F.when(is_small, parsed_text(t, value, is_canonical)).alias(struct_name(t)) for t in event_types()
    )


@cache
def headers_told() -> Column:
    """The headers that tell something of the event, as one column, which `finished` drops."""
    told = {name: header(name) for name in (_VERSION_HEADER, "ce_source", "ce_id")}
    return F.struct(*[text.alias(name) for name, text in told.items()]).alias(_HEADERS)


def finished(parsed: DataFrame, limits: Limits, is_canonical: bool = False) -> DataFrame:
    """Accept what is valid: `parsed` has a struct per event type, `schema_version` and the headers told.

    `is_canonical`: the referee has seen each number before it was rounded to its column.
    What cannot be compiled into one loop with the rest comes first, in one step: each step copies the row.
    """
    time = F.coalesce(*[F.col(f"{struct_name(t)}.timestamp") for t in event_types()])
    return (
        parsed.withColumn("occurred_at", time.try_cast("timestamp"))
        .withColumn("accepted", F.coalesce(_accepted(limits, is_canonical), F.lit(False)))
        .withColumn("event_id", F.when(F.col("accepted"), _identity()))
        .drop(_HEADERS)
    )


def parsed_text(event_type: str, payload: Column, is_canonical: bool = False) -> Column:
    """The struct of a JSON text; null where it is of another event or leaves room for doubt."""
    text = payload.cast("string")
    is_plain = F.is_valid_utf8(text)
    if not is_canonical:
        is_plain = is_plain & text.rlike(plain.pattern_of({**all_fields(event_type), **_VERSION_FIELD}))
    options = {"columnNameOfCorruptRecord": _CORRUPT, "allowNonNumericNumbers": "false"}
    parsed = F.from_json(text, struct_type(event_type), options)
    return F.when((F.col("event_type") == event_type) & is_plain, parsed)


def struct_type(event_type: str) -> str:
    """The type of an event's struct."""
    return f"struct<{_schema(event_type)}>"


def _schema(event_type: str) -> str:
    parts = [f"`{name}`: {_type(field)}" for name, field in all_fields(event_type).items()]
    return ", ".join([*parts, "`schemaVersion`: int", f"`{_CORRUPT}`: string"])


def _type(field: dict[str, Any]) -> str:
    kind = kind_of(field)
    if kind != "object":
        return _TYPES[kind]
    inner = [f"`{name}`: {_type(sub)}" for name, sub in field["properties"].items()]
    return f"struct<{', '.join(inner)}>"


def version_in_header() -> Column:
    """The version that the header tells, -1 when it is no number; null: there is no such header."""
    told = F.col(_HEADERS)[_VERSION_HEADER]
    number = F.when(told.rlike(r"^[0-9]{1,6}$"), told.cast("int")).otherwise(F.lit(-1))
    return F.when(told.isNotNull(), number)


@cache
def _told_version() -> Column:
    fields = [F.col(f"{struct_name(t)}.schemaVersion") for t in event_types()]
    return F.coalesce(version_in_header(), *fields, F.lit(1))


@cache
def _accepted(limits: Limits, is_canonical: bool) -> Column:
    moment, recorded = F.col("occurred_at"), F.col("timestamp")
    seconds = int(limits.future.total_seconds())
    in_time = (moment >= F.lit(limits.earliest)) & (
        moment <= recorded + F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(seconds))
    )
    by_version = [
        (F.col("schema_version") == contract.version) & valid
        for contract in all_contracts()
        if (valid := _valid(contract, is_canonical)) is not None
    ]
    return in_time & reduce(lambda a, b: a | b, by_version)


def _valid(contract: Contract, is_canonical: bool) -> Column | None:
    """The contract as a condition on its struct; None: it uses a keyword that only the referee knows."""
    root = F.col(struct_name(contract.event_type))
    condition = _compiled(contract.schema, root, is_canonical)
    return None if condition is None else root.isNotNull() & root[_CORRUPT].isNull() & condition


def _compiled(schema: dict[str, Any], root: Column, is_canonical: bool) -> Column | None:
    if not schema.keys() <= _KNOWN:
        return None
    conditions = [root[name].isNotNull() for name in schema.get("required", ())]
    for name, field in schema.get("properties", {}).items():
        if not field.keys() <= _KNOWN_IN_FIELD:
            return None
        conditions += _field_conditions(field, root[name], is_canonical)
    if "if" in schema:
        when = _compiled(schema["if"], root, is_canonical)
        then = _compiled(schema.get("then", {}), root, is_canonical)
        if when is None or then is None:
            return None
        conditions.append(~when | then)
    return reduce(lambda a, b: a & b, conditions, F.lit(True))


def _field_conditions(field: dict[str, Any], column: Column, is_canonical: bool) -> list[Column]:
    found = []
    if "enum" in field:
        found.append(column.isNull() | column.isin(*[v for v in field["enum"] if v is not None]))
    if "const" in field:
        found.append(column.isNull() | (column == field["const"]))
    if "minimum" in field:
        # The column is rounded: what is equal may have been a little less, so it is in doubt. Less than 0 is
        # in doubt already, for its sign.
        least = field["minimum"]
        is_sure = is_canonical or least == 0
        found.append(column.isNull() | (column >= least if is_sure else column > least))
    for name, inner in field.get("properties", {}).items():
        found += _field_conditions(inner, column[name], is_canonical)
    return found


@cache
def _identity() -> Column:
    """`eventId`, else `ce_source` + `ce_id`, else SHA-256 over the type and the canonical fields."""
    given = [_of_version(t, "eventId") for t in event_types() if "eventId" in all_fields(t)]
    told = F.col(_HEADERS)
    return F.coalesce(*given, F.concat(told["ce_source"], told["ce_id"]), *map(_digest, event_types()))


def _of_version(event_type: str, name: str) -> Column:
    """A field, null where the record's version does not declare it."""
    versions = [c.version for c in contracts(event_type).values() if name in c.fields]
    field = F.col(struct_name(event_type))[name]
    return F.when(F.col("schema_version").isin(*versions), field)


def _digest(event_type: str) -> Column:
    utc = F.date_format("occurred_at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    root = F.col(struct_name(event_type))
    fields = [utc if name == "timestamp" else root[name] for name in settings(event_type).identity]
    escaped = [F.replace(F.replace(f, F.lit("\\"), F.lit("\\\\")), F.lit("\n"), F.lit("\\n")) for f in fields]
    return F.when(root.isNotNull(), F.sha2(F.concat_ws("\n", F.lit(event_type), *escaped), 256))


@cache
def field(event_type: str, path: str) -> Column:
    """A contract's field by its path (`device.platform`), null where the version does not declare it.

    An empty list is null: Protobuf cannot tell it from a list that is missing.
    """
    name, *inner = path.split(".")
    column = _of_version(event_type, name)
    for part in inner:
        column = column[part]
    is_list = kind_of(all_fields(event_type)[name]) == "array"
    return F.when(F.size(column) > 0, column) if is_list else column
