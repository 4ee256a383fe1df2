"""Decodes and validates events: JSON in Arrow batches, the contracts compiled into Spark's own expressions.

Guarantee: what `decode` accepts, the contract accepts, and the row is the event's. What it does not accept is
in doubt, not refused: the referee (`pipelines.contracts.referee`) decides those few.

Expressions are made once in a process and used for every batch: there are some hundreds of them, each a few
calls of Java, which took longer than to decode a small batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructType

from pipelines.contracts import json_batches
from pipelines.contracts.compiled import condition
from pipelines.contracts.load import (
    Contract,
    Fields,
    all_contracts,
    all_fields,
    contracts,
    event_types,
    kind_of,
    settings,
)
from pipelines.contracts.referee import Limits
from pipelines.contracts.times import LATEST_RECORD

NUMBER = "decimal(18,6)"
_TYPES = {"string": "string", "date-time": "timestamp", "number": "double", "array": "array<string>"}
_VERSION_HEADER = "schema-version"
_HEADERS = "_headers"
RAW = ("key", "value", "headers")
"""Bronze's columns that an event needs no more."""
_TEXT = "_text"


def struct_name(event_type: str) -> str:
    """The column of `decode` that holds the fields of this event type."""
    return event_type.replace("-", "_")


def header(name: str) -> Column:
    """The text of a Kafka header, with � for what is not UTF-8; null when there is none of that name."""
    return F.make_valid_utf8(_header(name))


def _header(name: str) -> Column:
    found = F.filter("headers", lambda h: h["key"] == name)
    return F.when(F.col("headers").isNotNull(), F.try_element_at(found, F.lit(1))["value"].cast("string"))


def record_time(name: str = "timestamp") -> Column:
    """A record's own time, no later than Python can tell: some producers make others."""
    return F.least(name, F.lit(LATEST_RECORD))


def event_type_of(types: Mapping[str, str]) -> Column:
    """The event type of `topic` by the configured names; else by the CloudEvents header `ce_type`."""
    by_topic = [F.when(F.col("topic") == topic, F.lit(event_type)) for topic, event_type in types.items()]
    ce_type = F.regexp_replace(header("ce_type"), r"^media\.", "")
    by_header = F.when(ce_type.isin(*event_types()), ce_type)
    return F.coalesce(*by_topic, by_header)


def decode(records: DataFrame, limits: Limits, version: Column | None = None) -> DataFrame:
    """The records with `schema_version`, `event_id`, `occurred_at`, a struct per event type, `accepted`.

    `records` has bronze's columns and `event_type`; those of `RAW` are left out: each step copies the row.
    `version` is given with the referee's canonical text: it overrides what the record tells, and nothing of
    the text is in doubt. No row is lost.
    """
    is_canonical, text = version is not None, F.col("value")
    if not is_canonical:  # which may be longer than the record, and that was small enough
        text = F.when(F.length(text) <= limits.max_bytes, text)
    told = records.select(*[c for c in records.columns if c not in RAW], headers_told(), text.alias(_TEXT))
    parsed = told.withColumn(_TEXT, parsed_text(F.col(_TEXT), is_canonical))
    frame = parsed.select(*[c for c in told.columns if c != _TEXT], *structs_of(_TEXT))
    versioned = frame.withColumn("schema_version", _told_version() if version is None else version)
    return finished(versioned, limits, is_canonical)


def parsed_text(text: Column, is_canonical: bool = False) -> Column:
    """The struct of structs, one for each event type, of a JSON text; null where it is in doubt.

    Not compiled with other expressions: select it as a column of its own.
    """
    return _parser(is_canonical)(F.col("event_type"), text)


def structs_of(parsed: str) -> list[Column]:
    """What a column of `parsed_text` holds, a column for each event type."""
    return [F.col(parsed)[struct_name(t)].alias(struct_name(t)) for t in event_types()]


@cache
def _parser(is_canonical: bool) -> Callable[[Column, Column], Column]:
    """The fields go to Spark's workers with it, so that they read by the contracts of this process."""
    kind = struct_of_structs()
    fields = {t: {**all_fields(t), **json_batches.VERSION_FIELD} for t in event_types()}
    read = json_batches.reader(fields, to_arrow_type(kind, timestamp_utc=True), is_canonical)
    return arrow_udf(read, kind.simpleString())  # type: ignore[call-overload]


def struct_of_structs() -> StructType:
    """The type of an event's structs together."""
    found = StructType.fromDDL(", ".join(f"{struct_name(t)} {struct_type(t)}" for t in event_types()))
    assert isinstance(found, StructType)
    return found


@cache
def headers_told() -> Column:
    """The headers that tell something of the event, as one column, which `finished` drops."""
    # An id that is not UTF-8 is none: with � in their place, ids that differ would be one.
    ids = [F.try_validate_utf8(_header(name)).alias(name) for name in ("ce_source", "ce_id")]
    return F.struct(header(_VERSION_HEADER).alias(_VERSION_HEADER), *ids).alias(_HEADERS)


