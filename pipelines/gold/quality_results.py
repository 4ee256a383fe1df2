"""`ops.quality_results`: what rules and checks found, and since when."""

from __future__ import annotations

from pipelines.declare import Column, Table

TABLE = Table(
    layer="ops",
    name="quality_results",
    grain="rule × UTC day (or the whole table) × time of looking",
    comment="How much each rule looked at and found broken; of one rule and day the latest row holds.",
    columns=(
        Column("checked_at", "timestamp", "When it was looked at (UTC); the stream tells only changes."),
        Column("source", "string", "stream (counted by the gold stream, by day) or check."),
        Column("table_name", "string", "Table that the rule is about, for instance gold.playbacks."),
        Column("rule", "string", "Name of the rule or expectation."),
        Column("event_date", "date", "UTC date of the rows looked at; null: the whole table."),
        Column("severity", "string", "warn (nothing is held back) or error."),
        Column("checked", "bigint", "Rows that the rule looked at (count)."),
        Column("violations", "bigint", "Of these, rows that break it (count)."),
        Column("example", "string", "Key of one row that breaks it: the least; null: none, or not one row."),
    ),
    keys=("source", "table_name", "rule", "event_date", "checked_at"),
    freshness="checked_at",
)
