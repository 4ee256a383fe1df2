"""Decodes what is not plain JSON: Avro, Protobuf, and all three in Confluent's wire format.

As in `pipelines.contracts.decode`: what is accepted here, the contract accepts, and the row is the event's;
what is not is in doubt, and the referee decides it. Avro is read by Spark's own expressions; Protobuf, for
which Spark has no reader to be had, in Arrow batches.
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
    RAW,
    finished,
    header,
    headers_told,
    parsed_text,
    struct_name,
    struct_type,
    version_in_header,
)
from pipelines.contracts.load import Contract, Fields, all_fields, contracts, event_types, kind_of
from pipelines.contracts.referee import Limits
from pipelines.contracts.schema_ids import MAGIC, PREFIX_BYTES, KnownSchema, Meanings

JSON, AVRO, PROTOBUF, FRAMED = "json", "avro", "protobuf", "framed"
_WIRE, _TEXT, _MESSAGE = "_wire", "_text", "_message"
# By encoding the column with a struct of every event type.
_READ = {JSON: _TEXT, PROTOBUF: _MESSAGE}
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
    """The kinds among records with `event_type` and `encoding`: of thousands (garbage) the frequent."""
    is_framed = F.col("encoding") == FRAMED
    version, number = F.when(~is_framed, version_in_header()), F.when(is_framed, framed_id())
    told = records.select("*", headers_told())
    found = told.groupBy("event_type", "encoding", version.alias("version"), number.alias("number")).count()
    # A registry counts up from 1: among as frequent ones the small number is the likelier one.
    frequent = found.orderBy(F.desc("count"), "number").limit(_MOST_KINDS).drop("count")
    return [Kind(*row) for row in frequent.collect()]


def decode_binary(records: DataFrame, kinds: Iterable[Kind], meanings: Meanings, limits: Limits) -> DataFrame:
    """What `pipelines.contracts.decode.decode` gives, for records whose `encoding` is not plain JSON.

    `kinds` are those to read: a record of another kind stays in doubt. No row is lost.
    """
    wanted = _contracts_of(kinds, meanings)
    told = records.select("*", headers_told()).withColumn(_WIRE, _wire(meanings, limits)).drop(*RAW)
    wire = F.col(_WIRE)
    read = [_raw(contract).alias(_raw_name(contract)) for contract in wanted.get(AVRO, ())]
    if JSON in wanted:
        text = F.when(wire["encoding"] == JSON, wire["payload"])
        read.append(parsed_text(text).alias(_TEXT))
    if PROTOBUF in wanted:
        message = F.when(wire["encoding"] == PROTOBUF, wire["payload"])
        parse = protobuf_batches.parser(wanted[PROTOBUF], meanings)
        read.append(parse(F.col("event_type"), wire["version"], wire["id"], message).alias(_MESSAGE))
    # A step of its own: each field would decode the bytes again.
    step = told.select("*", *read)
    structs = [_struct(t, wanted).alias(struct_name(t)) for t in event_types()]
    version = wire["version"]
    if PROTOBUF in wanted:
        version = F.coalesce(F.col(_MESSAGE)["version"], version)
    parsed = step.select(*told.columns, *structs, version.alias("schema_version"))
    return finished(parsed.drop(_WIRE), limits)


def _struct(event_type: str, wanted: Mapping[str, Set[Contract]]) -> Column:
    """The event's struct, whatever the record was encoded in; null where it is in doubt."""
    name, by_avro = struct_name(event_type), [c for c in wanted.get(AVRO, ()) if c.event_type == event_type]
    found = [_from_avro(contract, F.col(_WIRE)["payload"]) for contract in by_avro]
    found += [F.col(column)[name] for encoded, column in _READ.items() if encoded in wanted]
    return F.coalesce(*found, F.lit(None).cast(struct_type(event_type)))


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
    """A record's encoding, version, schema id and payload; nulls where they cannot be told."""
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
            F.when(is_framed, framed_id()).alias("id"),
            F.coalesce(payload, "value").alias("payload"),
        ),
    )


def _looked_up(words: Mapping[str, Any], key: Column, kind: str) -> Column:
    if not words:
        return F.lit(None).cast(kind)
    pairs = [F.lit(part) for pair in words.items() for part in pair]
    return F.try_element_at(F.create_map(*pairs), key)


def _raw(contract: Contract) -> Column:
    """What Spark reads of Avro of this contract."""
    wire = F.col(_WIRE)
    is_it = (F.col("event_type") == contract.event_type) & (wire["version"] == contract.version)
    raw = from_avro(wire["payload"], avro.schema_text(contract), {"mode": "PERMISSIVE"})
    return F.when((wire["encoding"] == AVRO) & is_it, raw)


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


def _as_struct(event_type: str, raw: Column, fields: Fields) -> Column:
    """A struct of plain values in the form of `struct_type`; null where a text is not UTF-8."""
    whole = F.struct(*_by_name(all_fields(event_type), fields, raw), F.lit(None).alias("schemaVersion"))
    texts = [text for name, field in fields.items() for text in _texts(field, raw[name])]
    sound = [F.coalesce(F.is_valid_utf8(text), F.lit(True)) for text in texts]
    return F.when(reduce(lambda a, b: a & b, sound, F.lit(True)), whole.cast(struct_type(event_type)))


def _by_name(wanted: Fields, own: Fields, raw: Column) -> list[Column]:
    """The fields wanted, in their order: null for those that are not among a version's own."""
    told = {n: _value(field, own[n], raw[n]) if n in own else F.lit(None) for n, field in wanted.items()}
    return [value.alias(name) for name, value in told.items()]


def _value(wanted: dict[str, Any], own: dict[str, Any], raw: Column) -> Column:
    if kind_of(wanted) != "object":
        return raw
    return F.when(raw.isNotNull(), F.struct(*_by_name(wanted["properties"], own["properties"], raw)))


def _texts(field: dict[str, Any], raw: Column) -> list[Column]:
    """The texts in a field, of which Spark does not look whether they are UTF-8."""
    kind = kind_of(field)
    if kind == "object":
        return [text for name, sub in field["properties"].items() for text in _texts(sub, raw[name])]
    if "enum" in field or kind not in ("string", "array"):
        return []
    return [raw if kind == "string" else F.array_join(raw, "")]