def finished(parsed: DataFrame, limits: Limits, is_canonical: bool = False) -> DataFrame:
    """Accept what is valid: `parsed` has a struct per event type, `schema_version` and the headers told.

    `is_canonical`: the referee has judged it.
    What cannot be compiled into one loop with the rest comes first, in one step: each step copies the row.
    """
    time = F.coalesce(*[F.col(f"{struct_name(t)}.timestamp") for t in event_types()])
    return (
        parsed.withColumn("occurred_at", time)
        .withColumn("accepted", F.coalesce(_accepted(limits, is_canonical), F.lit(False)))
        .withColumn("event_id", F.when(F.col("accepted"), _identity()))
        .drop(_HEADERS)
    )


def struct_type(event_type: str) -> str:
    """The type of an event's struct."""
    return f"struct<{_schema(event_type)}>"


def _schema(event_type: str) -> str:
    parts = [f"`{name}`: {_type(field)}" for name, field in all_fields(event_type).items()]
    return ", ".join([*parts, "`schemaVersion`: double"])


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
    told = F.coalesce(*[F.col(f"{struct_name(t)}.schemaVersion") for t in event_types()])
    is_version = (told == F.floor(told)) & (F.abs(told) < 1_000_000)
    in_field = F.when(told.isNotNull(), F.when(is_version, told.cast("int")).otherwise(F.lit(-1)))
    return F.coalesce(version_in_header(), in_field, F.lit(1))


@cache
def _accepted(limits: Limits, is_canonical: bool) -> Column:
    moment, recorded = F.col("occurred_at"), F.col("timestamp")
    seconds = int(limits.future.total_seconds())
    latest = recorded + F.make_dt_interval(F.lit(0), F.lit(0), F.lit(0), F.lit(seconds))
    in_time = moment.between(F.lit(limits.earliest), latest) & (recorded < F.lit(LATEST_RECORD))
    by_version = [
        (F.col("schema_version") == contract.version) & valid
        for contract in all_contracts()
        if (valid := _valid(contract, is_canonical)) is not None
    ]
    return in_time & reduce(lambda a, b: a | b, by_version, F.lit(False))


def _valid(contract: Contract, is_canonical: bool) -> Column | None:
    """The contract as a condition on its struct; None: only the referee knows all that it says.

    Of canonical text the referee has said that it is valid: only that it was read is left to see.
    """
    root = F.col(struct_name(contract.event_type))
    schema = {"required": contract.required} if is_canonical else contract.schema
    valid = condition(schema, all_fields(contract.event_type), root)
    return None if valid is None else root.isNotNull() & valid


@cache
def _identity() -> Column:
    """`eventId`, else `ce_source` + `ce_id`, else SHA-256 over the type and the canonical fields."""
    given = [_unless_empty(_of_version(t, "eventId")) for t in event_types() if "eventId" in all_fields(t)]
    source, own = (_unless_empty(F.col(_HEADERS)[name]) for name in ("ce_source", "ce_id"))
    # Apart, as a source that ends in a digit would run into the id; a URI has no bar.
    by_header = F.concat(F.replace(source, F.lit("|"), F.lit("%7C")), F.lit("|"), own)
    canonical = F.coalesce(*map(_canonical, event_types()))
    return F.coalesce(*given, by_header, F.sha2(canonical, 256))


def _unless_empty(text: Column) -> Column:
    """Null where a text is empty: all events of one empty identity would be one event."""
    return F.when(text != "", text)


def _of_version(event_type: str, *path: str) -> Column:
    """A field of an accepted event, null where its version does not declare it."""
    known = contracts(event_type).values()
    versions = [contract.version for contract in known if _declares(contract.fields, path)]
    field = reduce(lambda column, name: column[name], path, F.col(struct_name(event_type)))
    return field if len(versions) == len(known) else F.when(F.col("schema_version").isin(*versions), field)


def _declares(fields: Fields, path: Sequence[str]) -> bool:
    name, *inner = path
    return name in fields and (not inner or _declares(fields[name].get("properties", {}), inner))


def _canonical(event_type: str) -> Column:
    """The type and the canonical fields, as lines."""
    root, declared = F.col(struct_name(event_type)), all_fields(event_type)
    fields = [_line(name, declared[name], root[name]) for name in settings(event_type).identity]
    return F.when(root.isNotNull(), F.concat_ws("\n", F.lit(event_type), *fields))


def _line(name: str, declared: dict[str, Any], column: Column) -> Column:
    """A canonical field; the ends of lines in a text are escaped."""
    if name == "timestamp":
        return F.date_format("occurred_at", "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    words = "".join(map(str, declared.get("enum", "\n")))
    if kind_of(declared) != "string" or {"\\", "\n"}.isdisjoint(words):
        return _stored(declared, column)
    return F.replace(F.replace(column, F.lit("\\"), F.lit("\\\\")), F.lit("\n"), F.lit("\\n"))


@cache
def field(event_type: str, path: str) -> Column:
    """A contract's field by its path (`device.platform`), null where the version does not declare it.

    An empty list is null: Protobuf cannot tell it from a list that is missing.
    """
    names, whole = path.split("."), {"properties": all_fields(event_type)}
    declared = reduce(lambda found, name: found["properties"][name], names, whole)
    return _stored(declared, _of_version(event_type, *names))


def _stored(declared: dict[str, Any], column: Column) -> Column:
    """The value as tables hold it."""
    kind = kind_of(declared)
    if kind == "array":
        return F.when(F.size(column) > 0, column)
    return column.cast(NUMBER) if kind == "number" else column
