"""An event type is added as CONTRIBUTING says: its events come to silver, in every encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from checkout import copied, reelhouse, reelhouse_all, replaced
from embedded_broker import broker_config

from pipelines import broker
from pipelines.engine.lake import Lake
from pipelines.silver import quarantine

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_FIELDS = {"userId": "The viewer.", "mediaId": "The media.", "timestamp": "When it happened."}


def _contracts(schemas: Path) -> None:
    """Step 1."""
    version = schemas / "rating" / "1"
    (version / "examples" / "valid").mkdir(parents=True)
    (schemas / "rating" / "contract.toml").write_text(
        'identity = ["userId", "mediaId", "timestamp"]\ncompatibility = "BACKWARD_TRANSITIVE"\n'
    )
    fields = {name: {"type": "string", "description": text} for name, text in _FIELDS.items()}
    fields["timestamp"]["format"] = "date-time"
    stars = {"type": "number", "minimum": 0, "description": "Stars given."}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "required": [*fields, "stars"],
        "properties": {**fields, "stars": stars},
    }
    (version / "schema.json").write_text(json.dumps(schema))
    avro = [
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "userId", "type": "string"},
        {"name": "mediaId", "type": "string"},
        {"name": "stars", "type": "double"},
    ]
    record = {"type": "record", "name": "Rating", "namespace": "reelhouse.media", "fields": avro}
    (version / "schema.avsc").write_text(json.dumps(record))
    (version / "schema.proto").write_text(
        'syntax = "proto3";\npackage reelhouse.media;\nimport "google/protobuf/timestamp.proto";\n'
        "message Rating {\n  optional google.protobuf.Timestamp timestamp = 1;\n"
        "  optional string user_id = 2;\n  optional string media_id = 3;\n  optional double stars = 4;\n}\n"
    )


def _silver(pipelines: Path) -> None:
    """Step 2."""
    text = (pipelines / "silver" / "system_events.py").read_text()
    head, _, rest = text.partition("EVENT_TYPE = ")
    del rest
    (pipelines / "silver" / "ratings.py").write_text(
        head
        + '''EVENT_TYPE = "rating"
TABLE = Table(
    layer="silver",
    name="ratings",
    grain="one event",
    comment="Stars that viewers gave.",
    columns=(
        EVENT_ID,
        Column("user_id", "string", "The viewer."),
        Column("media_id", "string", "The media."),
        OCCURRED_AT,
        Column("stars", "decimal(18,6)", "Stars given."),
        *LINEAGE,
    ),
    keys=("event_id",),
    partition_cols=("event_date",),
    stats_cols=STATS,
    freshness="record_timestamp",
    contract=Contracted(EVENT_TYPE, {"user_id": "userId", "media_id": "mediaId", "stars": "stars"}),
    rules=(DATED,),
)


def ratings(decoded: DataFrame) -> DataFrame:
    """The rows of accepted ratings."""
    return select_event(decoded, TABLE)
'''
    )
    imported = "from pipelines.silver import content_uploads, ledger, quarantine, "
    replaced(
        pipelines / "tables.py",
        (imported, imported + "ratings, "),
        ("system_events.TABLE, quarantine.TABLE)", "system_events.TABLE, ratings.TABLE, quarantine.TABLE)"),
    )
    entry = "    system_events.EVENT_TYPE: (system_events.TABLE, system_events.system_events),\n"
    replaced(
        pipelines / "engine" / "sorting.py",
        ("import content_uploads, quarantine, ", "import content_uploads, quarantine, ratings, "),
        (entry, entry + "    ratings.EVENT_TYPE: (ratings.TABLE, ratings.ratings),\n"),
    )


def _topic(pipelines: Path) -> None:
    """Step 3."""
    encoding = '    system_events: Encoding = "json"\n'
    replaced(
        pipelines / "config.py",
        (
            '    notifications: str = Field("media',
            '    ratings: str = "media.ratings"\n    notifications: str = Field("media',
        ),
        (encoding, encoding + '    ratings: Encoding = "json"\n'),
    )
    typed = '        topics.system_events: "system-event",\n'
    replaced(
        pipelines / "topics.py",
        (typed, typed + '        topics.ratings: "rating",\n'),
    )


def test_a_rating_event_comes_to_silver(spark: SparkSession, tmp_path: Path) -> None:
    config = broker_config(tmp_path, partitions=1)
    # The broker is started by this checkout, which knows no such topic: it stands in another one's place.
    topics = config.kafka.topics.model_copy(update={"notifications": "media.ratings"})
    broker.start(config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})}))
    try:
        checkout = copied(tmp_path)
        _contracts(checkout / "schemas")
        _silver(checkout / "pipelines")
        _topic(checkout / "pipelines")
        assert "rating 1 is released" in reelhouse(checkout, config, "schemas", "release")
        events = tmp_path / "ratings.ndjson"
        with events.open("w") as out:
            for stars in (1, 2.5, 3, -1):
                at = f"2026-01-05T11:00:0{int(abs(stars) * 2)}Z"
                event = {"userId": "u", "mediaId": "m", "timestamp": at, "stars": stars}
                out.write(json.dumps(event) + "\n")
        told = ("--topic", "media.ratings", "--encoding", "json,avro,protobuf")
        reelhouse(checkout, config, "produce", *told, str(events))
        query = "SELECT user_id, media_id, stars, length(event_id) FROM silver.ratings ORDER BY stars"
        run, sql = ["run", "--available-now"], ["sql", "--format", "csv", query]
        rows = reelhouse_all(checkout, config, run, sql)[1].splitlines()
        assert rows[1:] == ["u,m,1.000000,64", "u,m,2.500000,64", "u,m,3.000000,64"]
        (held,) = Lake.of(spark, config).read(quarantine.TABLE).select("event_type", "reasons").collect()
        reasons = [(reason.code, reason.field) for reason in held.reasons]
        assert (held.event_type, reasons) == ("rating", [("out_of_range", "stars")])
    finally:
        broker.stop(config)
