"""Events in every encoding, as records of bronze."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.config import Config
from pipelines.contracts import avro, protobuf
from pipelines.contracts.load import contracts, event_types
from pipelines.contracts.schema_ids import KnownSchema, Meanings, match
from pipelines.topics import by_event_type

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
_SCHEMA = (
    "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp, "
    "headers array<struct<key:string,value:binary>>, ingested_at timestamp"
)
_KINDS = ("JSON", "AVRO", "PROTOBUF")
WAYS = ("json", "avro", "protobuf", "framed json", "framed avro", "framed protobuf")
TOPICS = by_event_type(Config())


class Encoded(NamedTuple):
    """A record: its topic, value and headers."""

    topic: str
    value: bytes | None
    headers: Mapping[str, str] = {}


def _ids() -> dict[tuple[str, str, int], int]:
    """An id for each kind of schema, event type and version, as a registry gives them."""
    named = [(kind, t, version) for kind in _KINDS for t in event_types() for version in contracts(t)]
    return {name: number for number, name in enumerate(named, 1)}


def meanings() -> Meanings:
    """What the ids mean, matched as the text of a registry is."""
    texts = {"JSON": "schema.json", "AVRO": "schema.avsc", "PROTOBUF": "schema.proto"}
    found: dict[int, KnownSchema] = {}
    for (kind, event_type, version), number in _ids().items():
        text = (contracts(event_type)[version].folder / texts[kind]).read_text()
        found[number] = match(kind, text)
    return found


def encoded(event: Mapping[str, Any], event_type: str, version: int, way: str) -> Encoded:
    """The event in one of `WAYS`."""
    contract, kind = contracts(event_type)[version], way.split()[-1]
    write = {"json": lambda e, _: json.dumps(e).encode(), "avro": avro.write, "protobuf": protobuf.write}[
        kind
    ]
    value = write(event, contract)
    if not way.startswith("framed"):
        headers = {"content-type": f"application/{kind}", "schema-version": str(version)}
        return Encoded(TOPICS[event_type], value, headers)
    number = _ids()[kind.upper(), event_type, version].to_bytes(4, "big")
    place = b"\0" if kind == "protobuf" else b""
    return Encoded(TOPICS[event_type], b"\0" + number + place + value)


def bronze(spark: SparkSession, records: list[Encoded]) -> DataFrame:
    """The records as rows of bronze; a record's offset is its place in the list."""
    rows = []
    for offset, record in enumerate(records):
        headers = [(name, text.encode()) for name, text in record.headers.items()]
        rows.append((None, record.value, record.topic, 0, offset, NOON, headers or None, NOON))
    return spark.createDataFrame(rows, _SCHEMA)
