"""What must stop a stream stops it with a sentence, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from embedded_broker import running_broker, until
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines import broker
from pipelines.bronze import events, expired_records
from pipelines.config import Config
from pipelines.engine import expired
from pipelines.engine.lake import Lake
from pipelines.engine.reconcile import reconcile_records
from pipelines.engine.reconcile_gold import reconcile_gold
from pipelines.engine.stream import Streams
from pipelines.engine.stream_facts import stream_facts
from pipelines.errors import ReelhouseError
from pipelines.gold import media_daily, state
from pipelines.kafka_clients import admin, producer
from pipelines.silver import user_actions
from pipelines.tables import GOLD, LAYERS
from pipelines.topics import create_topics

if TYPE_CHECKING:
    from pyspark.sql import Row, SparkSession

pytestmark = pytest.mark.stream
PARTITIONS = 1


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Config]:
    """A broker of the test's own."""
    with running_broker(tmp_path, partitions=1) as found:
        yield found


def publish(config: Config, numbers: range, padding: int = 0) -> None:
    sender = producer(config)
    for number in numbers:
        event = {
            "userId": f"u{number}",
            "action": "play",
            "timestamp": "2026-01-05T11:00:00Z",
            "mediaId": "m",
        }
        event["note"] = f"{number}" * padding
        sender.send(config.kafka.topics.user_actions, json.dumps(event).encode(), key=b"u")
    sender.close()


def run(spark: SparkSession, config: Config, report: Callable[[str], None] = print) -> None:
    Streams(spark, config, ("bronze",), report).run(available_now=True)


def delete_before(config: Config, offset: int) -> None:
    with closing(admin(config)) as client:
        client.delete_records({TopicPartition(config.kafka.topics.user_actions, 0): offset})


def skipping(config: Config) -> Config:
    """The configuration of a run that goes on where records have expired."""
    return config.model_copy(update={"kafka": config.kafka.model_copy(update={"fail_on_data_loss": False})})


def offsets(spark: SparkSession, config: Config) -> list[int]:
    rows = Lake.of(spark, config).read(events.TABLE).select("offset").collect()
    return sorted(row.offset for row in rows)


def test_expired_records_stop_the_stream_and_skipping_them_is_recorded(
    config: Config, spark: SparkSession
) -> None:
    publish(config, range(10))
    run(spark, config)
    publish(config, range(10, 20))
    delete_before(config, 15)
    with pytest.raises(ReelhouseError, match="fail_on_data_loss") as stopped:
        run(spark, config)
    assert stopped.value.code == "offsets_expired"
    assert offsets(spark, config) == list(range(10))

    lake = Lake.of(spark, config)
    lines: list[str] = []
    # Starts that end before their batch, while more expires.
    expired.record(lake, config, lines.append)
    delete_before(config, 17)
    for _ in range(2):  # a second run skips nothing, and records nothing
        run(spark, skipping(config), lines.append)
    assert offsets(spark, config) == [*range(10), *range(17, 20)]
    rows = lake.read(expired_records.TABLE).orderBy("first_offset").collect()
    assert [(row.topic, row.partition, row.first_offset, row.end_offset) for row in rows] == [
        (config.kafka.topics.user_actions, 0, 10, 15),
        (config.kafka.topics.user_actions, 0, 15, 17),
    ]
    topic = config.kafka.topics.user_actions
    assert f"skipping 5 expired records of {topic}, partition 0, from 10" in lines
    assert f"skipping 2 expired records of {topic}, partition 0, from 15" in lines


