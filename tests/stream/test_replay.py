"""Held records that pass after a fix are released, each once, also when the replay is killed in between."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from embedded_broker import broker_config
from lake_rows import assert_gold_is_rebuilt

from pipelines import broker
from pipelines.config import Config
from pipelines.engine import reconcile as reconciles
from pipelines.engine import replay as replays
from pipelines.engine.lake import Lake
from pipelines.engine.rebuild import computed
from pipelines.engine.reconcile import Report, reconcile_records
from pipelines.engine.reconcile_gold import reconcile_gold
from pipelines.engine.replay import Judged, Wanted, replay
from pipelines.engine.stream import Streams
from pipelines.kafka_clients import producer
from pipelines.silver import ledger, quarantine, user_actions
from pipelines.tables import LAYERS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_LARGE = "s" * 2000


def action(number: int, **changes: Any) -> bytes:
    event = {
        "schemaVersion": 2,
        "eventId": f"e{number}",
        "userId": f"u{number % 3}",
        "action": "play" if number % 2 else "pause",
        "timestamp": f"2026-01-05T11:{number:02}:00Z",
        "mediaId": "m",
    }
    return json.dumps({**event, **changes}).encode()


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def held(spark: SparkSession, tmp_path: Any) -> Iterator[tuple[Lake, Config]]:
    """Twenty events in silver, and ten held, too large for a limit that the configuration no longer has."""
    config = broker_config(tmp_path, partitions=2)
    strict = config.model_copy(update={"limits": config.limits.model_copy(update={"max_record_bytes": 1000})})
    broker.start(config)
    try:
        sender = producer(config)
        values = [action(n) for n in range(20)]
        values += [action(n, sessionId=_LARGE) for n in range(20, 28)]
        # One is a copy of an event in silver, one of another held one.
        values += [action(3, sessionId=_LARGE), action(27, sessionId=_LARGE), b"broken"]
        for value in values:
            sender.send(config.kafka.topics.user_actions, value)
        sender.close()
        lake = Lake.of(spark, config)
        Streams(spark, strict, LAYERS, print).run(available_now=True)
        assert lake.read(user_actions.TABLE).count() == 20
        assert lake.read(quarantine.TABLE).count() == 11
        yield lake, config
    finally:
        broker.stop(config)


def test_a_replay_releases_each_record_once(held: tuple[Lake, Config], monkeypatch: Any) -> None:
    lake, config = held
    wanted = Wanted(("too_large",))
    expected = [Judged("user-action", "too_large", 10, 10)]
    assert replay(lake, config, wanted, dry_run=True) == expected
    assert lake.read(user_actions.TABLE).count() == 20

    def kill_at(step: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(replays, step, killed)
            with pytest.raises(KeyboardInterrupt):
                replay(lake, config, wanted, dry_run=False)

    # Killed when silver has the rows and quarantine does not say so yet.
    kill_at("_mark")
    assert lake.read(user_actions.TABLE).count() == 28
    assert any("held" in finding.check for finding in reconcile_records(lake, config).findings)

    # And once more when the ledger does not say so yet.
    kill_at("settle")
    assert replay(lake, config, Wanted(), dry_run=False) == [Judged("user-action", "invalid_json", 1, 0)]
    assert replay(lake, config, wanted, dry_run=False) == []

    ids = Counter(row[0] for row in lake.read(user_actions.TABLE).select("event_id").collect())
    assert ids == Counter({f"e{number}": 1 for number in range(28)})
    released = Counter(row[0] for row in lake.read(quarantine.TABLE).select("released_as").collect())
    assert released == {"row": 8, "copy": 2, None: 1}
    sums = lake.read(ledger.TABLE).groupBy().sum(*ledger.COUNTS).first()
    assert tuple(sums) == (31, 28, 2, 11, 10)

    Streams(lake.spark, config, LAYERS, print).run(available_now=True)
    assert_gold_is_rebuilt(lake, computed(lake.read, config))
    assert reconcile_records(lake, config).findings == []
    assert reconcile_gold(lake) == ([], [])


def test_a_release_that_was_killed_is_settled_by_the_next_run(
    held: tuple[Lake, Config], monkeypatch: Any
) -> None:
    lake, config = held
    with monkeypatch.context() as patch:
        patch.setattr(replays, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            replay(lake, config, Wanted(("too_large",)), dry_run=False)
    Streams(lake.spark, config, ["silver"], print).run(available_now=True)
    assert reconcile_records(lake, config).findings == []


def test_a_release_that_is_under_way_is_no_fault(held: tuple[Lake, Config], monkeypatch: Any) -> None:
    """However long it takes from its rows in silver to its marks in quarantine."""
    lake, config = held
    mark, compared = replays._mark, reconciles._compared
    has_rows, was_compared = Event(), Event()

    def slow_mark(*args: Any) -> None:
        has_rows.set()
        assert was_compared.wait(180)
        mark(*args)

    def compare(*args: Any) -> Report:
        report = compared(*args)
        was_compared.set()
        return report

    monkeypatch.setattr(replays, "_mark", slow_mark)
    monkeypatch.setattr(reconciles, "_compared", compare)
    with ThreadPoolExecutor(1) as pool:
        replaying = pool.submit(replay, lake, config, Wanted(("too_large",)), False)
        assert has_rows.wait(180)
        assert reconcile_records(lake, config).findings == []
        replaying.result()


def test_what_is_refused_still_gets_the_reasons_of_now(held: tuple[Lake, Config]) -> None:
    lake, config = held
    stricter = config.model_copy(update={"limits": config.limits.model_copy(update={"max_record_bytes": 3})})
    assert replay(lake, stricter, Wanted(("invalid_json",)), dry_run=False)[0].passing == 0
    row = lake.read(quarantine.TABLE).where("value = X'62726F6B656E'").first()
    assert [reason.code for reason in row.reasons] == ["too_large"]
