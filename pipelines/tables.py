"""Every table, in the order of flow."""

from __future__ import annotations

from pipelines.bronze import events, expired_records
from pipelines.declare import Table
from pipelines.errors import UsageError
from pipelines.gold import audience_daily, media_catalog, media_daily, playbacks, quality_results, state
from pipelines.silver import content_uploads, ledger, quarantine, system_events, user_actions
from pipelines.text import nearest

BRONZE = (events.TABLE,)
SILVER = (user_actions.TABLE, content_uploads.TABLE, system_events.TABLE, quarantine.TABLE)
GOLD = (playbacks.TABLE, media_daily.TABLE, audience_daily.TABLE, media_catalog.TABLE)
INTERNAL = (state.RECENT_ACTIONS, state.COUNTED_ONCE)
OPS = (expired_records.TABLE, ledger.TABLE, quality_results.TABLE)
TABLES = (*BRONZE, *SILVER, *GOLD, *OPS)
LAYERS = ("bronze", "silver", "gold")
OF_LAYER = {
    "bronze": (*BRONZE, expired_records.TABLE),
    "silver": (*SILVER, ledger.TABLE),
    "gold": (*GOLD, *INTERNAL, quality_results.TABLE),
}
"""What each layer's stream writes."""
READ_BY = {"silver": BRONZE, "gold": (user_actions.TABLE, content_uploads.TABLE)}
"""The tables that each layer's stream reads."""


def table_named(name: str) -> Table:
    """The table of a name such as `gold.playbacks`, or `playbacks`. Raises UsageError (`unknown_table`)."""
    for table in TABLES:
        if name in (table.full_name, table.name):
            return table
    names = [table.full_name for table in TABLES]
    hint = nearest(name, names, f"the tables are {', '.join(names)}", cutoff=0.5)
    raise UsageError(f"there is no table {name}; {hint}", code="unknown_table")
