"""One row whichever encoding: JSON, Avro and Protobuf, plain and in Confluent's wire format."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from encoded import NOON, TOPICS, WAYS, Encoded, bronze, encoded, meanings
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.contracts import avro, protobuf
from pipelines.contracts.encode import Encoder
from pipelines.contracts.load import Contract, contracts, event_types, kind_of
from pipelines.contracts.schema_ids import Meanings, UnknownId
from pipelines.contracts.times import LATEST_RECORD, format_time, parse_time
from pipelines.engine.sorting import EVENTS, Sorted, sort_out
from pipelines.event_files import Record
from pipelines.silver import user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ALL = [(t, version) for t in event_types() for version in contracts(t)]
PLAY = {"userId": "u", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}


class Told:
    """Stands for the registry: the ids' meanings are given."""

    def __init__(self, known: Meanings | None = None) -> None:
        self._known = meanings() if known is None else known

    def meanings(self, ids: Any) -> Meanings:
        return {number: self._known.get(number, UnknownId("unknown_schema_id", "?")) for number in ids}


def sorted_out(spark: SparkSession, records: list[Encoded], known: Meanings | None = None) -> Sorted:
    return sort_out(bronze(spark, records), Config(), Told(known))  # type: ignore[arg-type]


def rows_of(found: Sorted, event_type: str) -> dict[int, tuple[Any, ...]]:
    """The silver rows by offset, without what tells where a record came from."""
    table, select = EVENTS[event_type]
    own = [name for name in table.column_names if name not in ("topic", "partition", "offset")]
    return {row["offset"]: tuple(row[name] for name in own) for row in select(found.events).collect()}


def reasons_of(found: Sorted) -> dict[int, set[tuple[str, str]]]:
    if found.refused is None:
        return {}
    return {row["offset"]: {(r.code, r.field) for r in row["reasons"]} for row in found.refused.collect()}


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NUMBER = st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**9).map(float)
_TIME = st.datetimes(NOON.replace(year=2001, tzinfo=None), NOON.replace(tzinfo=None)).map(
    lambda moment: moment.isoformat(timespec="microseconds") + "Z"
)


