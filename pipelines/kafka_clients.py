"""Kafka clients built from the configuration, and the options of Spark's own."""

from __future__ import annotations

import re
import socket
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.kafka_failures import Failures, is_denial, said

# Far above Kafka's own 1 MB: records that are too large must reach bronze, to be quarantined with a reason.
MAX_REQUEST_BYTES = 10 * 1024 * 1024
_BOOTSTRAP_MS = 8_000
_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


def producer(config: Config, **settings: Any) -> KafkaProducer:
    """An idempotent producer that waits for all replicas; `settings` are kafka-python's own.

    Delivery is at least once for the application, in order and without duplicates for each partition
    within one producer's life. Raises ReelhouseError (`broker_unreachable`, `kafka_denied`).
    """
    chosen = {
        "acks": "all",
        "enable_idempotence": True,
        "allow_auto_create_topics": False,
        "max_request_size": MAX_REQUEST_BYTES,
        **settings,
    }
    return _connect(KafkaProducer, config, chosen)


def admin(config: Config, **settings: Any) -> KafkaAdminClient:
    """An admin client; close it after use. Raises ReelhouseError (`broker_unreachable`, `kafka_denied`)."""
    return _connect(KafkaAdminClient, config, settings)


def consumer(config: Config) -> KafkaConsumer:
    """A consumer of few records, which begins where a partition does when its offset has expired.

    Close it after use. Raises ReelhouseError (`broker_unreachable`, `kafka_denied`).
    """
    # One batch of its producer is the least of a partition that a broker gives.
    settings = {"max_partition_fetch_bytes": 1, "auto_offset_reset": "earliest"}
    return _connect(KafkaConsumer, config, settings)


def _connect(client: Any, config: Config, settings: dict[str, Any]) -> Any:
    servers = [server.strip() for server in config.kafka.bootstrap_servers.split(",")]
    settings = {"bootstrap_timeout_ms": _BOOTSTRAP_MS, **client_security(config.kafka.options), **settings}
    try:
        _require_listener(servers)
    except (OSError, ValueError) as error:
        message = (
            f"no Kafka broker answers at {config.kafka.bootstrap_servers} ({said(error)}); start it with "
            "`reelhouse broker start`, or set kafka.bootstrap_servers"
        )
        raise ReelhouseError(message, code="broker_unreachable") from error
    with Failures() as failures:
        try:
            return client(bootstrap_servers=servers, **settings)
        except (KafkaError, OSError, ValueError) as error:
            raise _refused(config, _telling(error, failures.reason)) from error


def _telling(error: Exception, before: Exception | None) -> Exception:
    """The client tells of a timeout when it has failed again and again: of what, says the attempt before."""
    return before if before is not None and not is_denial(error) else error


def _refused(config: Config, error: Exception) -> ReelhouseError:
    servers = config.kafka.bootstrap_servers
    if is_denial(error):
        message = (
            f"kafka.options do not get into Kafka at {servers} ({said(error)}); correct kafka.options, or "
            "allow it there"
        )
        return ReelhouseError(message, code="kafka_denied")
    # A broker that has just started takes connections before it answers, so this may be tried again.
    message = (
        f"{servers} takes connections, but no Kafka broker answers ({said(error)}); wait if it is starting, "
        "else correct kafka.options (security.protocol) or kafka.bootstrap_servers"
    )
    return ReelhouseError(message, code="broker_unreachable")


def _require_listener(servers: list[str]) -> None:
    """Raise the last OSError when no server takes a connection: the client would retry for seconds."""
    failure: OSError | None = None
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_BOOTSTRAP_MS / 1000).close()
            return
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def answers(config: Config) -> bool:
    """Whether one of the servers takes connections."""
    try:
        _require_listener([server.strip() for server in config.kafka.bootstrap_servers.split(",")])
    except (OSError, ValueError):
        return False
    return True


def spark_options(config: Config) -> dict[str, str]:
    """The options of Spark's Kafka source and sink: bootstrap servers and `kafka.*`, JAAS composed."""
    options = dict(config.kafka.options)
    username, password = options.pop("sasl.username", None), options.pop("sasl.password", None)
    if username is not None and "sasl.jaas.config" not in options:
        module = _LOGIN_MODULES.get(options.get("sasl.mechanism", "PLAIN"), _LOGIN_MODULES["PLAIN"])
        entries = f"username={_quoted(username)} password={_quoted(password or '')}"
        options["sasl.jaas.config"] = f"{module} required {entries};"
    named = {f"kafka.{name}": value for name, value in options.items()}
    return {"kafka.bootstrap.servers": config.kafka.bootstrap_servers, **named}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def client_security(options: dict[str, str]) -> dict[str, Any]:
    """kafka-python's security settings for options under Kafka's own names; others are not for it.

    Raises ReelhouseError (`kafka_option`) for a Java key store, which only Java reads.
    """
    settings: dict[str, Any] = {}
    if "security.protocol" in options:
        settings["security_protocol"] = options["security.protocol"].upper()
    if "sasl.mechanism" in options:
        settings["sasl_mechanism"] = options["sasl.mechanism"]
    username, password = _credentials(options)
    if username is not None:
        settings.update(sasl_plain_username=username, sasl_plain_password=password)
    return {**settings, **_tls(options)}


def _credentials(options: dict[str, str]) -> tuple[str | None, str | None]:
    if "sasl.username" in options:
        return options["sasl.username"], options.get("sasl.password", "")
    jaas = options.get("sasl.jaas.config", "")
    return _jaas_entry(jaas, "username"), _jaas_entry(jaas, "password")


def _jaas_entry(jaas: str, name: str) -> str | None:
    found = re.search(rf'\b{name}\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))', jaas)
    if not found:
        return None
    quoted, bare = found.groups()
    return bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def _tls(options: dict[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for store in ("ssl.truststore", "ssl.keystore"):
        if f"{store}.location" in options and options.get(f"{store}.type", "JKS").upper() != "PEM":
            message = f"kafka.options {store}.location must be a PEM file; set {store}.type to PEM"
            raise ReelhouseError(message, code="kafka_option")
    if "ssl.truststore.location" in options:
        settings["ssl_cafile"] = options["ssl.truststore.location"]
    if "ssl.keystore.location" in options:
        # Kafka's PEM key store holds the key and its chain in one file.
        settings["ssl_certfile"] = settings["ssl_keyfile"] = options["ssl.keystore.location"]
    if "ssl.key.password" in options:
        settings["ssl_password"] = options["ssl.key.password"]
    if "ssl.endpoint.identification.algorithm" in options:
        settings["ssl_check_hostname"] = bool(options["ssl.endpoint.identification.algorithm"])
    return settings
