"""`silver.content_uploads`: the life of media items."""

from __future__ import annotations

from pyspark.sql import DataFrame

from pipelines.declare import Column, Contracted, Table
from pipelines.silver.columns import DATED, EVENT_ID, LINEAGE, OCCURRED_AT, STATS, select_event

EVENT_TYPE = "content-upload"
TABLE = Table(
    layer="silver",
    name="content_uploads",
    grain="one event",
    comment="Valid, deduplicated steps in the life of media: uploaded, processed, published, removed.",
    columns=(
        EVENT_ID,
        Column("media_id", "string", "The media."),
        Column("creator_id", "string", "Who uploaded it."),
        Column("title", "string", "Its title."),
        Column("status", "string", "uploaded, processed, published or removed."),
        OCCURRED_AT,
        Column("duration_seconds", "decimal(18,6)", "Length of the media (seconds), when told."),
        Column("genres", "array<string>", "Genres of the media, when told."),
        Column("language", "string", "Language of the media (BCP 47), when told."),
        *LINEAGE,
    ),
    keys=("event_id",),
    partition_cols=("event_date",),
    stats_cols=STATS,
    freshness="record_timestamp",
    contract=Contracted(
        EVENT_TYPE,
        {
            "media_id": "mediaId",
            "creator_id": "creatorId",
            "title": "title",
            "status": "status",
            "duration_seconds": "durationSeconds",
            "genres": "genres",
            "language": "language",
        },
    ),
    rules=(DATED,),
)


def content_uploads(decoded: DataFrame) -> DataFrame:
    """The rows of accepted content uploads, as `pipelines.contracts.decode` gives them."""
    return select_event(decoded, TABLE)
