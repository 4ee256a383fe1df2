"""One definition, two ways to run it: whatever the order, lateness, copies and batches of the input, the

streams' gold tables equal what `rebuild` computes from scratch, and what an independent plain-Python
reference computes."""

from __future__ import annotations

import gc
import tempfile
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_rows import CutOffLake, assert_gold_is_rebuilt, plain_rows, rows_of

from pipelines.config import Config
from pipelines.engine import rebuild as rebuild_module
from pipelines.engine.gold_step import GoldStep, changes
from pipelines.engine.lake import Lake, Txn
from pipelines.engine.rebuild import computed, finish, rebuild
from pipelines.gold import media_daily, playbacks, state
from pipelines.silver import content_uploads, user_actions
from pipelines.simulate.reference import ContentUpload, UserAction, compute
from pipelines.tables import GOLD, OF_LAYER

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from pipelines.declare import Table

pytestmark = pytest.mark.stream
START = datetime(2026, 1, 5, 21, tzinfo=timezone.utc)
# Seconds that meet the definitions' edges: ties, 30 s, a jitter of 120 s, durations, 4 hours, the next day.
OFFSETS = st.sampled_from(
    [0, 1, 10, 29, 30, 59, 60, 119, 120, 121, 300, 1800, 3599, 7200, 10800, 14400, 14401]
)
MOMENTS = st.builds(
    lambda a, b, c: START + timedelta(seconds=a + b, microseconds=c),
    OFFSETS,
    OFFSETS,
    st.sampled_from([0, 1]),
)
ACTIONS = st.sampled_from(["play", "play", "play", "pause", "skip", "resume", "seek", "complete"])