def test_records_that_expire_while_a_backlog_is_read_are_recorded(
    config: Config, spark: SparkSession
) -> None:
    """Spark passes over them within one query, and the next round would begin behind them."""
    publish(config, range(400), padding=20_000)  # more than the consumer fetches at once, which stays with it
    stream = config.stream.model_copy(update={"max_records_per_batch": 40})
    changed = skipping(config).model_copy(update={"stream": stream})
    lake, lines = Lake.of(spark, config), list[str]()
    place = TopicPartition(config.kafka.topics.user_actions, 0)

    def expire() -> None:
        until(Path(lake.checkpoint("bronze"), "commits", "1").exists, 60)
        delete_before(config, 300)

    with ThreadPoolExecutor(1) as pool:
        expiring = pool.submit(expire)
        run(spark, changed, lines.append)
        expiring.result()
    found = offsets(spark, config)
    gone = sorted(set(range(400)) - set(found))
    print(f"bronze lacks {len(gone)} records: {gone[:1]} to {gone[-1:]}")
    assert gone == list(range(gone[0], 300)), "nothing expired before it was read"
    run(spark, changed, lines.append)  # records nothing again
    rows = lake.read(expired_records.TABLE).collect()
    assert [(row.first_offset, row.end_offset) for row in rows] == [(gone[0], 300)]
    told = f"skipping {300 - gone[0]} expired records of {place.topic}, partition 0, from {gone[0]}"
    assert lines.count(told) == 1


def test_a_gap_that_a_killed_run_left_is_written_by_one_that_skips_nothing(
    config: Config, spark: SparkSession
) -> None:
    """And what such runs read, and Kafka deletes later, is no gap for the next one that skips."""
    skips, lake = skipping(config), Lake.of(spark, config)
    publish(config, range(5))
    run(spark, skips)
    noted = Path(f"{lake.checkpoint('bronze')}-expired.json")
    before = noted.read_text()
    publish(config, range(5, 10))
    delete_before(config, 8)
    run(spark, skips)
    noted.write_text(before)  # as if it had been killed before it looked
    lake.spark.sql(f"DELETE FROM delta.`{lake.path(expired_records.TABLE)}`")
    sender = producer(config, transactional_id="one")
    sender.init_transactions()
    lines: list[str] = []
    for value in (b"x", b"y"):
        sender.begin_transaction()
        sender.send(config.kafka.topics.user_actions, value)
        sender.commit_transaction()
        run(spark, config, lines.append)
    sender.close()
    delete_before(config, 13)
    publish(config, range(2))
    run(spark, skips, lines.append)
    rows = lake.read(expired_records.TABLE).collect()
    assert [(row.first_offset, row.end_offset) for row in rows] == [(5, 8)]
    assert sum("skipping" in line for line in lines) == 1


def test_each_record_of_many_batches_is_counted(config: Config, spark: SparkSession) -> None:
    publish(config, range(24))
    stream = config.stream.model_copy(update={"max_records_per_batch": 2})
    streams = Streams(spark, config.model_copy(update={"stream": stream}), ("bronze",), print)
    (done,) = streams.run(available_now=True)
    assert (done.records, done.batches) == (24, 12)


def test_a_record_of_a_time_beyond_all_is_told_and_can_be_taken_out(
    config: Config, spark: SparkSession
) -> None:
    topic = config.kafka.topics.user_actions
    allowed = ConfigResource(
        ConfigResourceType.TOPIC, topic, {"message.timestamp.after.max.ms": str(2**63 - 1)}
    )
    with closing(admin(config)) as client:
        client.alter_configs([allowed])
    publish(config, range(2))
    with closing(producer(config)) as sender:
        sender.send(topic, b"{}", timestamp_ms=2**63 - 1).get(30)
    publish(config, range(2, 4))
    one_by_one = config.model_copy(
        update={"stream": config.stream.model_copy(update={"max_records_per_batch": 1})}
    )
    with pytest.raises(ReelhouseError, match="own time") as stopped:
        run(spark, one_by_one)
    assert stopped.value.code == "record_time_unreadable"
    assert offsets(spark, config) == [0, 1]
    delete_before(config, 3)
    run(spark, skipping(config))
    assert offsets(spark, config) == [0, 1, 3, 4]


