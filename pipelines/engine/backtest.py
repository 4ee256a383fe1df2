"""What this checkout would make of recent bronze, against what the lake holds.

The records that silver's stream has taken are sorted out anew and compared, by place, with silver and
quarantine as its last committed batch left them. A record is accepted, a copy, or quarantined; so it was
(what was released from quarantine is what it was released as). Of records with one identity the lake's choice
stays, as long as this checkout gives the chosen one the same identity: only the others are deduplicated anew.
Nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.bronze import events as bronze
from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.backtest_rows import Compared, Comparison, Difference, key_text, share
from pipelines.engine.batch import hold, together
from pipelines.engine.lake import Lake
from pipelines.engine.moment import Moment
from pipelines.engine.sorting import EVENTS, Sorted, first_ones, reuse_window, sort_out
from pipelines.errors import ReelhouseError
from pipelines.silver import ledger, quarantine
from pipelines.silver.deduplicate import PLACE, without

_EPOCH = datetime(1970, 1, 1)
_WINDOW = timedelta(hours=24)
ACCEPTED, _COPY, _QUARANTINED = "accepted", "copy", "quarantined"
_WHAT = {ACCEPTED: "newly accepted", _COPY: "newly a copy", _QUARANTINED: "newly quarantined"}


@dataclass(frozen=True)
class Recent:
    """The records to compare, and the lake's rows of them."""

    moment: Moment
    since: datetime
    found: Sorted
    """What this checkout makes of the records; copies are still among them."""

    @classmethod
    def of(cls, lake: Lake, config: Config, since: datetime | None) -> Recent:
        """What bronze got at `since` (UTC) or later, None: in its last 24 hours, as far as silver has come.

        Raises ReelhouseError (`nothing_to_compare`, `table_missing`).
        """
        moment, records = Moment.of(lake, "silver"), lake.read(bronze.TABLE)
        if since is None:
            newest = records.agg(F.max("ingested_at")).collect()[0][0]
            since = _EPOCH if newest is None else newest - _WINDOW
        by = ["topic", "partition"]
        taken = moment.read(ledger.TABLE).groupBy(*by).agg(F.max("last_offset").alias("reached"))
        wanted = _since(records, since).join(F.broadcast(taken), by).where("offset <= reached")
        found = sort_out(wanted.select(*bronze.TABLE.column_names), config)
        if not found.places:
            message = (
                "silver has taken no record since then; start `reelhouse run`, or choose an earlier --since"
            )
            raise ReelhouseError(message, code="nothing_to_compare")
        return cls(moment, since, found)

    def held(self, table: Table) -> DataFrame:
        """The table as silver's last batch left it; one that this checkout adds is empty."""
        if self.moment.lake.exists(table):
            return self.moment.read(table)
        return self.moment.lake.spark.createDataFrame([], table.schema())

    def rows(self, table: Table) -> DataFrame:
        """The table's rows of the compared time."""
        return _since(self.held(table), self.since)

    def anew(self, event_type: str, places: DataFrame) -> DataFrame:
        """The rows that this checkout makes of the records at `places`."""
        return EVENTS[event_type][1](self.found.events.join(places, list(PLACE), "left_semi"))


@dataclass(frozen=True)
class Backtest:
    """What differs in records and in silver's rows."""

    recent: Recent
    verdicts: DataFrame
    """By place: `event_type`, `ingested_at`, what it `was` and is `now`, and the first reason's `code`."""
    touched: dict[str, DataFrame]
    """By event type: places of records that stay accepted, and whose rows are not the same."""
    compared: Compared
    differences: list[Difference]


def backtest(lake: Lake, config: Config, since: datetime | None) -> Backtest:
    """Compare recent records and their rows.

    Raises ReelhouseError (`nothing_to_compare`, `table_missing`).
    """
    recent = Recent.of(lake, config, since)
    verdicts = _verdicts(recent, config)
    records = sum(place.records for place in recent.found.places.values())
    differences = _turned(verdicts, records)
    differ = sum(one.rows for one in differences)
    stay = verdicts.where((F.col("was") == ACCEPTED) & (F.col("now") == ACCEPTED))
    comparisons = {event_type: _comparison(recent, stay, event_type) for event_type in recent.found.hours}
    touched: dict[str, DataFrame] = {}
    found = together(*[comparison.differences for comparison in comparisons.values()])
    for (event_type, comparison), (compared, by_column) in zip(comparisons.items(), found, strict=True):
        differ += compared.differ
        differences += by_column
        if by_column:
            touched[event_type] = hold(comparison.touched())
    return Backtest(recent, verdicts, touched, Compared("records", records, differ), differences)


