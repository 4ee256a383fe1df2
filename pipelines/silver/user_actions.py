"""`silver.user_actions`: what viewers did."""

from __future__ import annotations

from pyspark.sql import DataFrame

from pipelines.declare import Column, Contracted, Table
from pipelines.quality.measures import fresh, usual_shares, usual_volume
from pipelines.silver.columns import DATED, EVENT_ID, LINEAGE, OCCURRED_AT, STATS, select_event

EVENT_TYPE = "user-action"
TABLE = Table(
    layer="silver",
    name="user_actions",
    grain="one event",
    comment="Valid, deduplicated actions of viewers on media players.",
    columns=(
        EVENT_ID,
        Column("user_id", "string", "The viewer."),
        Column("action", "string", "play, pause, skip, resume, seek or complete."),
        OCCURRED_AT,
        Column("media_id", "string", "The media acted on."),
        Column("session_id", "string", "The player's session, when told."),
        Column("position_seconds", "decimal(18,6)", "Position in the media (seconds), when told."),
        Column("platform", "string", "Platform of the player, for instance web or ios."),
        Column("app_version", "string", "Version of the app."),
        Column("region", "string", "Region of the viewer."),
        Column("server_id", "string", "Server that streamed the media."),
        *LINEAGE,
    ),
    keys=("event_id",),
    partition_cols=("event_date",),
    stats_cols=STATS,
    freshness="record_timestamp",
    contract=Contracted(
        EVENT_TYPE,
        {
            "user_id": "userId",
            "action": "action",
            "media_id": "mediaId",
            "session_id": "sessionId",
            "position_seconds": "positionSeconds",
            "platform": "device.platform",
            "app_version": "device.appVersion",
            "region": "region",
            "server_id": "serverId",
        },
    ),
    rules=(DATED,),
    measures=(fresh("record_timestamp"), usual_volume(), usual_shares("action")),
)


def user_actions(decoded: DataFrame) -> DataFrame:
    """The rows of accepted user actions, as `pipelines.contracts.decode` gives them."""
    return select_event(decoded, TABLE)
