"""What the gold definitions of this checkout would make of silver with its rows, against what gold holds.

The comparison is with what gold holds, not with what the former code would compute: so a changed definition
shows as well as changed rows of silver. Open playbacks do not blur it: the stream keeps gold equal, row for
row, to the definitions over the events that it has taken, by the clock of these. So gold as its last batch
left it is compared with the definitions over silver at the versions that this batch had reached, where rows
are replaced only if this checkout changes them. A newly accepted record may move the clock, and thereby end
playbacks: that is an effect of accepting it. What gold has not taken yet is on neither side.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.config import Config
from pipelines.engine.backtest import ACCEPTED, Backtest
from pipelines.engine.backtest_rows import Compared, Comparison, Difference
from pipelines.engine.batch import as_declared, hold, together
from pipelines.engine.lake import Lake
from pipelines.engine.moment import gold_and_silver
from pipelines.engine.rebuild import computed, horizon
from pipelines.engine.sorting import EVENTS
from pipelines.gold import playbacks, state
from pipelines.silver.deduplicate import PLACE, without
from pipelines.tables import GOLD


def backtest_gold(
    lake: Lake, config: Config, found: Backtest
) -> tuple[list[Compared], list[Difference], list[str]]:
    """How many keys of each table differ, and by which columns; and notes on what could not be compared."""
    moment, silver, hindrance = gold_and_silver(lake)
    if hindrance is not None:
        return [], [], [hindrance]
    types = {table.full_name: event_type for event_type, (table, _) in EVENTS.items()}
    rows = {t.full_name: _changed(found, types[t.full_name], held) for t, held in silver.items()}
    # Gold's own: the jitter may be another by now, and gold's horizon moves with its batches only.
    settled = horizon(moment.read(state.RECENT_ACTIONS))
    frames = computed(lambda table: rows[table.full_name], config, settled)
    there = [table for table in GOLD if lake.exists(table)]
    notes = [f"{t.full_name} is not compared: it is not in the lake yet" for t in GOLD if t not in there]
    told = together(
        *[
            Comparison(t.full_name, moment.read(t), frames[t.full_name], t.keys, sums=True).differences
            for t in there
        ]
    )
    frames[playbacks.TABLE.full_name].unpersist()
    return [counts for counts, _ in told], [one for _, by_column in told for one in by_column], notes


def _changed(found: Backtest, event_type: str, silver: DataFrame) -> DataFrame:
    """What gold has read of silver, with this checkout's rows where they are not the same."""
    table, recent = EVENTS[event_type][0], found.recent
    is_recent = F.col("ingested_at") >= F.lit(recent.since)
    turned = found.verdicts.where((F.col("event_type") == event_type) & (F.col("was") != F.col("now")))
    accepted = turned.where((F.col("now") == ACCEPTED) & _taken(recent.held(table), silver))
    gone, added = turned.select(*PLACE), accepted.select(*PLACE)
    if event_type in found.touched:
        touched, known = found.touched[event_type], silver.where(is_recent).select(*PLACE)
        gone = gone.unionByName(touched)
        added = added.unionByName(touched.join(known, list(PLACE), "left_semi"))
    # Held, so that each of gold's plans need not join the records again.
    kept = silver.where(~is_recent).unionByName(hold(without(silver.where(is_recent), gone)))
    return as_declared(kept, table).unionByName(hold(recent.anew(event_type, added)))


def _taken(now: DataFrame, then: DataFrame) -> Column:
    """Which records gold has come to: while it lags, none newer than the newest one that it has read."""
    newest, reached = (rows.agg(F.max("ingested_at")).collect()[0][0] for rows in (now, then))
    return F.lit(True) if newest == reached else F.col("ingested_at") <= F.lit(reached)