def test_what_expires_after_it_was_read_is_no_gap(config: Config, spark: SparkSession) -> None:
    """Though an offset of it never had a record: the end of a producer's transaction."""
    place = TopicPartition(config.kafka.topics.user_actions, 0)
    sender = producer(config, transactional_id="one")
    sender.init_transactions()
    sender.begin_transaction()
    sender.send(place.topic, b"x")
    sender.commit_transaction()
    sender.close()
    publish(config, range(2))
    run(spark, skipping(config))
    assert offsets(spark, config) == [0, 2, 3]
    delete_before(config, 3)
    run(spark, skipping(config))
    assert Lake.of(spark, config).read(expired_records.TABLE).isEmpty()


def test_what_a_killed_run_had_written_is_no_gap(config: Config, spark: SparkSession) -> None:
    """Its batch is in the table, and not in the checkpoint; until the next run Kafka deletes it and more."""
    lake = Lake.of(spark, config)
    for numbers in (range(5), range(5, 10)):
        publish(config, numbers)
        run(spark, config)
    for file in Path(lake.checkpoint("bronze"), "commits").glob("*1"):
        file.unlink()
    publish(config, range(10, 15))
    delete_before(config, 12)
    run(spark, skipping(config))
    assert offsets(spark, config) == [*range(10), *range(12, 15)]
    rows = lake.read(expired_records.TABLE).collect()
    assert [(row.first_offset, row.end_offset) for row in rows] == [(10, 12)]


def test_a_checkpoint_of_before_is_refused(config: Config, spark: SparkSession) -> None:
    """Delta would skip the writes of its next batches, whose numbers the tables know."""
    lake = Lake.of(spark, config)
    kept = Path(lake.root, "kept")
    for numbers in (range(3), range(3, 7)):
        publish(config, numbers)
        Streams(spark, config, LAYERS, print).run(available_now=True)
        if not kept.exists():
            shutil.copytree(Path(lake.checkpoint("bronze")).parent, kept)
    for layer in LAYERS:
        now = Path(lake.checkpoint(layer))
        aside = now.rename(now.with_name(f"{layer}-now"))
        shutil.copytree(kept / layer, now)
        with pytest.raises(
            ReelhouseError, match=rf"/{layer} is older than what {layer} has written"
        ) as refused:
            Streams(spark, config, LAYERS, print).run(available_now=True)
        assert refused.value.code == "checkpoint_behind"
        shutil.rmtree(now)
        aside.rename(now)
    Streams(spark, config, LAYERS, print).run(available_now=True)
    assert offsets(spark, config) == list(range(7))


def test_tables_of_before_are_refused(config: Config, spark: SparkSession) -> None:
    """The stream would go on after what it had read, and what it had written since would be missing."""
    lake = Lake.of(spark, config)
    root = Path(lake.root)
    for done, numbers in enumerate((range(3), range(3, 5), range(5, 7))):
        publish(config, numbers)
        Streams(spark, config, LAYERS, print).run(available_now=True)
        shutil.copytree(root, root.with_name(f"kept-{done}"))
    last, before = "batch 1 of 2", r"version \d+ of \d+"
    for table, kept, told in (
        (events.TABLE, 1, last),
        (user_actions.TABLE, 0, before),
        (media_daily.TABLE, 0, before),
        (state.RECENT_ACTIONS, 1, last),
    ):
        now, older = Path(lake.path(table)), root.with_name(f"kept-{kept}") / table.layer / table.name
        aside = now.rename(root / "aside")
        shutil.copytree(older, now)
        _forget_logs(spark)
        with pytest.raises(ReelhouseError, match=rf"^{table.full_name} \({told}\) is older") as refused:
            Streams(spark, config, LAYERS, print).run(available_now=True)
        assert refused.value.code == "table_behind"
        shutil.rmtree(now)
        aside.rename(now)
    # A layer together with its checkpoint goes on by itself, but not what reads it.
    asides = {}
    for now in (root / "bronze", root / "_checkpoints" / "bronze"):
        asides[now] = now.rename(now.with_name(f"{now.name}-now"))
        shutil.copytree(root.with_name("kept-0") / now.relative_to(root), now)
    _forget_logs(spark)
    with pytest.raises(ReelhouseError, match=rf"^bronze\.events \({before}\) .* of silver") as refused:
        Streams(spark, config, ["silver"], print).run(available_now=True)
    assert refused.value.code == "table_behind"
    # Nor would it be sound to go on by itself: silver would take its next commits for those that it has read.
    with pytest.raises(ReelhouseError, match=rf"^bronze\.events \({before}\) .* silver has read") as refused:
        Streams(spark, config, ["bronze"], print).run(available_now=True)
    assert refused.value.code == "table_behind"
    for now, aside in asides.items():
        shutil.rmtree(now)
        aside.rename(now)
    _forget_logs(spark)
    Streams(spark, config, LAYERS, print).run(available_now=True)
    assert offsets(spark, config) == list(range(7))


