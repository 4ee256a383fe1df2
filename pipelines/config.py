"""The configuration: what each key means, its unit and its default.

Read from a TOML file and the environment by `load_config` in `pipelines.config_loader`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from pipelines.contracts.times import parse_time

DEFAULT_PORT = 29092
DEFAULT_CONTROLLER_PORT = 29093


class _Section(BaseModel):
    # Docstrings under the fields become their descriptions, so the explanation is written once.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def is_folder(root: str) -> bool:
    """Whether a lake's root is a folder: of this machine, or one that all machines see."""
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", root)


class Storage(_Section):
    """Where the tables and the streams' checkpoints live."""

    root: str = Field(".work/lake", min_length=1)
    """Folder or URI of the lake; tables are `<root>/<layer>/<table>`. Relative to the current directory."""

    history_hours: float = Field(30, ge=1)
    """How long former versions of a table can be read, and how far a stream of yours may be behind (hours).

    Each round makes a version, and Delta lists them again and again: many make rounds slow. What the streams
    of the layers have yet to read stays, however long they are down.
    """

    @field_validator("root")
    @classmethod
    def _as_folder(cls, root: str) -> str:
        """A `file:` URI as the folder that it is, which is locked and written as such."""
        found = re.fullmatch(r"file:(?://(?:localhost)?(?=/))?(.+)", root, re.IGNORECASE)
        if found and found[1].startswith("//"):
            raise ValueError("a file: URI names a folder of this machine, for instance file:///data/lake")
        return found[1] if found else root

    @property
    def location(self) -> str:
        """The root as every process can find it: a URI as it is, a folder's absolute path."""
        return str(Path(self.root).resolve()) if is_folder(self.root) else self.root.rstrip("/")


class Topics(_Section):
    """The topics' names, each another: an input topic's name tells what its records are."""

    # A name that is given may be another one's default.
    model_config = ConfigDict(validate_default=True)

    user_actions: str = Field("media.user-actions", min_length=1)
    """Events of viewers: play, pause, skip and the like. Key: userId."""
    content_uploads: str = Field("media.content-uploads", min_length=1)
    """Events of the life of a media item. Key: mediaId."""
    system_events: str = Field("media.system-events", min_length=1)
    """Status and resources of servers. Key: serverId."""
    notifications: str = Field("media.notifications", min_length=1)
    """Output: notifications for users."""

    @field_validator("*")
    @classmethod
    def _is_another(cls, name: str, info: ValidationInfo) -> str:
        other = next((key for key, taken in info.data.items() if taken == name), None)
        if other is not None:
            raise ValueError(
                f"kafka.topics.{other} has this name, too; for a topic with events of several types set "
                "kafka.subscribe_pattern, and tell each record's type by a header ce_type"
            )
        return name


Encoding = Literal["json", "avro", "protobuf"]


class Encodings(_Section):
    """How records of a topic are encoded when neither the wire format nor a `content-type` header tells."""

    user_actions: Encoding = "json"
    """Events of viewers."""
    content_uploads: Encoding = "json"
    """Events of the life of a media item."""
    system_events: Encoding = "json"
    """Status and resources of servers."""


class Kafka(_Section):
    """The event broker."""

    bootstrap_servers: str = Field(f"127.0.0.1:{DEFAULT_PORT}", min_length=1)
    """`host:port`, several separated by commas."""
    topics: Topics = Topics()
    """The topics' names."""
    encodings: Encodings = Encodings()
    """How records are encoded that do not tell it themselves."""
    subscribe_pattern: str | None = None
    """Java regular expression of topics to read instead of the three input topics; null: the three."""
    partitions: int = Field(4, ge=1)
    """Partitions of a topic that Reelhouse creates (count)."""
    replication: int = Field(1, ge=1)
    """Replicas of a topic that Reelhouse creates (count); at most the number of brokers."""
    options: dict[str, str] = {}
    """Client options under Kafka's own names (`security.protocol`, `sasl.mechanism`, `ssl.*` …).

    Spark gets them as `kafka.*`. `sasl.username` with `sasl.password` stand for a `sasl.jaas.config`.
    """
    fail_on_data_loss: bool = True
    """Stop with an error when offsets have expired before they were read; false: skip and record it."""


class Registry(_Section):
    """The schema registry: what the schema ids in records mean, and where the contracts are published."""

    url: str | None = Field(None, min_length=1)
    """Address of its Confluent-compatible API (`http://127.0.0.1:8081`, Apicurio: `…/apis/ccompat/v7`).

    Null: there is no registry.
    """
    username: str | None = None
    """User for basic authentication; null: none."""
    password: str | None = None
    """Password of that user."""
    ca_file: str | None = None
    """PEM file of the authority that signed the registry's certificate; null: the well-known ones."""
    cert_file: str | None = None
    """PEM file of the client's certificate, for a registry that asks for one."""
    key_file: str | None = None
    """PEM file of that certificate's key; null: it is in `cert_file`."""
    timeout_seconds: float = Field(3, gt=0)
    """How long the registry may take to answer (seconds)."""
    retry_seconds: float = Field(30, ge=0)
    """How long an id that was not found, or a registry that did not answer, is not asked again (seconds)."""


