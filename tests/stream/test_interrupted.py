"""A silver batch that is cut off, and done again under other contracts: each record is somewhere, once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from embedded_broker import broker_config

from pipelines import broker
from pipelines.config import Config
from pipelines.engine import silver_step
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.replay import Wanted, replay
from pipelines.engine.stream import Streams
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import producer
from pipelines.silver import ledger, quarantine, user_actions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_LARGE = "s" * 2000
_ORDER = ("user_actions", "quarantine", "ledger")
"""Of a batch's writes."""
_COUNT = 16


def _event(number: int, **changes: Any) -> bytes:
    event = {"schemaVersion": 2, "eventId": f"e{number}", "userId": "u", "action": "play"}
    at = f"2026-01-05T11:{number:02}:00Z"
    return json.dumps({**event, "timestamp": at, "mediaId": "m", **changes}).encode()


def _limited(config: Config, largest: int) -> Config:
    limits = config.limits.model_copy(update={"max_record_bytes": largest})
    return config.model_copy(update={"limits": limits})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """A broker with the records of one batch."""
    config = broker_config(tmp_path_factory.mktemp("interrupted"), partitions=1)
    broker.start(config)
    try:
        sender = producer(config)
        values = [_event(n) for n in range(6)] + [_event(n, sessionId=_LARGE) for n in range(6, 10)]
        # A copy of a small one, a copy of a large one, a small copy of a large one, and what is never valid.
        values += [_event(2), _event(7, sessionId=_LARGE), _event(8), b"broken"]
        # An identity given to two times, by records that are far apart.
        values += [_event(20, timestamp=f"2026-01-05T{hour}:00:00Z") for hour in (13, 18)]
        assert len(values) == _COUNT
        long_ago = int((time.time() - 5 * 3600) * 1000)
        for number, value in enumerate(values):
            recorded = {"timestamp_ms": long_ago} if number == _COUNT - 2 else {}
            sender.send(config.kafka.topics.user_actions, value, **recorded)
        sender.close()
        yield config
    finally:
        broker.stop(config)


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ("accepts more", "user_actions"),
        ("accepts more", "quarantine"),
        ("accepts more", "ledger"),
        ("accepts less", "user_actions"),
    ],
)
def test_a_batch_that_is_repeated_under_other_contracts(
    spark: SparkSession,
    published: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    written: str,
) -> None:
    config = _at(tmp_path, published)
    before, after = _limited(config, 1000), config
    if change == "accepts less":
        before, after = after, before
    _cut_off_after(written, spark, before, monkeypatch)
    Streams(spark, after, ("bronze", "silver"), print).run(available_now=True)
    _assert_each_is_somewhere_once(Lake.of(spark, config), config)


def test_what_is_released_before_its_batch_is_repeated_is_told_once(
    spark: SparkSession, published: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _at(tmp_path, published)
    lake = Lake.of(spark, config)
    _cut_off_after("quarantine", spark, _limited(config, 1000), monkeypatch)
    released = sum(one.passing for one in replay(lake, config, Wanted(), dry_run=False))
    assert released == 5
    Streams(spark, config, ("bronze", "silver"), print).run(available_now=True)
    held = lake.read(quarantine.TABLE).where("released_at IS NULL")
    assert [row["value"] for row in held.collect()] == [b"broken"]
    told = lake.read(ledger.TABLE).where(" OR ".join(f"{count} < 0" for count in ledger.COUNTS))
    assert told.isEmpty()
    assert reconcile_records(lake, config).findings == []


def _at(folder: Path, published: Config) -> Config:
    storage = published.storage.model_copy(update={"root": str(folder / "lake")})
    return published.model_copy(update={"storage": storage})


def _cut_off_after(
    written: str, spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the layers until silver's batch has written one of its tables, and no more."""

    def one_only(*writes: Callable[[], Any]) -> None:
        writes[_ORDER.index(written)]()
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(silver_step, "together", one_only)
        with pytest.raises(ReelhouseError):
            Streams(spark, config, ("bronze", "silver"), print).run(available_now=True)


def _assert_each_is_somewhere_once(lake: Lake, config: Config) -> None:
    ids = Counter(row["event_id"] for row in lake.read(user_actions.TABLE).collect())
    assert set(ids.values()) == {1}
    places = [row["offset"] for row in lake.read(user_actions.TABLE).collect()]
    places += [row["offset"] for row in lake.read(quarantine.TABLE).collect()]
    assert len(places) == len(set(places))
    sums = lake.read(ledger.TABLE).groupBy().sum(*ledger.COUNTS).first()
    assert sums is not None
    records, rows, copies, held, _ = tuple(sums)
    assert records == rows + copies + held == _COUNT
    assert rows == len(ids)
    assert reconcile_records(lake, config).findings == []
    # What both contracts accept is in silver, whichever copy came to be it.
    assert {f"e{number}" for number in (*range(6), 8)} <= ids.keys()