def _comparison(recent: Recent, stay: DataFrame, event_type: str) -> Comparison:
    """The rows of the events that stay, as silver holds them and as they are anew."""
    table, places = EVENTS[event_type][0], stay.where(F.col("event_type") == event_type).select(*PLACE)
    held = recent.rows(table).join(places, list(PLACE), "left_semi")
    return Comparison(table.full_name, held, recent.anew(event_type, places), PLACE, sums=False)


def _since(rows: DataFrame, since: datetime) -> DataFrame:
    return rows.where(F.col("ingested_at") >= F.lit(since))


def _verdicts(recent: Recent, config: Config) -> DataFrame:
    """What every record was and is now."""
    found, sides = recent.found, hold(_sides(recent))
    same = (F.col("held_type") == F.col("event_type")) & (F.col("held_id") == F.col("event_id"))
    stays = F.coalesce(same, F.lit(False))
    moved = sides.where(F.col("held_id").isNotNull() & ~stays).select(*PLACE)
    others = sides.where(F.col("new_code").isNull() & ~stays).select(*PLACE)
    rest = replace(found, events=found.events.join(others, list(PLACE), "left_semi"))
    firsts, _ = first_ones(rest, reuse_window(config), lambda table: without(recent.held(table), moved))
    marked = sides.join(firsts.select(*PLACE, F.lit(True).alias("is_first")), list(PLACE), "left")
    was = F.when(F.col("held_id").isNotNull(), ACCEPTED).when(F.col("held_code").isNotNull(), _QUARANTINED)
    now = F.when(F.col("new_code").isNotNull(), _QUARANTINED).when(stays | F.col("is_first"), ACCEPTED)
    code = F.coalesce("new_code", "held_code").alias("code")
    sides_and_verdicts = (was.otherwise(_COPY).alias("was"), now.otherwise(_COPY).alias("now"), code)
    return hold(marked.select(*PLACE, "event_type", "ingested_at", *sides_and_verdicts))


def _sides(recent: Recent) -> DataFrame:
    """By place what this checkout says of a record, and what the lake says."""
    columns = (*PLACE, "event_type", "ingested_at")
    code = F.try_element_at("reasons", F.lit(1))["code"]
    nothing = F.lit(None).cast("string")
    new = recent.found.events.select(*columns, "event_id", nothing.alias("new_code"))
    if recent.found.refused is not None:
        refused = recent.found.refused.select(*columns, nothing.alias("event_id"), code.alias("new_code"))
        new = new.unionByName(refused)
    of_types = [
        recent.rows(table).select(*PLACE, F.lit(name).alias("held_type"), F.col("event_id").alias("held_id"))
        for name, (table, _) in EVENTS.items()
    ]
    in_silver = reduce(DataFrame.unionByName, of_types)
    unreleased = recent.rows(quarantine.TABLE).where("released_at IS NULL")
    held = unreleased.select(*PLACE, code.alias("held_code"))
    return new.join(in_silver, list(PLACE), "left").join(held, list(PLACE), "left")


def _turned(verdicts: DataFrame, records: int) -> list[Difference]:
    """The records that are something else now, by what they were, and the reason's code."""
    where = F.coalesce("event_type", "topic").alias("where")
    groups = verdicts.where("was <> now").groupBy("now", where, "code", "was")
    found = groups.agg(F.count("*").alias("n"), F.min(F.struct(*PLACE)).alias("example"))
    rows = found.orderBy("now", F.desc("n"), "where", "code", "was").collect()
    return [
        Difference(
            what=_WHAT[row["now"]],
            where=row["where"],
            name=row["code"] or "",
            rows=row["n"],
            percent=share(row["n"], records),
            before=row["was"],
            after=row["now"],
            example=key_text(PLACE, row["example"]),
        )
        for row in rows
    ]