def _forget_logs(spark: SparkSession) -> None:
    """As a process that has just been started."""
    jvm: Any = spark._jvm
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def test_a_layer_begins_anew_when_the_log_of_its_source_has_been_cut(
    config: Config, spark: SparkSession
) -> None:
    """As Delta does with commits older than 30 days."""

    def take(numbers: range) -> None:
        publish(config, numbers)
        run(spark, config)

    def in_silver() -> list[str]:
        Streams(spark, config, ("silver",), print).run(available_now=True)
        return sorted(row.user_id for row in lake.read(user_actions.TABLE).collect())

    lake = Lake.of(spark, config)
    take(range(10))
    path = lake.path(events.TABLE)
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
    take(range(10, 30))
    min(Path(path, "_delta_log").glob("*.json")).unlink()
    assert in_silver() == sorted(f"u{number}" for number in range(30))
    take(range(30, 40))
    assert in_silver() == sorted(f"u{number}" for number in range(40)), "goes on from its checkpoint"


def test_a_table_that_is_gone_is_refused_and_its_layer_begins_anew(
    config: Config, spark: SparkSession
) -> None:
    def run_all() -> None:
        Streams(spark, config, LAYERS, print).run(available_now=True)

    def rows() -> list[list[Row]]:
        tables = (user_actions.TABLE, *GOLD)
        return [sorted(lake.read(table).drop("ingested_at").collect(), key=str) for table in tables]

    def health() -> dict[str, str]:
        return {facts.layer: facts.health for facts in stream_facts(lake, config)}

    lake = Lake.of(spark, config)
    root = Path(lake.root)
    publish(config, range(10))
    run_all()
    before = rows()
    shutil.rmtree(lake.path(user_actions.TABLE))
    with pytest.raises(ReelhouseError, match=r"silver\.user_actions is gone") as refused:
        run_all()
    assert refused.value.code == "table_lost"
    assert not Path(lake.path(user_actions.TABLE)).exists(), "an empty one would hide the hole"
    assert health() == {"bronze": "ok", "silver": "ok", "gold": "source lost"}

    commands = re.findall(r"^rm -r (.*?) *#", Path("docs/operations.md").read_text(), re.M)
    of_silver, of_gold = ([path for name in names.split() for path in root.glob(name)] for names in commands)
    assert len(of_silver) + len(of_gold) == len(" ".join(commands).split()) + 2, "with the pins of both"
    for path in of_silver:
        remove(path)
    with pytest.raises(ReelhouseError, match=r"silver\.user_actions or silver\.content_uploads") as refused:
        run_all()
    assert refused.value.code == "source_lost"
    for path in of_gold:
        remove(path)
    publish(config, range(5, 10))
    run_all()
    assert rows() == before
    assert set(health().values()) == {"ok"}
    assert reconcile_records(lake, config).findings == []
    assert reconcile_gold(lake) == ([], [])


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def make_topic(config: Config, name: str) -> None:
    with closing(admin(config)) as client:
        client.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})
        client.wait_for_topics([name], timeout_ms=30_000)


def remove_topic(config: Config, name: str) -> None:
    with closing(admin(config)) as client:
        client.delete_topics([name])
        deadline = time.monotonic() + 30
        while name in client.list_topics() and time.monotonic() < deadline:
            time.sleep(0.2)