@st.composite
def histories(draw: st.DrawFn) -> list[list[UserAction | ContentUpload]]:
    """Batches of events: some late, some in order, uploads that change durations among them."""
    count = draw(st.integers(4, 24))
    events: list[UserAction | ContentUpload] = []
    for number in range(count):
        at = draw(MOMENTS)
        if draw(st.integers(0, 5)) == 0:
            length = draw(st.sampled_from([None, "20", "60", "100.5", "7200", "20000"]))
            status = draw(st.sampled_from(["uploaded", "processed", "published", "removed"]))
            media, duration = draw(st.sampled_from("mn")), None if length is None else Decimal(length)
            events.append(ContentUpload(f"u{number}", media, "c", "t", status, at, duration))
            continue
        position = draw(st.sampled_from([None, "0", "5.25", "95", "101"]))
        events.append(
            UserAction(
                event_id=f"e{number}",
                user_id=draw(st.sampled_from("ab")),
                action=draw(ACTIONS),
                occurred_at=at,
                media_id=draw(st.sampled_from("mno")),
                record_timestamp=at + timedelta(seconds=draw(st.sampled_from([0, 1, 5000, -600]))),
                position_seconds=None if position is None else Decimal(position),
                region="eu",
            )
        )
    if draw(st.booleans()):
        events.sort(key=lambda event: event.occurred_at)
    cuts = sorted(draw(st.lists(st.integers(0, count), max_size=3)))
    parts = [events[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    return [part for part in parts if part]


def _frame(spark: SparkSession, table: Any, events: list[Any]) -> DataFrame:
    rows = []
    for event in events:
        day = event.occurred_at.date()
        given = {
            **vars(event),
            "event_date": day,
            "schema_version": 2,
            "topic": "t",
            "partition": 0,
            "offset": 0,
        }
        rows.append(
            tuple(list(v) if isinstance(v := given.get(name), tuple) else v for name in table.column_names)
        )
    return spark.createDataFrame(rows, table.schema())


def _stepped(spark: SparkSession, root: str, history: list[list[Any]], ahead: bool) -> tuple[Lake, Config]:
    """A lake into whose gold the batches went, each twice; `ahead`: all of them were in silver before."""
    config = Config.model_validate({"storage": {"root": root}})
    lake = _made(spark, config)
    step = GoldStep(config, "test")
    steps = []
    for number, batch in enumerate(history):
        steps.append((_appended(lake, number, batch), number))
        while steps and (not ahead or number == len(history) - 1):
            changed, at = steps.pop(0)
            step(changed, at, lake)
            step(changed, at, lake)  # a replay of a whole batch
            gc.collect()  # as the streams do: Java frees what it keeps for Python
    return lake, config


def _made(spark: SparkSession, config: Config) -> Lake:
    lake = Lake.of(spark, config)
    lake.create((*OF_LAYER["silver"], *OF_LAYER["gold"]))
    return lake


def _appended(lake: Lake, number: int, batch: list[Any]) -> DataFrame:
    """Append a batch to silver; what the gold stream reads of it."""
    actions = _frame(lake.spark, user_actions.TABLE, [e for e in batch if isinstance(e, UserAction)])
    uploads = _frame(lake.spark, content_uploads.TABLE, [e for e in batch if isinstance(e, ContentUpload)])
    lake.append(user_actions.TABLE, actions, Txn("a", number))
    lake.append(content_uploads.TABLE, uploads, Txn("u", number))
    return changes(actions, uploads)


def _assert_the_reference(lake: Lake, history: list[list[Any]]) -> None:
    events = [event for batch in history for event in batch]
    expected = compute(
        [e for e in events if isinstance(e, UserAction)],
        [e for e in events if isinstance(e, ContentUpload)],
    )
    for table in GOLD:
        want = plain_rows(expected[table.name])
        names = list(want[0]) if want else table.column_names
        assert rows_of(lake.read(table), names) == want, table.full_name


def _assert_one_truth(lake: Lake, config: Config, history: list[list[Any]]) -> None:
    """The lake's gold is what the reference computes, and what `rebuild` does."""
    _assert_the_reference(lake, history)
    assert_gold_is_rebuilt(lake, computed(lake.read, config))


@settings(
    max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)
@given(history=histories(), ahead=st.booleans())
def test_stream_is_rebuild_is_reference(spark: SparkSession, history: list[list[Any]], ahead: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        lake, config = _stepped(spark, root, history, ahead)
        _assert_one_truth(lake, config, history)


def _at(event_id: str, minute: int, action: str, user: str = "a") -> UserAction:
    at = START + timedelta(minutes=minute)
    return UserAction(event_id, user, action, at, "m", record_timestamp=at, region="eu")


def test_a_late_event_takes_nothing_from_batches_to_come(spark: SparkSession, tmp_path: Path) -> None:
    others = [_at(f"o{minute}", minute, "play", user="b") for minute in (0, 10, 20)]
    late = [_at("late", -10, "play"), _at("moved", -5, "seek", user="c")]
    # In silver, but not in gold yet: after gold's clock, before it, and an opening that nothing has ended.
    to_come = [_at("x1", 15, "play"), _at("x2", -5, "pause"), _at("x3", -6, "play", user="c")]
    history: list[list[Any]] = [others[:1], [*late, others[1]], [*to_come, others[2]]]
    lake, config = _stepped(spark, str(tmp_path), history, True)
    _assert_one_truth(lake, config, history)


def test_an_id_that_a_producer_gives_to_every_event_mixes_up_none(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Silver drops what comes again within an hour; what comes later with another time is another event."""
    event_id = r"${spark.sql.session.timeZone} isn't \ an id"
    history: list[list[Any]] = [
        [_at(event_id, 0, "play"), _at("end", 10, "pause"), _at("x1", 65, "play", "c")],
        [_at(event_id, 70, "play", "b"), _at("x2", 140, "play", "c")],
        [_at(event_id, 141, "play", "b"), _at("x3", 142, "play", "c")],
        # Late: it restates one of the rows with this id, and looks at another.
        [_at("late", 5, "skip"), _at("seek", 100, "seek", "b"), _at("x4", 143, "play", "c")],
        [_at("x5", 144, "play", "c")],
    ]
    lake, config = _stepped(spark, str(tmp_path), history, False)
    _assert_one_truth(lake, config, history)
    kept = lake.read(state.RECENT_ACTIONS)
    assert kept.count() == kept.distinct().count(), "an event is remembered once"


@pytest.mark.parametrize(
    ("jitters", "rebuilt"),
    [((120, 3600), None), ((3600, 0), media_daily.TABLE), ((3600, 0), playbacks.TABLE)],
    ids=["raised", "lowered-part-rebuilt", "lowered-rebuilt"],
)
def test_another_jitter_counts_each_play_once(
    spark: SparkSession, tmp_path: Path, jitters: tuple[int, int], rebuilt: Table | None
) -> None:
    history: list[list[Any]] = [
        [_at("a1", 0, "play"), _at("b1", 5, "play", "b"), _at("a2", 30, "pause"), _at("a3", 55, "play")],
        [_at("a4", 58, "pause"), _at("c1", 60, "play", "c")],
        # Late by the one jitter, not by the other: in the midst of what was settled, and of what was not.
        [
            _at("a5", 20, "skip"),
            _at("b2", 50, "pause", "b"),
            _at("a6", 57, "play"),
            _at("c2", 61, "play", "c"),
        ],
        [_at("a7", 10, "skip"), _at("c3", 90, "pause", "c")],
        [_at("b3", 130, "play", "b"), _at("c4", 131, "play", "c")],
    ]
    configs = [
        Config.model_validate({"storage": {"root": str(tmp_path)}, "stream": {"jitter_seconds": seconds}})
        for seconds in jitters
    ]
    lake = _made(spark, configs[0])
    for number, batch in enumerate(history):
        if number == 2 and rebuilt is not None:
            rebuild(lake, configs[1], [rebuilt])
        GoldStep(configs[number > 1], "test")(_appended(lake, number, batch), number, lake)
    _assert_the_reference(lake, history)


def test_a_rebuild_that_was_cut_off_is_finished_before_the_stream_goes_on(
    spark: SparkSession, tmp_path: Path
) -> None:
    """With another jitter, by which its first table settles what the stream would settle again."""
    before, now = (
        Config.model_validate({"storage": {"root": str(tmp_path)}, "stream": {"jitter_seconds": seconds}})
        for seconds in (3600, 0)
    )
    history: list[list[Any]] = [
        [_at("a1", 0, "play"), _at("a2", 10, "pause"), _at("b1", 30, "play", "b")],
        [_at("b2", 40, "play", "b")],
    ]
    lake = _made(spark, before)
    GoldStep(before, "test")(_appended(lake, 0, history[0]), 0, lake)
    with pytest.raises(KeyboardInterrupt):
        rebuild(CutOffLake(spark, lake.root), now, [playbacks.TABLE])
    to_come = _appended(lake, 1, history[1])  # silver goes on meanwhile
    for _ in range(2):  # the second time there is nothing to finish
        finish(lake, now, print)
    GoldStep(now, "test")(to_come, 1, lake)
    _assert_one_truth(lake, now, history)


def test_a_rebuild_that_had_written_nothing_is_forgotten(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who interrupts it while it still computes has changed his mind."""
    config = Config.model_validate({"storage": {"root": str(tmp_path)}})
    lake = _made(spark, config)
    history = [[_at("a1", 0, "play"), _at("a2", 10, "pause")]]
    GoldStep(config, "test")(_appended(lake, 0, history[0]), 0, lake)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild_module, "computed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rebuild(lake, config, [playbacks.TABLE])
    told: list[str] = []
    finish(lake, config, told.append)
    assert told == []
    assert rebuild_module.unfinished(lake) is None
