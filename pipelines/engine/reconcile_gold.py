"""Proves that gold is what silver says: every play, and the daily tables and the catalogue row for row."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Table
from pipelines.engine.batch import hold
from pipelines.engine.lake import Lake
from pipelines.engine.moment import gold_and_silver
from pipelines.engine.rebuild import from_silver
from pipelines.engine.reconcile import Finding
from pipelines.gold import playbacks
from pipelines.tables import GOLD, READ_BY

_MOST_KEYS = 5


def reconcile_gold(lake: Lake) -> tuple[list[Finding], list[str]]:
    """What differs, and notes on what could not be compared; the plays' own times are not computed again."""
    moment, silver, hindrance = gold_and_silver(lake)
    if hindrance is not None:
        return [], [hindrance]
    actions, uploads = (silver[table] for table in READ_BY["gold"])
    plays = moment.read(playbacks.TABLE)
    findings = _plays(actions, plays)
    expected = from_silver(actions, uploads, playbacks.stream_clock(actions, 0), plays)
    for table in GOLD:
        if table is not playbacks.TABLE:
            findings += _rows(table, expected[table.full_name], moment.read(table))
    return findings, []


def _plays(actions: DataFrame, plays: DataFrame) -> list[Finding]:
    """Every opening is one play, on its day."""
    opened = actions.where(F.col("action").isin(*playbacks.OPENING)).select("event_id", "event_date")
    name = "gold.playbacks = silver.user_actions"
    wanted, found = _daily(opened, "event_id", "wanted"), _daily(plays, "playback_id", "found")
    both = wanted.join(found, "event_date", "full")
    differ = ~F.col("wanted").eqNullSafe(F.col("found"))
    wrong = both.where(differ).select("event_date", "wanted.n", "found.n").orderBy("event_date").collect()
    findings = []
    for row in wrong:
        day = F.col("event_date") == F.lit(row["event_date"])
        ids, held = opened.where(day).select("event_id"), plays.where(day).select(F.col("playback_id"))
        missing = ids.join(held, F.col("event_id") == F.col("playback_id"), "left_anti")
        twice = held.groupBy("playback_id").count().where("count > 1").select("playback_id")
        detail = "; ".join(
            f"{what} {', '.join(r[0] for r in rows.limit(_MOST_KEYS).collect())}"
            for what, rows in (("missing", missing), ("twice", twice))
            if not rows.isEmpty()
        )
        findings.append(Finding(name, str(row["event_date"]), row[1] or 0, row[2] or 0, detail))
    return findings


def _daily(rows: DataFrame, key: str, name: str) -> DataFrame:
    """By day the rows, and a sum of which they are: one lost and one doubled leave the count as it was."""
    sums = F.struct(F.count("*").alias("n"), F.bit_xor(F.xxhash64(key)).alias("which"))
    return rows.groupBy("event_date").agg(sums.alias(name))


def _rows(table: Table, expected: DataFrame, held: DataFrame) -> list[Finding]:
    """Rows that one side has and the other has not, as often."""
    names = table.column_names
    missing = expected.select(*names).exceptAll(held.select(*names)).withColumn("side", F.lit("missing"))
    extra = held.select(*names).exceptAll(expected.select(*names)).withColumn("side", F.lit("extra"))
    differ = hold(missing.unionByName(extra))
    counts = {row["side"]: row["count"] for row in differ.groupBy("side").count().collect()}
    if not counts:
        return []
    keys = differ.select(*table.keys).distinct().orderBy(*table.keys).limit(_MOST_KEYS).collect()
    detail = "rows " + "; ".join(" ".join(map(str, key)) for key in keys)
    check = f"{table.full_name} = gold.playbacks and silver"
    return [Finding(check, table.full_name, counts.get("missing", 0), counts.get("extra", 0), detail)]
