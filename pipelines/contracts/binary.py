"""Decodes what is not plain JSON: Avro, Protobuf, and all three in Confluent's wire format.

As in `pipelines.contracts.decode`: what is accepted here, the contract accepts, and the row is the event's;
what is not is in doubt, and the referee decides it. Avro is read by Spark's own expressions; Protobuf, for
which Spark has no reader to be had, in Arrow batches by the official runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import reduce
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro, to_avro

from pipelines.contracts import avro, protobuf_batches
from pipelines.contracts.decode import (
    NUMBER,
    finished,
    header,
    headers_told,
    parsed_text,
    struct_name,
    struct_type,
    version_in_header,
)
from pipelines.contracts.load import Contract, all_fields, contracts, event_types, kind_of
from pipelines.contracts.referee import Limits
from pipelines.contracts.schema_ids import MAGIC, PREFIX_BYTES, KnownSchema, Meanings

JSON, AVRO, PROTOBUF, FRAMED = "json", "avro", "protobuf", "framed"
_WIRE = "_wire"
_MOST_KINDS = 200


def encoding(defaults: Mapping[str, str]) -> Column:
    """How a record is encoded: `framed` (Confluent's wire format), else as the header `content-type` says.

    `defaults` is what records of a topic without that header are. Text that begins with a brace is JSON,
    whatever a header says.
    """
    value, told = F.col("value"), F.lower(header("content-type"))
    is_framed = (F.substring(value, 1, 1) == F.lit(bytes([MAGIC]))) & (F.length(value) > PREFIX_BYTES)
    by_topic = [F.when(F.col("topic") == topic, F.lit(found)) for topic, found in defaults.items()]
    return (
        F.when(is_framed, F.lit(FRAMED))
        .when(F.ltrim(F.substring(value, 1, 64).cast("string")).startswith("{"), F.lit(JSON))
        .when(told.contains(AVRO), F.lit(AVRO))
        .when(told.contains(PROTOBUF), F.lit(PROTOBUF))
        .when(told.contains(JSON), F.lit(JSON))
        .otherwise(F.coalesce(*by_topic, F.lit(JSON)))
    )


def framed_id() -> Column:
    """The schema's id of a record in Confluent's wire format."""
    return F.conv(F.hex(F.substring("value", 2, PREFIX_BYTES - 1)), 16, 10).cast("bigint")


class Kind(NamedTuple):
    """What some records of a batch are."""

    event_type: str | None
    encoding: str
    version: int | None
    """By the header; null where it tells none, and in the wire format."""
    schema_id: int | None
    """In the wire format."""


def kinds_of(records: DataFrame) -> list[Kind]:
    """The kinds among records with `event_type` and `encoding`: of thousands, which is garbage, some."""
    is_framed = F.col("encoding") == FRAMED
    version, number = F.when(~is_framed, version_in_header()), F.when(is_framed, framed_id())
    found = records.select("*", headers_told()).select("event_type", "encoding", version, number)
    return [Kind(*row) for row in found.distinct().limit(_MOST_KINDS).collect()]


def decode_binary(records: DataFrame, kinds: Iterable[Kind], meanings: Meanings, limits: Limits) -> DataFrame:
    """What `pipelines.contracts.decode.decode` gives, for records whose `encoding` is not plain JSON.

    `kinds` are those to read: a record of another kind stays in doubt. No row is lost.
    """
    wanted = _contracts_of(kinds, meanings)
    told = records.select("*", headers_told())
    told = told.withColumn(_WIRE, _wire(meanings, limits))
    is_protobuf = F.col(_WIRE)["encoding"].eqNullSafe(PROTOBUF)
    parts = []
    if wanted.get(PROTOBUF):
        parts.append(_by_runtime(told.where(is_protobuf), meanings))
        told = told.where(~is_protobuf)
    parts.append(_by_spark(told, wanted.get(AVRO, set()), {c.event_type for c in wanted.get(JSON, set())}))
    return finished(reduce(DataFrame.unionByName, parts).drop(_WIRE), limits)


def _contracts_of(kinds: Iterable[Kind], meanings: Meanings) -> dict[str, set[Contract]]:
    """By encoding the contracts that the records need: a plan with all takes seconds to compile."""
    found: dict[str, set[Contract]] = {}
    for kind in kinds:
        if kind.event_type is None:
            continue
        known = contracts(kind.event_type)
        schema = meanings.get(kind.schema_id) if kind.schema_id is not None else None
        named = {(kind.encoding, kind.version or 1)}
        if isinstance(schema, KnownSchema):
            named = {(schema.encoding, v) for (t, _), v in schema.versions.items() if t == kind.event_type}
        for encoded, version in named:
            if version in known:
                found.setdefault(encoded, set()).add(known[version])
    return found


def _wire(meanings: Meanings, limits: Limits) -> Column:
    """A record's encoding, version and payload; nulls where they cannot be told."""
    known = {number: schema for number, schema in meanings.items() if isinstance(schema, KnownSchema)}
    encodings = {str(number): schema.encoding for number, schema in known.items()}
    versions = {
        f"{number} {event_type}": version
        for number, schema in known.items()
        for (event_type, place), version in schema.versions.items()
        if not place
    }
    plain, number = F.col("encoding"), framed_id().cast("string")
    is_framed = plain == FRAMED
    by_id = _looked_up(versions, F.concat_ws(" ", number, "event_type"), "int")
    by_header = F.coalesce(version_in_header(), F.lit(1))
    payload = F.when(is_framed, F.substring("value", PREFIX_BYTES + 1, limits.max_bytes))
    return F.when(
        F.length("value") <= limits.max_bytes,
        F.struct(
            F.when(is_framed, _looked_up(encodings, number, "string")).otherwise(plain).alias("encoding"),
            F.when(is_framed, by_id).otherwise(by_header).alias("version"),
            F.coalesce(payload, "value").alias("payload"),
        ),
    )


def _looked_up(words: Mapping[str, Any], key: Column, kind: str) -> Column:
    if not words:
        return F.lit(None).cast(kind)
    pairs = [F.lit(part) for pair in words.items() for part in pair]
    return F.try_element_at(F.create_map(*pairs), key)


def _by_spark(told: DataFrame, by_avro: Set[Contract], by_text: Set[str]) -> DataFrame:
    """Avro of these contracts, and JSON of these event types in the wire format."""
    wire = F.col(_WIRE)
    raws = []
    for contract in by_avro:
        is_it = (F.col("event_type") == contract.event_type) & (wire["version"] == contract.version)
        raw = from_avro(wire["payload"], avro.schema_text(contract), {"mode": "PERMISSIVE"})
        raws.append(F.when((wire["encoding"] == AVRO) & is_it, raw).alias(_raw_name(contract)))
    texts = [
        F.when(wire["encoding"] == JSON, parsed_text(t, wire["payload"])).alias(_text_name(t))
        for t in by_text
    ]
    # A step of its own: each field would decode the bytes again.
    read = told.select("*", *raws, *texts)
    structs = []
    for t in event_types():
        found = [_from_avro(c, wire["payload"]) for c in by_avro if c.event_type == t]
        if t in by_text:
            found.append(F.col(_text_name(t)))
        structs.append(F.coalesce(*found, F.lit(None).cast(struct_type(t))).alias(struct_name(t)))
    return read.select(*told.columns, *structs, wire["version"].alias("schema_version"))


def _text_name(event_type: str) -> str:
    return f"_text_{struct_name(event_type)}"


def _raw_name(contract: Contract) -> str:
    return f"_raw_{struct_name(contract.event_type)}_{contract.version}"


def _from_avro(contract: Contract, payload: Column) -> Column:
    """The event's struct; null where it is in doubt.

    Spark accepts bytes that follow the datum, and texts that are not UTF-8: sound is what is written back as
    the same bytes. What could not be read is a struct of nulls.
    """
    raw = F.col(_raw_name(contract))
    is_read = reduce(lambda a, b: a & b, [raw[name].isNotNull() for name in contract.required])
    is_same = F.when(is_read, to_avro(raw, avro.schema_text(contract)) == payload)
    return F.when(is_same, _as_struct(contract.event_type, raw, contract.fields))


def _as_struct(event_type: str, raw: Column, fields: Mapping[str, dict[str, Any]]) -> Column:
    """A struct of plain values in the form of `struct_type`; null where a value does not fit its column."""
    parts = []
    for name, field in all_fields(event_type).items():
        value = _value(field, raw[name]) if name in fields else F.lit(None)
        parts.append(value.alias(name))
    whole = F.struct(*parts, F.lit(None).alias("schemaVersion"), F.lit(None).alias("_corrupt"))
    fits = [_fits(field, raw[name]) for name, field in fields.items()]
    return F.when(reduce(lambda a, b: a & b, fits), whole.cast(struct_type(event_type)))


def _value(field: dict[str, Any], raw: Column) -> Column:
    return {"number": raw.try_cast(NUMBER), "date-time": raw.cast("string")}.get(kind_of(field), raw)


def _fits(field: dict[str, Any], raw: Column) -> Column:
    kind = kind_of(field)
    if kind == "object":
        return reduce(
            lambda a, b: a & b, [_fits(sub, raw[name]) for name, sub in field["properties"].items()]
        )
    fits = {
        "string": F.is_valid_utf8(raw),
        "number": raw.try_cast(NUMBER).isNotNull() & (raw >= field.get("minimum", float("-inf"))),
        "array": F.forall(raw, F.is_valid_utf8),
    }
    return raw.isNull() | fits.get(kind, F.lit(True))


def _by_runtime(told: DataFrame, meanings: Meanings) -> DataFrame:
    """Protobuf."""
    read = protobuf_batches.read(told, _WIRE, meanings)
    structs = []
    for t in event_types():
        raw = F.col(protobuf_batches.column(t))
        structs.append(F.when(raw.isNotNull(), _as_struct(t, raw, all_fields(t))).alias(struct_name(t)))
    return read.select(*told.columns, *structs, "schema_version")
