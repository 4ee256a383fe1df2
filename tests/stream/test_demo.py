"""What `make demo` publishes, and whether a later one may compare the tables with the truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_broker import broker_config

from pipelines import broker, demo
from pipelines.config import Config
from pipelines.kafka_clients import admin, producer
from pipelines.produce import produce
from pipelines.topics import by_event_type

pytestmark = pytest.mark.stream
SOURCE = Path(__file__).parents[2] / demo.SOURCE


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    """A broker with topics of other names, and the events of a demo of three users in two days."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SOURCE", SOURCE)
    monkeypatch.setattr(demo, "DEFAULT_USERS", 3)
    monkeypatch.setattr(demo, "DEFAULT_DAYS", 2)
    config = broker_config(tmp_path, partitions=1)
    topics = config.kafka.topics.model_copy(update={"user_actions": "plays", "content_uploads": "uploads"})
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})})
    broker.start(config)
    demo._simulate(by_event_type(config))
    yield config
    broker.stop(config)


def test_a_second_demo_publishes_nothing_and_compares_while_no_other_records_are_there(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    demo._publish(config)
    assert demo._are_alone(config)
    assert demo._expected(config)["silver.user_actions"] > 183  # the real ones

    client = admin(config)
    client.create_topics({"another": {"num_partitions": 1}})
    client.close()
    sender = producer(config)
    sender.send("another", b"x").get(10)
    demo._publish(config)
    assert "the events are published already" in capsys.readouterr().err
    assert demo._are_alone(config)

    sender.send("plays", b"x").get(10)
    sender.close()
    demo._publish(config)
    assert "the events are published already" in capsys.readouterr().err
    assert not demo._are_alone(config)


def test_a_demo_after_one_that_was_interrupted_publishes_again_and_does_not_compare(config: Config) -> None:
    produce(config, [demo.REAL])
    assert not demo._are_alone(config)
    demo._publish(config)
    assert not demo._are_alone(config)