def _field(field: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = kind_of(field)
    if "enum" in field:
        return st.sampled_from([word for word in field["enum"] if word is not None])
    if kind == "object":
        return st.fixed_dictionaries({}, optional={n: _field(f) for n, f in field["properties"].items()})
    found = {"string": _TEXT, "number": _NUMBER, "date-time": _TIME, "array": st.lists(_TEXT, max_size=3)}
    return found[kind]


def events_of(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: _field(field) for name, field in contract.fields.items()}
    required = {name: fields.pop(name) for name in contract.required}
    if contract.event_type == "system-event":  # status is required for kind status
        required["status"] = fields.pop("status")
    return st.fixed_dictionaries(required, optional=fields)


@pytest.mark.parametrize(("event_type", "version"), ALL)
def test_one_row_whichever_encoding(spark: SparkSession, event_type: str, version: int) -> None:
    contract = contracts(event_type)[version]

    @seed(20260105)
    @settings(  # no shrinking: each try is a Spark job
        max_examples=2, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(events_of(contract), min_size=60, max_size=60))
    def check(events: list[dict[str, Any]]) -> None:
        records = [encoded(event, event_type, version, way) for event in events for way in WAYS]
        found = sorted_out(spark, records)
        assert reasons_of(found) == {}
        rows = rows_of(found, event_type)
        assert len(rows) == len(records)
        for number in range(len(events)):
            first, *others = (rows[number * len(WAYS) + place] for place in range(len(WAYS)))
            for way, row in zip(WAYS[1:], others, strict=True):
                assert row == first, (way, events[number])

    check()


def test_well_formed_events_need_no_referee(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.silver.quarantine.judged", None)
    records = [encoded(PLAY, "user-action", version, way) for version in (1, 2) for way in WAYS]
    assert len(rows_of(sorted_out(spark, records), "user-action")) == len(records)


def test_an_empty_identity_is_none_in_every_encoding(spark: SparkSession) -> None:
    events = [{**PLAY, "mediaId": media, "eventId": ""} for media in ("m", "n")]
    records = [encoded(event, "user-action", 2, way) for event in events for way in WAYS]
    rows = sorted_out(spark, records).events.groupBy("event_id").count().collect()
    assert [(len(row["event_id"]), row["count"]) for row in rows] == [(64, len(WAYS))] * 2


def _record(value: bytes, kind: str, **headers: str) -> Encoded:
    return Encoded(TOPICS["user-action"], value, {"content-type": f"application/{kind}", **headers})


def _broken() -> dict[str, tuple[Encoded, str, str]]:
    v2 = contracts("user-action")[2]
    datum, message = avro.write(PLAY, v2), protobuf.write(PLAY, v2)
    told = {"schema-version": "2"}
    at = datum.index(b"u")  # its length stands before it
    framed = encoded(PLAY, "user-action", 2, "framed avro").value or b""
    framed_message = encoded(PLAY, "user-action", 2, "framed protobuf").value or b""
    nan = protobuf.write({**PLAY, "positionSeconds": float("nan")}, v2)
    missing = protobuf.write({"userId": "u", "action": "play", "timestamp": PLAY["timestamp"]}, v2)
    return {
        "avro cut off": (_record(datum[:-3], "avro", **told), "invalid_avro", ""),
        "avro with bytes behind": (_record(datum + b"x", "avro", **told), "invalid_avro", ""),
        "a length that lies": (
            _record(datum[: at - 1] + b"\xfe\xff\xff\xff\x0f" + datum[at:], "avro", **told),
            "invalid_avro",
            "",
        ),
        "a negative length": (
            _record(datum[: at - 1] + b"\x01" + datum[at:], "avro", **told),
            "invalid_avro",
            "",
        ),
        "a negative symbol": (
            _record(datum[: at + 1] + b"\x01" + datum[at + 2 :], "avro", **told),
            "invalid_avro",
            "",
        ),
        "avro that is not UTF-8": (
            _record(datum.replace(b"u", b"\xff", 1), "avro", **told),
            "invalid_avro",
            "",
        ),
        "avro with NaN": (
            _record(avro.write({**PLAY, "positionSeconds": float("nan")}, v2), "avro", **told),
            "out_of_range",
            "positionSeconds",
        ),
        "avro with a negative position": (
            _record(avro.write({**PLAY, "positionSeconds": -1.0}, v2), "avro", **told),
            "out_of_range",
            "positionSeconds",
        ),
        "protobuf cut off": (_record(message[:-1], "protobuf", **told), "invalid_protobuf", ""),
        "protobuf garbage": (_record(b"\x0f" * 40, "protobuf", **told), "invalid_protobuf", ""),
        "protobuf that is not UTF-8": (
            _record(message.replace(b"u", b"\xff", 1), "protobuf", **told),
            "invalid_protobuf",
            "",
        ),
        "protobuf without media": (_record(missing, "protobuf", **told), "missing_field", "mediaId"),
        "protobuf with NaN": (_record(nan, "protobuf", **told), "out_of_range", "positionSeconds"),
        "an unknown number of an enum": (
            _record(message.replace(b"\x18\x01", b"\x18\x63"), "protobuf", **told),
            "unknown_value",
            "action",
        ),
        "a time out of range": (
            _record(b"\x0a\x0a\x08" + b"\xff" * 8 + b"\x7f" + message[8:], "protobuf", **told),
            "bad_timestamp",
            "timestamp",
        ),
        "an unknown version": (
            _record(datum, "avro", **{"schema-version": "9"}),
            "unknown_version",
            "schemaVersion",
        ),
        "an unknown id": (
            Encoded(TOPICS["user-action"], b"\0" + struct.pack(">I", 99) + datum),
            "unknown_schema_id",
            "",
        ),
        "the schema of another event": (
            Encoded(TOPICS["content-upload"], framed),
            "unknown_version",
            "schemaVersion",
        ),
        "message indexes cut off": (
            Encoded(TOPICS["user-action"], framed_message[:5] + b"\x80"),
            "invalid_protobuf",
            "",
        ),
        "the index of no message": (
            Encoded(TOPICS["user-action"], framed_message[:5] + b"\x02\x08" + framed_message[6:]),
            "unknown_version",
            "schemaVersion",
        ),
        "nothing behind the id": (Encoded(TOPICS["user-action"], framed[:5]), "invalid_json", ""),
    }


def test_each_broken_record_has_its_reason_and_stops_nothing(spark: SparkSession) -> None:
    kinds = _broken()
    good = encoded(PLAY, "user-action", 2, "avro")
    found = sorted_out(spark, [*[record for record, _, _ in kinds.values()], good])
    reasons = reasons_of(found)
    for offset, (kind, (_, code, field)) in enumerate(kinds.items()):
        assert (code, field) in reasons.get(offset, set()), (kind, reasons.get(offset))
    assert list(rows_of(found, "user-action")) == [len(kinds)]
    assert len(reasons) == len(kinds)


def test_bytes_stay_as_they_were(spark: SparkSession) -> None:
    records = [record for record, _, _ in _broken().values()]
    refused = sorted_out(spark, records).refused
    assert refused is not None
    assert {row["offset"]: bytes(row["value"]) for row in refused.collect()} == {
        offset: record.value for offset, record in enumerate(records)
    }


def test_a_registry_that_is_down_holds_its_records_only(spark: SparkSession) -> None:
    down = {number: UnknownId("registry_unavailable", "no answer") for number in range(100)}
    records = [encoded(PLAY, "user-action", 2, way) for way in WAYS]
    found = sorted_out(spark, records, down)
    held = {("registry_unavailable", "")}
    assert reasons_of(found) == {3: held, 4: held, 5: held}
    assert sorted(rows_of(found, "user-action")) == [0, 1, 2]


def test_a_topics_encoding_is_configured(spark: SparkSession) -> None:
    value = avro.write(PLAY, contracts("user-action")[1])
    config = Config.model_validate({"kafka": {"encodings": {"user_actions": "avro"}}})
    found = sort_out(bronze(spark, [Encoded(TOPICS["user-action"], value)]), config)
    assert list(rows_of(found, "user-action")) == [0]


def test_on_a_topic_of_its_own_the_header_ce_type_names_the_event(spark: SparkSession) -> None:
    value = json.dumps(PLAY).encode()
    named = [{"ce_type": "media.user-action"}, {"ce_type": "user-action"}, {"ce_type": "media.other"}, {}]
    found = sorted_out(spark, [Encoded("other", value, headers) for headers in named])
    assert sorted(rows_of(found, "user-action")) == [0, 1]
    assert reasons_of(found) == {2: {("unknown_topic", "")}, 3: {("unknown_topic", "")}}


def test_a_registered_schema_tells_the_version_whatever_a_header_says(spark: SparkSession) -> None:
    framed = encoded(PLAY, "user-action", 1, "framed avro")
    found = sorted_out(spark, [framed._replace(headers={"schema-version": "2"})])
    (row,) = user_actions.user_actions(found.events).collect()
    assert row.schema_version == 1


@pytest.mark.parametrize(("event_type", "version"), ALL)
def test_the_binary_examples_are_the_json_ones(event_type: str, version: int) -> None:
    contract = contracts(event_type)[version]
    found = 0
    for file in (contract.folder / "examples" / "valid").glob("*.json"):
        event = json.loads(file.read_text())
        event.pop("schemaVersion", None)
        event["timestamp"] = format_time(parse_time(event["timestamp"]))
        assert avro.read(file.with_suffix(".avro").read_bytes(), contract) == event
        assert protobuf.read(file.with_suffix(".pb").read_bytes(), contract) == event
        found += 1
    assert found
    cut_off = contract.folder / "examples" / "invalid" / "cut-off.avro"
    with pytest.raises(ValueError):
        avro.read(cut_off.read_bytes(), contract)
    with pytest.raises(ValueError):
        protobuf.read(cut_off.with_suffix(".pb").read_bytes(), contract)


def test_a_version_told_as_a_float_is_encoded_as_that_version() -> None:
    encode = Encoder(("avro",), {"t": "user-action"}, None)
    found = encode(Record("t", None, json.dumps({**PLAY, "schemaVersion": 2.0}).encode()))
    assert encode.left == 0
    assert dict(found.headers or ())["schema-version"] == b"2"


@pytest.mark.parametrize("count", [1, 3])
def test_garbage_with_many_ids_hides_no_schema(spark: SparkSession, count: int) -> None:
    """Not even one that is as rare: a registry's numbers are small."""
    prefixes = (b"\0" + struct.pack(">I", 1000 + number) for number in range(2000))
    garbage = [Encoded(TOPICS["user-action"], prefix + b"garbage") for prefix in prefixes]
    good = [encoded(PLAY, "user-action", 2, "framed avro")] * count
    found = rows_of(sorted_out(spark, [*garbage, *good]), "user-action")
    assert found.keys() == {*range(2000, 2000 + count)}


def test_a_record_of_no_time_is_held(spark: SparkSession) -> None:
    """Whose producer told microseconds for milliseconds, which brokers before Kafka 4 take."""
    records = [encoded(PLAY, "user-action", 2, way) for way in ("json", "avro", "framed protobuf")]
    micros = F.timestamp_micros(F.lit(int(NOON.timestamp()) * 1_000_000_000))
    at = F.when(F.col("offset") > 0, micros).otherwise(F.col("timestamp"))
    found = sort_out(bronze(spark, [records[0], *records]).withColumn("timestamp", at), Config(), Told())
    assert found.refused is not None
    held = found.refused.select("offset", F.col("reasons")[0]["code"].alias("code")).collect()
    assert {row["offset"]: row["code"] for row in held} == dict.fromkeys((1, 2, 3), "future_timestamp")
    assert [row["offset"] for row in found.events.select("offset").collect()] == [0]
    assert max(newest for _, newest in found.recorded) == LATEST_RECORD
