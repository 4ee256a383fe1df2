"""Reads Protobuf in Arrow batches by the official runtime: Spark has no reader of it to be had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from pipelines.contracts import protobuf
from pipelines.contracts.decode import struct_name
from pipelines.contracts.load import all_fields, contracts, event_types, kind_of
from pipelines.contracts.schema_ids import MAGIC, KnownSchema, Meanings, schema_id

if TYPE_CHECKING:
    import pyarrow as pa

_RAW_TYPES = {"string": "string", "date-time": "timestamp", "number": "double", "array": "array<string>"}


def column(event_type: str) -> str:
    """The column of `read` that holds the plain values of an event's messages."""
    return f"_raw_{struct_name(event_type)}"


def read(records: DataFrame, wire: str, meanings: Meanings) -> DataFrame:
    """The records with `schema_version` and a column of plain values by event type; null: in doubt.

    `wire` is their column with `version` and `payload`; in Confluent's wire format the message's place, with
    which the payload begins, and `meanings` tell the version.
    """
    from pyspark.sql.pandas.types import to_arrow_type

    added = ", ".join(f"{column(t)} struct<{_raw_fields(t)}>" for t in event_types())
    schema = StructType([*records.schema.fields, *_struct(f"{added}, schema_version int").fields])
    kinds = {t: to_arrow_type(_struct(_raw_fields(t)), timestamp_utc=True) for t in event_types()}
    versions = {
        number: dict(found.versions) for number, found in meanings.items() if isinstance(found, KnownSchema)
    }

    def read_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _read_batch(batch, wire, kinds, versions)

    return records.mapInArrow(read_batches, schema)


def _raw_fields(event_type: str) -> str:
    return _raw_ddl(all_fields(event_type))


def _raw_ddl(fields: Mapping[str, dict[str, Any]]) -> str:
    parts = []
    for name, field in fields.items():
        kind = kind_of(field)
        inner = f"struct<{_raw_ddl(field['properties'])}>" if kind == "object" else _RAW_TYPES[kind]
        parts.append(f"{name}: {inner}")
    return ", ".join(parts)


def _struct(ddl: str) -> StructType:
    found = StructType.fromDDL(ddl)
    assert isinstance(found, StructType)
    return found


_Versions = Mapping[int, Mapping[tuple[str, tuple[int, ...]], int]]


def _read_batch(
    batch: pa.RecordBatch, wire: str, kinds: Mapping[str, pa.DataType], versions: _Versions
) -> pa.RecordBatch:
    import pyarrow as pa

    told, types = batch.column(wire), batch.column("event_type").to_pylist()
    parts = (batch.column("value"), told.field("version"), told.field("payload"))
    asked = [part.to_pylist() for part in parts]
    events = [_read_one(*row, versions=versions) for row in zip(types, *asked, strict=True)]
    raws = {
        column(t): pa.array([e if of == t else None for of, (_, e) in zip(types, events, strict=True)], kind)
        for t, kind in kinds.items()
    }
    version = pa.array([version for version, _ in events], pa.int32())
    names = [*batch.schema.names, *raws, "schema_version"]
    return pa.RecordBatch.from_arrays([*batch.columns, *raws.values(), version], names)


def _read_one(
    event_type: str | None, value: bytes, version: int | None, payload: bytes, *, versions: _Versions
) -> tuple[int | None, dict[str, Any] | None]:
    """The version and the values of a message; no values: it is in doubt."""
    if value[:1] == bytes([MAGIC]):
        try:
            place, payload = protobuf.without_indexes(payload)
        except ValueError:
            return None, None
        version = versions.get(schema_id(value), {}).get((str(event_type), place))
    contract = contracts(event_type).get(version) if event_type and version else None
    return version, protobuf.reader(contract)(payload) if contract else None