def test_a_topic_that_was_made_anew_is_refused(alone: Config, spark: SparkSession) -> None:
    config = alone
    make_topic(config, "of.others")
    publish(config, range(3))
    run(spark, config)
    remove_topic(config, "of.others")
    make_topic(config, "of.others")
    run(spark, config)  # nothing of it is in the lake

    remove_topic(config, config.kafka.topics.user_actions)
    create_topics(config)
    with pytest.raises(ReelhouseError, match=r"media\.user-actions was deleted and created anew") as refused:
        run(spark, config)
    assert refused.value.code == "topic_recreated"


def test_a_topic_of_a_pattern_that_is_gone_is_refused_unless_data_may_be_lost(
    alone: Config, spark: SparkSession
) -> None:
    config = alone

    def changed(**kafka: Any) -> Config:
        pattern = {"subscribe_pattern": r"media\..*|more"}
        return config.model_copy(update={"kafka": config.kafka.model_copy(update=pattern | kafka)})

    strict, lax = changed(), changed(fail_on_data_loss=False)
    make_topic(config, "more")
    topics = config.kafka.topics.model_copy(update={"user_actions": "more"})
    publish(changed(topics=topics), range(3))
    publish(config, range(2))
    run(spark, strict)
    assert offsets(spark, config) == [0, 0, 1, 1, 2]

    remove_topic(config, "more")
    for _ in range(2):
        with pytest.raises(ReelhouseError, match=r"topic more, .* kafka\.fail_on_data_loss=false") as refused:
            run(spark, strict)
        assert refused.value.code == "topic_gone"
    lines: list[str] = []
    narrow = changed(fail_on_data_loss=False, subscribe_pattern=r"media\.(user|system).*")
    run(spark, narrow, lines.append)
    publish(config, range(2, 4))
    run(spark, lax, lines.append)
    publish(config, range(4, 5))
    run(spark, strict, lines.append)
    assert [line.split(",")[0] for line in lines if "gone" in line or "no longer" in line] == [
        "the topic more",
        "the topic media.content-uploads",
    ]
    assert offsets(spark, config) == [0, 0, 1, 1, 2, 2, 3, 4]

    with pytest.raises(ReelhouseError, match="no regular expression of Java"):
        run(spark, changed(subscribe_pattern="("))
    make_topic(config, "more")
    for one in (strict, lax):
        with pytest.raises(ReelhouseError, match="topic more was deleted and created anew") as refused:
            run(spark, one)
        assert refused.value.code == "topic_recreated"


@pytest.mark.parametrize("lax", [False, True])
def test_a_topic_that_joined_during_a_run_and_was_made_anew_is_refused(
    lax: bool, alone: Config, spark: SparkSession
) -> None:
    """Bronze would go on at its old offsets, or, where it may lose data, read it from its start."""
    config = alone
    wanted = {"subscribe_pattern": r"media\..*|more", "fail_on_data_loss": not lax}
    by_pattern = config.model_copy(update={"kafka": config.kafka.model_copy(update=wanted)})
    topics = config.kafka.topics.model_copy(update={"user_actions": "more"})
    into_more = config.model_copy(update={"kafka": config.kafka.model_copy(update={"topics": topics})})

    def join(records: int = 3) -> None:
        make_topic(config, "more")
        publish(into_more, range(records))

    def leave() -> None:
        remove_topic(config, "more")
        publish(config, range(1, 2))  # for a round without the topic

    def after_a_round(line: str) -> None:
        if line.startswith("bronze: "):
            steps.pop(0)()

    def go_on() -> None:
        streams.run(available_now=False)
        if not lax:
            leave()
            join(6)
            run(spark, by_pattern)

    publish(config, range(1))
    streams = Streams(spark, by_pattern, ("bronze",), after_a_round)
    steps = [join, leave, join, streams.stop] if lax else [join, streams.stop]
    with pytest.raises(ReelhouseError, match="topic more was deleted and created anew") as refused:
        go_on()
    assert refused.value.code == "topic_recreated"
    assert offsets(spark, config) == ([0, 0, 1, 1, 2] if lax else [0, 0, 1, 2])


