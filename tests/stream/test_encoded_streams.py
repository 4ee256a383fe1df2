"""All versions in all encodings, mixed with broken records, while the registry comes and goes: it adds up."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from apicurio import Apicurio, apicurio
from embedded_broker import broker_config
from lake_rows import assert_gold_is

from pipelines import broker, topics
from pipelines.config import Config
from pipelines.contracts import avro
from pipelines.contracts.encode import Encoder
from pipelines.contracts.load import contracts
from pipelines.contracts.publish import ENCODINGS, ids_of, publish
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.reconcile_gold import reconcile_gold
from pipelines.engine.sorting import EVENTS
from pipelines.engine.stream import Streams
from pipelines.event_files import Record, read_records
from pipelines.kafka_clients import producer
from pipelines.produce import produce
from pipelines.registry import Registry
from pipelines.silver import ledger, quarantine, user_actions
from pipelines.simulate.write import write_simulation
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
OF_REGISTRY = {"registry_unavailable", "unknown_schema_id"}


@dataclass
class World:
    """A broker, a registry with the contracts, a lake, and a simulation cut in parts."""

    config: Config
    registry: Apicurio
    lake: Lake
    folder: Path

    def publish(self, part: int, parts: int, encoder: Encoder) -> None:
        """Send a part of the simulated records, encoded."""
        lines = (self.folder / "events.ndjson").read_text().splitlines(keepends=True)
        own = lines[len(lines) * part // parts : len(lines) * (part + 1) // parts]
        (self.folder / "part.ndjson").write_text("".join(own))
        produce(self.config, [self.folder / "part.ndjson"], encode=encoder)

    def run(self) -> None:
        """A process's run: what it knew of ids before is forgotten."""
        Streams(self.lake.spark, self.config, LAYERS, print).run(available_now=True)

    def held(self) -> dict[str, int]:
        """Records in quarantine by their first reason (count)."""
        rows = self.lake.read(quarantine.TABLE).where("released_at IS NULL").select("reasons").collect()
        codes = [row["reasons"][0]["code"] for row in rows]
        return {code: codes.count(code) for code in codes}

    def encoder(self, *, framed: bool) -> Encoder:
        types = topics.event_types(self.config)
        if not framed:
            return Encoder(ENCODINGS, types, None)
        found = publish(Registry.of(self.config.registry), topics.by_event_type(self.config))
        return Encoder(ENCODINGS, types, ids_of(found))


@pytest.fixture(scope="module")
def world(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("encoded")
    write_simulation(folder, users=15, days=2, seed=7)
    config = broker_config(folder, partitions=2)
    broker.start(config)
    try:
        with apicurio(folder / "registry") as registry:
            told = config.registry.model_copy(update={"url": registry.url, "retry_seconds": 0.0})
            config = config.model_copy(update={"registry": told})
            yield World(config, registry, Lake.of(spark, config), folder)
    finally:
        broker.stop(config)


def _mutated(config: Config, count: int) -> list[bytes]:
    """Datums and messages with bytes changed, which no contract accepts."""
    rng = random.Random(5)
    play = {"userId": "u", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}
    good = avro.write(play, contracts("user-action")[2])
    return [good[: rng.randrange(9, len(good) - 7)] + bytes([255, 255]) for _ in range(count)]


def test_it_adds_up_whatever_the_encoding_and_the_registry_do(world: World) -> None:
    framed = world.encoder(framed=True)
    world.publish(0, 4, world.encoder(framed=False))
    world.publish(1, 4, framed)
    world.run()
    assert not OF_REGISTRY & world.held().keys()
    entered = world.lake.read(user_actions.TABLE).count()

    # The registry is gone: what needs it waits, what does not flows.
    world.registry.stop()
    world.publish(2, 4, framed)
    world.publish(3, 4, Encoder(("json",), {}, None))
    sender = producer(world.config)
    mutated = _mutated(world.config, 30)
    for value in mutated:
        headers = [("content-type", b"application/avro"), ("schema-version", b"2")]
        sender.send(world.config.kafka.topics.user_actions, value, headers=headers)
    sender.close()
    world.run()
    waiting = world.held().get("registry_unavailable", 0)
    assert waiting > 50
    assert world.lake.read(user_actions.TABLE).count() > entered
    assert world.held().get("invalid_avro", 0) >= len(mutated)
    assert reconcile_records(world.lake, world.config).findings == []

    # It is back: what waited is released, each record once, by the run itself.
    world.registry.start()
    world.run()
    assert not OF_REGISTRY & world.held().keys()
    world.run()
    valid = json.loads((world.folder / "truth" / "counts.json").read_text())["valid"]
    silver = {t: world.lake.read(table).count() for t, (table, _) in EVENTS.items()}
    assert silver == {t: valid[t] for t in EVENTS}
    assert_gold_is(world.lake, world.folder)
    assert reconcile_records(world.lake, world.config).findings == []
    assert reconcile_gold(world.lake) == ([], [])
    sums = world.lake.read(ledger.TABLE).groupBy().sum(*ledger.COUNTS).first()
    assert sums is not None
    records, rows, copies, held, released = tuple(sums)
    assert records + released == rows + copies + held
    # Some of what waited is broken besides.
    assert waiting * 0.8 < released <= waiting


def test_an_id_that_appears_later_is_asked_again(world: World) -> None:
    play = {"userId": "late", "action": "play", "timestamp": "2026-01-05T11:00:00Z", "mediaId": "m"}
    contract = contracts("user-action")[2]
    registry = Registry.of(world.config.registry)
    # The same schema with another comment has an id of its own: ids are given in their order.
    text = avro.schema_text(contract).replace("The viewer who acted.", "Whoever acted.")
    known = registry.register("probe-value", "AVRO", text.replace("Whoever", "Whoever then"))
    value = b"\0" + (known + 1).to_bytes(4, "big") + avro.write(play, contract)
    sender = producer(world.config)
    sender.send(world.config.kafka.topics.user_actions, value)
    sender.close()
    world.run()
    assert world.held()["unknown_schema_id"] == 1
    assert registry.register("other-value", "AVRO", text) == known + 1
    world.run()
    assert "unknown_schema_id" not in world.held()
    assert world.lake.read(user_actions.TABLE).where("user_id = 'late'").count() == 1


def test_records_of_files_are_encoded_with_the_headers_that_they_had(world: World) -> None:
    records = [r.record for r in read_records(world.folder / "events.ndjson", world.config.kafka.topics)]
    encoder = world.encoder(framed=False)
    sent = [encoder(record) for record in records]
    assert 0 < encoder.left < len(records) / 5
    for before, after in zip(records, sent, strict=True):
        assert set(before.headers or ()) <= set(after.headers or ()) or _has_version(before)
        assert (before.topic, before.key, before.timestamp_ms) == (after.topic, after.key, after.timestamp_ms)


def _has_version(record: Record) -> bool:
    return any(name == "schema-version" for name, _ in record.headers or ())
