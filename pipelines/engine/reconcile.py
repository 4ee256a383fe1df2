"""Proves the conservation of records: Kafka = bronze = ledger = silver + copies + quarantine.

The streams may run: every table is read as the last committed batch left it. Counts by partition
come first, which read few columns; only where they differ are the offsets looked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from pipelines.bronze import events as bronze
from pipelines.bronze import expired_records
from pipelines.config import Config
from pipelines.engine.batch import hold
from pipelines.engine.checkpoint import last_batch, offsets, sources
from pipelines.engine.lake import Lake
from pipelines.engine.locks import is_held
from pipelines.engine.moment import Moment
from pipelines.engine.sorting import Place, first_ones, silver_places, sort_out
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import spark_options
from pipelines.silver import ledger, quarantine
from pipelines.silver.deduplicate import PLACE
from pipelines.topics import end_offsets, first_offsets

_BY = ("topic", "partition")
_MOST_OFFSETS = 20
_MOST_TRIES = 5
"""As many as a release has commits: three tables of events, quarantine, the ledger."""
_WAIT_SECONDS = 30.0
_ANY_DISTANCE = timedelta(days=365 * 50)


@dataclass(frozen=True)
class Balance:
    """What became of the records of a partition (counts)."""

    place: Place
    records: int
    silver_rows: int
    duplicates: int
    held: int


@dataclass(frozen=True)
class Finding:
    """Something that does not add up."""

    check: str
    where: str
    expected: int
    found: int
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """The balance of every partition, and what is wrong; nothing is when `findings` is empty."""

    balances: list[Balance]
    findings: list[Finding]
    notes: list[str]


def reconcile_records(lake: Lake, config: Config) -> Report:
    """Compare Kafka, bronze, the ledger, silver and quarantine. Raises ReelhouseError (`table_missing` …)."""
    for _ in range(_MOST_TRIES):
        moment = Moment.of(lake, "silver")
        report = _compared(lake, config, moment)
        # A release from quarantine is several commits: what it had begun adds up when it is done.
        if not report.findings or not _went_on(lake, moment):
            break
    return report


def _went_on(lake: Lake, before: Moment) -> bool:
    """Whether silver has been written since; while a process holds it, that is waited for."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        may_write = is_held(lake, "silver")
        if Moment.of(lake, "silver") != before:
            return True
        if not may_write or time.monotonic() > deadline:
            return False
        time.sleep(1)


def _compared(lake: Lake, config: Config, moment: Moment) -> Report:
    told = _by_place(_ledger_sums(moment))
    taken = _taken(lake, moment, told)
    in_bronze, in_silver = _counted(taken), _counted(silver_places(moment.read))
    in_quarantine = _counted(moment.read(quarantine.TABLE), F.count("released_at").alias("released"))
    balances, findings, doubtful = [], [], []
    for place in sorted({*told, *in_bronze, *in_silver, *in_quarantine}):
        sums = told[place].asDict() if place in told else dict.fromkeys(ledger.COUNTS, 0)
        held_row = in_quarantine.get(place)
        held, released = (held_row["n"], held_row["released"]) if held_row else (0, 0)
        pairs = {
            "bronze = ledger": (sums["records"], _n(in_bronze, place)),
            "silver = ledger": (sums["silver_rows"], _n(in_silver, place)),
            "quarantine = ledger": (sums["quarantined"], held),
            "released from quarantine = ledger": (sums["released"], released),
            "records + released = silver + duplicates + quarantined": _sides(sums),
        }
        wrong = [Finding(name, str(place), *both) for name, both in pairs.items() if both[0] != both[1]]
        findings += wrong
        if wrong or any(_repeats(rows, place) for rows in (in_bronze, in_silver, in_quarantine)):
            doubtful.append((place, sums["records"]))
        balances.append(
            Balance(place, sums["records"], sums["silver_rows"], sums["duplicates"], held - released)
        )
    findings += [f for place, told_of in doubtful for f in _located(moment, config, place, taken, told_of)]
    kafka, notes = _kafka(lake, config)
    return Report(balances, [*kafka, *findings], notes)