@pytest.mark.parametrize("key", ["subscribe_pattern", "topics"])
def test_a_topic_that_is_left_out_is_told_as_such(key: str, alone: Config, spark: SparkSession) -> None:
    """Spark says that records may be lost, as if they had expired."""
    config = alone

    def changed(**kafka: Any) -> Config:
        return config.model_copy(update={"kafka": config.kafka.model_copy(update=kafka)})

    make_topic(config, "more")
    now: dict[str, Any] = {"subscribe_pattern": "more"}
    if key == "topics":
        now = {"topics": config.kafka.topics.model_copy(update={"user_actions": "more"})}
        before = config
    else:
        before = changed(subscribe_pattern=r"media\.user.*|more")
    publish(config, range(2))
    run(spark, before)
    told = rf"media\.user-actions, .* by kafka\.{key}; put it back .*=false for one run: .* not come back"
    for made_anew in (False, True):
        if made_anew:  # what is said then advises to leave it out
            remove_topic(config, config.kafka.topics.user_actions)
            create_topics(config)
            with pytest.raises(ReelhouseError, match="was deleted and created anew") as refused:
                run(spark, before)
            assert refused.value.code == "topic_recreated"
        with pytest.raises(ReelhouseError, match=told) as refused:
            run(spark, changed(**now))
        assert refused.value.code == "topic_left_out"
    lines: list[str] = []
    run(spark, changed(**now, fail_on_data_loss=False), lines.append)
    assert sum("media.user-actions" in line and "going on without it" in line for line in lines) == 1
    run(spark, changed(**now))  # for one run, even of no records
    assert offsets(spark, config) == [0, 1]


def test_a_broker_that_comes_back_empty_is_refused(alone: Config, spark: SparkSession) -> None:
    """In the midst of a run, which had waited for it."""
    config = alone
    # In the midst of a question Kafka's client would ask on for a minute, and Spark three times.
    options = {"default.api.timeout.ms": "5000", "request.timeout.ms": "5000"}
    config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"options": options})})
    publish(config, range(3))
    told: list[str] = []
    streams = Streams(spark, config, ("bronze",), told.append)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(streams.run, available_now=False)
        try:
            until(lambda: any("3 records" in line for line in told), seconds=120)
            broker.stop(config)
            until(lambda: any("waiting for it" in line for line in told), seconds=120)
            shutil.rmtree(config.broker.dir)
            broker.start(config)
            publish(config, range(3, 9))
            with pytest.raises(ReelhouseError, match="created anew") as refused:
                running.result(timeout=120)
        finally:
            streams.stop()
    assert refused.value.code == "topic_recreated"
    assert offsets(spark, config) == [0, 1, 2]


def test_a_storage_root_that_cannot_be_written_is_said(
    config: Config, spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = config.storage.model_copy(update={"root": str(tmp_path / "file" / "lake")})
    with pytest.raises(ReelhouseError, match="cannot be written") as refused:
        run(spark, config.model_copy(update={"storage": storage}))
    assert refused.value.code == "storage_unwritable"


def test_a_full_disk_is_said_and_nothing_is_lost(config: Config, spark: SparkSession, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk of its own needs the right to mount one ({mounted.stderr.strip()})")
    try:
        storage = config.storage.model_copy(update={"root": str(disk / "lake")})
        small = config.model_copy(update={"storage": storage})
        run(spark, small)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
            while True:
                out.write(b"\0" * 4096)
        publish(config, range(500), padding=50)
        with pytest.raises(ReelhouseError, match="is full; free some space") as stopped:
            run(spark, small)
        assert stopped.value.code == "disk_full"
        filler.unlink()
        run(spark, small)
        assert offsets(spark, small) == list(range(500))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