class Catalog(_Section):
    """The shared catalogue of SQL: a Hive metastore, in which every SQL client finds the tables by name."""

    url: str | None = Field(None, pattern=r"^jdbc:(postgresql|derby):")
    """JDBC URL of the metastore's database (`jdbc:postgresql://host/name`).

    Null: each `reelhouse sql` names the tables for itself.
    """
    username: str | None = None
    """User of that database; null: none."""
    password: str | None = None
    """Password of that user."""


class Broker(_Section):
    """The embedded single-node broker for development."""

    dir: str = Field(".work/broker", min_length=1)
    """Folder of its data, log and process record. Relative to the current directory."""
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    """TCP port of clients on 127.0.0.1; 0: pick a free one at the first start and keep it."""
    controller_port: int = Field(DEFAULT_CONTROLLER_PORT, ge=0, le=65535)
    """TCP port of the KRaft controller on 127.0.0.1; 0: pick a free one at the first start and keep it."""
    heap: str = Field("512m", pattern=r"^[1-9][0-9]*[kmgKMG]$")
    """Java heap, as in `-Xmx` (`512m`, `1g`)."""


class Spark(_Section):
    """The Spark session."""

    master: str = Field("local[2]", min_length=1)
    """Spark master URL; `spark-submit --master` wins over it."""
    driver_memory: str = Field("2g", pattern=r"^[1-9][0-9]*[kmgtKMGT]$")
    """Java heap of the driver (`2g`, `1500m`)."""
    shuffle_partitions: int = Field(2, ge=1)
    """Partitions of a shuffle (count); about the number of cores."""
    conf: dict[str, str] = {}
    """Further Spark properties; they win over Reelhouse's own, but what results depend on is refused."""


class Stream(_Section):
    """How the streams cut and pace their batches."""

    max_records_per_batch: int = Field(1_000_000, ge=1)
    """Most Kafka records that one batch of bronze takes (count, over all partitions); later layers' about."""
    poll_seconds: float = Field(0.2, ge=0)
    """Pause before looking for new records when there were none (seconds)."""
    rules_minutes: float = Field(10, ge=0)
    """How often the tables' rules are counted, on the days whose rows have changed (minutes); 0: never."""
    jitter_seconds: int = Field(120, ge=0)
    """Disorder among events that is expected as normal (seconds); later ones are still counted.

    It may change between runs: what was settled stays so."""


class Limits(_Section):
    """What a record must keep within; one that does not goes to quarantine."""

    max_record_bytes: int = Field(262_144, ge=1)
    """Largest value of a record (bytes)."""
    earliest_timestamp: str = "2000-01-01T00:00:00Z"
    """Earliest time of an event (RFC 3339)."""
    future_hours: int = Field(24, ge=0)
    """How far an event may be ahead of its record's time at the broker (hours)."""

    @field_validator("earliest_timestamp")
    @classmethod
    def _is_rfc3339(cls, text: str) -> str:
        if parse_time(text) is None:
            raise ValueError("a time looks like 2000-01-01T00:00:00Z, with its offset")
        return text


class Dedup(_Section):
    """Deduplication by event identity."""

    reuse_window_minutes: int = Field(60, ge=0)
    """How long an identity that was given to two times is still caught (minutes between the records).

    Copies of an event, which have its time, are found at any distance.
    """


class Quality(_Section):
    """The checks of the tables."""

    severity: dict[str, Literal["error", "warn", "off"]] = {}
    """Other severities than declared, by check: `"gold.playbacks.plays_of_unknown_media" = "off"`."""


class Config(_Section):
    """Every setting of Reelhouse."""

    storage: Storage = Storage()
    """Where the tables live."""
    kafka: Kafka = Kafka()
    """The event broker."""
    registry: Registry = Registry()
    """The schema registry."""
    catalog: Catalog = Catalog()
    """The shared catalogue of SQL."""
    broker: Broker = Broker()
    """The embedded broker for development."""
    spark: Spark = Spark()
    """The Spark session."""
    stream: Stream = Stream()
    """Batches and pace."""
    limits: Limits = Limits()
    """What a record must keep within."""
    dedup: Dedup = Dedup()
    """Deduplication by event identity."""
    quality: Quality = Quality()
    """The checks of the tables."""


def load_config(path: str | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The configuration of a TOML file with the environment on top; see `pipelines.config_loader`.

    `path` None means conf/local.toml when it exists, else the defaults. `env` None means os.environ.
    Raises UsageError for a missing or broken file, an unknown key, or a value of the wrong type.
    """
    from pipelines.config_loader import load

    return load(path, env)