def _sides(sums: dict[str, int]) -> tuple[int, int]:
    """What the ledger says of a partition that came, and what of it (counts)."""
    went = sums["silver_rows"] + sums["duplicates"] + sums["quarantined"]
    return sums["records"] + sums["released"], went


def _counted(rows: DataFrame, *others: Column) -> dict[Place, Row]:
    """By place the rows (`n`), the offsets that they have (`offsets`), and `others`, which add up.

    Where they differ, an offset is there twice: beside a missing one it would not show in the rows alone.
    """
    offsets = F.bitmap_count(F.bitmap_construct_agg(F.bitmap_bit_position("offset"))).alias("offsets")
    # Bitmaps of some thousand offsets each: exact, and small enough to bring together.
    spans = rows.groupBy(*_BY, F.bitmap_bucket_number("offset").alias("span"))
    parts = spans.agg(F.count("*").alias("n"), offsets, *others)
    return _by_place(
        parts.groupBy(*_BY).agg(*[F.sum(c).alias(c) for c in parts.columns if c not in (*_BY, "span")])
    )


def _repeats(rows: dict[Place, Row], place: Place) -> bool:
    return place in rows and rows[place]["n"] != rows[place]["offsets"]


def _n(rows: dict[Place, Row], place: Place) -> int:
    return int(rows[place]["n"]) if place in rows else 0


def _by_place(frame: DataFrame) -> dict[Place, Row]:
    return {Place(row["topic"], row["partition"]): row for row in frame.collect()}


def _taken(lake: Lake, moment: Moment, told: dict[Place, Row]) -> DataFrame:
    """The records that silver has taken; the others are lag, which `status` shows."""
    reached = None if moment.batch is None else sources(lake, "silver", moment.batch).get(bronze.TABLE)
    version = lake.version(bronze.TABLE)
    if reached is not None and reached.version > version and not reached.partly:
        return lake.read(bronze.TABLE, version).select(*bronze.TABLE.column_names)
    # Behind bronze only the ledger tells how far it has come.
    return _bronze(lake, {place: (0, row["next_offset"]) for place, row in told.items()})


def _bronze(lake: Lake, spans: dict[Place, tuple[int, int]]) -> DataFrame:
    """The records of each place from one offset to before another."""
    columns = "topic string, partition int, low bigint, high bigint"
    wanted = lake.spark.createDataFrame([(*place, *span) for place, span in spans.items()], columns)
    found = lake.read(bronze.TABLE).join(F.broadcast(wanted), list(_BY))
    return found.where("offset >= low AND offset < high").select(*bronze.TABLE.column_names)


def _of(place: Place) -> Column:
    return (F.col("topic") == place.topic) & (F.col("partition") == place.partition)


def _ledger_sums(moment: Moment) -> DataFrame:
    sums = [F.sum(name).alias(name) for name in ledger.COUNTS]
    following = (F.max("last_offset") + 1).alias("next_offset")
    return moment.read(ledger.TABLE).groupBy(*_BY).agg(*sums, following)


def _located(moment: Moment, config: Config, place: Place, taken: DataFrame, told: int) -> Iterator[Finding]:
    """The offsets at fault in a partition whose counts differ; the ledger tells of `told` records."""
    where, mine = str(place), _of(place)
    records = hold(taken.where(mine).select(*PLACE))
    held = moment.read(quarantine.TABLE).where(mine)
    in_silver = silver_places(moment.read).where(mine)
    unreleased = held.where("released_at IS NULL").select(*PLACE)
    yield from _offsets("twice in bronze", where, _repeated(records))
    if records.distinct().count() < told:  # else no record was at the offsets between, or none was wanted
        yield from _offsets("missing in bronze", where, _gaps(records))
    yield from _offsets("twice in silver", where, _repeated(in_silver))
    yield from _offsets("twice in quarantine", where, _repeated(held))
    both = unreleased.join(in_silver, list(PLACE), "left_semi")
    yield from _offsets("in silver and held (run `reelhouse quarantine replay`)", where, both)
    # What is in neither must be a copy of what silver holds.
    absent = records.join(in_silver, list(PLACE), "left_anti").join(held, list(PLACE), "left_anti")
    found = sort_out(taken.join(F.broadcast(absent), list(PLACE), "left_semi"), config)
    lost, _ = first_ones(found, _ANY_DISTANCE, moment.read)
    yield from _offsets("missing in silver", where, lost)
    if found.refused is not None:
        yield from _offsets("missing in quarantine", where, found.refused)


