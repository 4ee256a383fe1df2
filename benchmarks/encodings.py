"""Decoding and validation by encoding, warm, as a share of JSON's rate in the same run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.setup import write_actions
from pipelines import topics
from pipelines.bronze import events
from pipelines.config import Config
from pipelines.contracts.binary import AVRO, PROTOBUF, Kind, decode_binary
from pipelines.contracts.decode import decode, event_type_of
from pipelines.contracts.encode import Encoder
from pipelines.contracts.publish import ENCODINGS
from pipelines.engine.sorting import limits_of
from pipelines.event_files import read_records
from pipelines.session import open_session

_ROUNDS = 5
_RECORDED = datetime(2026, 1, 6, tzinfo=timezone.utc)


def measure(folder: Path) -> None:
    """Print the rates (records/s) and their ratios."""
    count = int(os.environ.get("REELHOUSE_BENCH_EVENTS", "300000"))
    config = Config()
    write_actions(folder / "events.ndjson", count)
    spark = open_session(config, "encodings")
    bronze = {name: _bronze(spark, config, folder, name) for name in ENCODINGS}
    limits = limits_of(config)
    kinds = {name: [Kind("user-action", name, 2, None)] for name in (AVRO, PROTOBUF)}
    steps: dict[str, Callable[[], DataFrame]] = {
        "json, not validated": lambda: decode(bronze["json"], limits).drop("event_id", "accepted"),
        "json, without identity": lambda: decode(bronze["json"], limits).drop("event_id"),
        "json": lambda: decode(bronze["json"], limits),
        "avro": lambda: decode_binary(_told(bronze["avro"], AVRO), kinds[AVRO], {}, limits),
        "protobuf": lambda: decode_binary(_told(bronze["protobuf"], PROTOBUF), kinds[PROTOBUF], {}, limits),
    }
    frames = {name: step() for name, step in steps.items()}
    for decoded in (frame for frame in frames.values() if "accepted" in frame.columns):
        # Not as a filter, which the optimizer would push down, a copy of the decoding for each field.
        found = decoded.agg(F.count_if("accepted")).first()
        assert found is not None
        assert found[0] == count
    rates = dict.fromkeys(frames, 0.0)
    for _ in range(_ROUNDS):
        for name, decoded in frames.items():
            rates[name] = max(rates[name], _rate(decoded, count))
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} records/s; {rate / rates['json']:.2f} of json")
    spent = rates["json, not validated"] / rates["json, without identity"] - 1
    print(f"validation adds {spent:.0%} to the decoding of json")


def _rate(frame: DataFrame, count: int) -> float:
    began = time.monotonic()
    # The struct and what was found, not the bytes: as silver takes it.
    frame.drop("key", "value", "headers").write.format("noop").mode("overwrite").save()
    return count / (time.monotonic() - began)


def _bronze(spark: SparkSession, config: Config, folder: Path, encoding: str) -> DataFrame:
    """The events in an encoding as rows of bronze, in files."""
    import pyarrow as pa
    from pyarrow import parquet

    encoder = Encoder((encoding,), topics.event_types(config), None)
    rows: dict[str, list[Any]] = {"value": [], "headers": []}
    topic = config.kafka.topics.user_actions
    for located in read_records(folder / "events.ndjson", config.kafka.topics, topic):
        record = encoder(located.record)
        rows["value"].append(record.value)
        rows["headers"].append(
            [{"key": name, "value": value} for name, value in record.headers or ()] or None
        )
    header = pa.struct([("key", pa.string()), ("value", pa.binary())])
    table = pa.table({"value": rows["value"], "headers": pa.array(rows["headers"], pa.list_(header))})
    file = folder / f"{encoding}.parquet"
    parquet.write_table(table, file, row_group_size=len(table) // 4)
    given = {
        "topic": F.lit(topic),
        "partition": F.lit(0),
        "offset": F.monotonically_increasing_id(),
        "timestamp": F.lit(_RECORDED),
        "ingested_at": F.lit(_RECORDED),
        "key": F.lit(None).cast("binary"),
    }
    read = spark.read.format("parquet").load(str(file)).repartition(2)
    records = read.select(*[given.get(n, F.col(n)).alias(n) for n in events.TABLE.column_names])
    typed = records.withColumn("event_type", event_type_of(topics.event_types(config)))
    return typed.persist()


def _told(records: DataFrame, encoding: str) -> DataFrame:
    return records.withColumn("encoding", F.lit(encoding))
