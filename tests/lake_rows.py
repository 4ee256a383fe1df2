"""Rows of tables in the form of the ground truth, and what must be equal."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from pipelines.declare import Table
from pipelines.engine.lake import Lake, Txn
from pipelines.gold import state
from pipelines.simulate.truth import to_json
from pipelines.tables import GOLD, INTERNAL

Rows = list[dict[str, Any]]


class CutOffLake(Lake):
    """A lake whose process ends when it comes to what gold remembers."""

    def overwrite(self, table: Table, rows: DataFrame, txn: Txn | None = None) -> None:
        if table is state.RECENT_ACTIONS:
            raise KeyboardInterrupt
        super().overwrite(table, rows, txn)


def rows_of(frame: DataFrame, names: list[str]) -> Rows:
    """The rows with these columns, as plain JSON values, in a fixed order."""
    found = [{name: _value(row[name]) for name in names} for row in frame.select(*names).collect()]
    return sorted(found, key=json.dumps)


def _value(value: Any) -> Any:
    return to_json(value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value)


def plain_rows(rows: list[dict[str, Any]]) -> Rows:
    """The reference's rows in the same form."""
    return sorted(({k: to_json(v) for k, v in row.items()} for row in rows), key=json.dumps)


def truth(folder: Path, table: Table) -> Rows:
    """The rows that a simulation wrote as the truth."""
    lines = (folder / "truth" / f"{table.name}.ndjson").read_text().splitlines()
    return sorted(map(json.loads, lines), key=json.dumps)


def assert_gold_is(lake: Lake, folder: Path) -> None:
    """Every gold table holds exactly the truth."""
    for table in GOLD:
        expected = truth(folder, table)
        assert expected
        assert rows_of(lake.read(table), list(expected[0])) == expected, table.full_name


def assert_gold_is_rebuilt(lake: Lake, frames: dict[str, DataFrame]) -> None:
    """Every gold table, and the streams' state, is what `rebuild` computes from scratch."""
    for table in (*GOLD, *INTERNAL):
        held, anew = (rows_of(f, table.column_names) for f in (lake.read(table), frames[table.full_name]))
        if table.name == "counted_once":  # an append-only log: an earlier first is appended to a later one
            held, anew = _firsts(held), _firsts(anew)
        assert held == anew, table.full_name


def _firsts(rows: Rows) -> Rows:
    first: dict[str, Any] = {}
    for row in rows:
        day = row["event_date"] if row["kind"] in ("viewer", "user_day") else None
        key = json.dumps([row["kind"], day, row["user_id"], row["media_id"]])
        kept = first.setdefault(key, row)
        first[key] = min(kept, row, key=lambda r: (r["event_date"] or "", r["first_at"] or ""))
    return sorted(first.values(), key=json.dumps)