def _repeated(rows: DataFrame) -> DataFrame:
    return rows.groupBy("offset").count().where("count > 1")


def _gaps(records: DataFrame) -> DataFrame:
    """The offsets between the least and the greatest that are not there."""
    ends = records.agg(F.min("offset"), F.max("offset")).first()
    low, high = (0, -1) if ends is None or ends[0] is None else ends
    every = records.sparkSession.range(low, high + 1).withColumnRenamed("id", "offset")
    return every.join(records.select("offset"), "offset", "left_anti")


def _offsets(check: str, where: str, rows: DataFrame) -> Iterator[Finding]:
    found = [
        row["offset"] for row in rows.select("offset").orderBy("offset").limit(_MOST_OFFSETS + 1).collect()
    ]
    if found:
        listed = ", ".join(map(str, found[:_MOST_OFFSETS])) + (", …" if len(found) > _MOST_OFFSETS else "")
        yield Finding(check, where, 0, len(found), f"offsets {listed}")


def _kafka(lake: Lake, config: Config) -> tuple[list[Finding], list[str]]:
    """What Kafka still holds and bronze has read past, against bronze."""
    batch, _ = last_batch(lake, "bronze")
    if batch is None:
        return [], []
    reached = offsets(lake, "bronze", batch)[0]
    try:
        firsts, ends = first_offsets(config, reached), end_offsets(config, reached)
    except ReelhouseError as error:
        return [], [f"not compared with Kafka: {error}"]
    findings: list[Finding] = []
    spans: dict[Place, tuple[int, int]] = {}
    for topic, partitions in sorted(reached.items()):
        for number, end in sorted(partitions.items()):
            place, first = Place(topic, int(number)), firsts.get(topic, {}).get(int(number))
            if first is None:
                findings.append(Finding("Kafka = bronze", str(place), 0, 0, "it is gone"))
            else:
                spans[place] = first, min(int(end), ends[topic][int(number)])
    held = _bronze(lake, spans)
    counts = _by_place(held.groupBy(*_BY).agg(F.countDistinct("offset").alias("n")))
    for place, (first, end) in spans.items():
        if _n(counts, place) != end - first:
            findings += _missing(lake, config, place, first, end, held.where(_of(place)).select("offset"))
    return findings, []


def _missing(
    lake: Lake, config: Config, place: Place, first: int, end: int, held: DataFrame
) -> Iterator[Finding]:
    """Records between two offsets that Kafka has and `held` has not."""
    gaps = lake.read(expired_records.TABLE).where(_of(place)).select("first_offset", "end_offset").collect()
    # Offsets may have no record: transactions take some, and compaction removes records.
    start, stop = ({place.topic: {str(place.partition): at}} for at in (first, end))
    kafka = lake.spark.read.format("kafka").options(**spark_options(config))
    kafka = kafka.option("assign", json.dumps({place.topic: [place.partition]}))
    kafka = kafka.option("startingOffsets", json.dumps(start)).option("endingOffsets", json.dumps(stop))
    missing = kafka.load().select("offset").join(held, "offset", "left_anti")
    for gap in gaps:
        missing = missing.where(~F.col("offset").between(gap["first_offset"], gap["end_offset"] - 1))
    yield from _offsets("in Kafka, missing in bronze", str(place), missing)
