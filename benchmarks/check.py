"""`reelhouse check` of ten million rows, as a multiple of one plain aggregate over the same tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.config import Config
from pipelines.declare import Table
from pipelines.engine.check import check
from pipelines.engine.lake import Lake
from pipelines.gold import media_catalog, media_daily, playbacks
from pipelines.quality.suites import Checks
from pipelines.session import open_session
from pipelines.silver import user_actions

_BEST_OF = 2
_DAYS, _MEDIA = 30, 2_000


def measure(folder: Path) -> None:
    """Print the seconds of both, and their ratio, the better of two runs each."""
    count = int(os.environ.get("REELHOUSE_BENCH_EVENTS", "10_000_000"))
    config = Config.model_validate({"storage": {"root": str(folder / "lake")}})
    lake = Lake.of(open_session(config, "check"), config)
    tables = _write(lake, count)

    def aggregate() -> None:
        for table in tables:
            names = [f"`{c.name}`" for c in table.columns if "array" not in c.type]
            parts = [f"{figure}({n})" for n in names for figure in ("count", "min", "max")]
            lake.read(table).selectExpr("count(*)", *parts).collect()

    plain, checked = _best(aggregate), _best(lambda: check(lake, config, tables, Checks()))
    print(
        f"{count:,} rows: plain aggregate {plain:.1f} s, check {checked:.1f} s, ratio {checked / plain:.2f}"
    )


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_BEST_OF):
        began = time.monotonic()
        work()
        times.append(time.monotonic() - began)
    return min(times)


def _write(lake: Lake, count: int) -> list[Table]:
    """Plays and pauses of a month, and what gold makes of them."""
    tables = [user_actions.TABLE, playbacks.TABLE, media_daily.TABLE]
    lake.create([*tables, media_catalog.TABLE])
    pairs = count * 2 // 5
    start = "TIMESTAMP'2026-01-05'"
    numbers = lake.spark.range(pairs).selectExpr(
        "id", f"id % {_MEDIA} AS m", f"{start} + make_interval(0, 0, 0, 0, 0, 0, id % {_DAYS * 86_400}) AS at"
    )
    told = {c.name: f"CAST(NULL AS {c.type})" for c in user_actions.TABLE.columns}
    of_user = {
        "event_id": "uuid()",
        "user_id": "concat('user-', id % 50000)",
        "media_id": "concat('media-', m)",
        "occurred_at": "at",
        "schema_version": "2",
        "topic": "'media.user-actions'",
        "partition": "0",
        "offset": "id",
        "record_timestamp": "at",
        "ingested_at": "at",
        "event_date": "to_date(at)",
    }
    for action in ("play", "pause"):
        given = {**told, **of_user, "action": f"'{action}'"}
        lake.append(user_actions.TABLE, numbers.selectExpr(*[f"{e} AS `{n}`" for n, e in given.items()]))
    plays = {
        "playback_id": "event_id",
        "started_at": "occurred_at",
        "ended_at": "occurred_at + INTERVAL 60 SECONDS",
        "end_reason": "'paused'",
        "watch_seconds": "CAST(60 AS decimal(18,6))",
        "start_position_seconds": "position_seconds",
        "is_counted": "true",
        "is_completed": "false",
        "is_final": "true",
    }
    opened = lake.read(user_actions.TABLE).where("action = 'play'")
    chosen = [f"{plays.get(n, n)} AS {n}" for n in playbacks.TABLE.column_names]
    lake.append(playbacks.TABLE, opened.selectExpr(*chosen))
    lake.append(media_daily.TABLE, media_daily.media_daily(opened, lake.read(playbacks.TABLE)))
    return tables
