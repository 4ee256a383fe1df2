"""The topics that bronze reads: which they are, and that they are those of the last start."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from pyspark.errors import IllegalArgumentException

from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError, UsageError
from pipelines.topics import event_types, identities


def require_same_topics(lake: Lake, config: Config, report: Callable[[str], None]) -> None:
    """Refuse topics of bronze that were made anew since the last look: their offsets mean other records.

    And topics that are gone or left out now, unless data may be lost, which is then reported. Raises
    ReelhouseError (`topic_recreated`, `topic_gone`, `topic_left_out`, `topic_missing`, `broker_unreachable`).
    """
    found = identities(config)
    _require_named(config, found)
    path = f"{lake.checkpoint('bronze')}-topics.json"
    text = lake.read_text(path)
    known: dict[str, str] = json.loads(text) if text else {}
    ids = {name: found[name] for name in _of_bronze(lake, config, found)}
    changed = sorted(name for name, now in ids.items() if known.get(name, now) != now)
    if changed:
        by_pattern = bool(config.kafka.subscribe_pattern)
        way = (
            "leave it out of kafka.subscribe_pattern"
            if by_pattern
            else "point kafka.topics at the former one"
        )
        message = (
            f"the topic {', '.join(changed)} was deleted and created anew since the last run, so its offsets "
            f"count other records; use a new storage.root, or {way}"
        )
        raise ReelhouseError(message, code="topic_recreated")
    _require_none_gone(lake, config, found, ids, report)
    if not ids.items() <= known.items():
        # One that is gone stays: Spark forgets it, and would read one of its name from the start.
        lake.write_text(path, json.dumps({**known, **ids}, indent=1, sort_keys=True))


def _require_named(config: Config, found: Collection[str]) -> None:
    missing = [name for name in input_topics(config) if name not in found]
    if missing:
        message = (
            f"the topic {', '.join(missing)} does not exist on {config.kafka.bootstrap_servers}; create it, "
            "or correct kafka.topics (`reelhouse broker start` creates the topics of the embedded broker)"
        )
        raise ReelhouseError(message, code="topic_missing")


def _require_none_gone(
    lake: Lake, config: Config, found: Collection[str], read: Collection[str], report: Callable[[str], None]
) -> None:
    """`found` are the cluster's topics, `read` those of them that bronze reads now."""
    batch, _ = last_batch(lake, "bronze")
    reached = [] if batch is None else offsets(lake, "bronze", batch)[0]
    missing = sorted(name for name in reached if name not in read)
    if not missing:
        return
    gone = [name for name in missing if name not in found]
    told = f"the topic {', '.join(gone or missing)}, which bronze has read, is "
    if gone:
        told += f"no longer on {config.kafka.bootstrap_servers}, and with it what bronze had not read"
        code, way = "topic_gone", ""
    else:
        key = "subscribe_pattern" if config.kafka.subscribe_pattern else "topics"
        told += f"left out of kafka.{key}"
        code, way = "topic_left_out", "put it back, or, "
    if config.kafka.fail_on_data_loss:
        message = f"{told}; {way}to go on without it, set kafka.fail_on_data_loss=false for one run"
        raise ReelhouseError(message, code=code)
    report(f"{told}; going on without it")


def topics_of_bronze(lake: Lake, config: Config) -> list[str]:
    """The topics that bronze reads now: by name, or by a pattern. Raises ReelhouseError."""
    return input_topics(config) or _of_bronze(lake, config, identities(config))


def _of_bronze(lake: Lake, config: Config, found: Collection[str]) -> list[str]:
    """Of the topics that were found those that bronze reads; a cluster has others as well."""
    text = config.kafka.subscribe_pattern
    if not text:
        return input_topics(config)
    java: Any = lake.spark._jvm
    try:
        pattern = java.java.util.regex.Pattern.compile(text)
    except IllegalArgumentException as error:
        reason = str(error).partition("\n")[0]
        message = f"kafka.subscribe_pattern is {text!r}, no regular expression of Java ({reason}); correct it"
        raise UsageError(message, code="wrong_value") from error
    return [name for name in found if pattern.matcher(name).matches()]


def input_topics(config: Config) -> list[str]:
    """The topics that bronze reads by name; none when it subscribes to a pattern."""
    return [] if config.kafka.subscribe_pattern else list(event_types(config))
