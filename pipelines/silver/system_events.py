"""`silver.system_events`: what streaming servers report."""

from __future__ import annotations

from pyspark.sql import DataFrame

from pipelines.declare import Column, Contracted, Rule, Table
from pipelines.quality.measures import fresh, usual_volume
from pipelines.silver.columns import DATED, EVENT_ID, LINEAGE, OCCURRED_AT, STATS, select_event

EVENT_TYPE = "system-event"
TABLE = Table(
    layer="silver",
    name="system_events",
    grain="one event",
    comment="Valid, deduplicated reports of streaming servers: status and resources.",
    columns=(
        EVENT_ID,
        Column("server_id", "string", "The server."),
        Column("kind", "string", "status or resource."),
        OCCURRED_AT,
        Column("status", "string", "up, degraded or down; always told for kind status."),
        Column("cpu_percent", "decimal(18,6)", "CPU use (percent), when told."),
        Column("memory_percent", "decimal(18,6)", "Memory use (percent), when told."),
        Column("bandwidth_mbps", "decimal(18,6)", "Bandwidth in use (megabits per second), when told."),
        Column("region", "string", "Region of the server, when told."),
        *LINEAGE,
    ),
    keys=("event_id",),
    partition_cols=("event_date",),
    stats_cols=STATS,
    freshness="record_timestamp",
    contract=Contracted(
        EVENT_TYPE,
        {
            "server_id": "serverId",
            "kind": "kind",
            "status": "status",
            "cpu_percent": "cpuPercent",
            "memory_percent": "memoryPercent",
            "bandwidth_mbps": "bandwidthMbps",
            "region": "region",
        },
    ),
    rules=(
        DATED,
        Rule("status_told", "kind <> 'status' OR status IS NOT NULL", "An event of kind status tells it."),
    ),
    measures=(fresh("record_timestamp"), usual_volume()),
)


def system_events(decoded: DataFrame) -> DataFrame:
    """The rows of accepted system events, as `pipelines.contracts.decode` gives them."""
    return select_event(decoded, TABLE)
