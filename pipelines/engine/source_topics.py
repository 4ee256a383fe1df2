"""The topics that bronze reads: which they are, and that they are those of the last round."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pyspark.errors import IllegalArgumentException

from pipelines.config import Config
from pipelines.engine.checkpoint import last_batch, offsets
from pipelines.engine.lake import Lake
from pipelines.errors import ReelhouseError, UsageError
from pipelines.topics import event_types, identities

_WITHOUT = "to go on without it, set kafka.fail_on_data_loss=false for one run"
_PUT_BACK = "put it back (kafka.topics, kafka.subscribe_pattern)"
_NOT_LATER = "the topic must not come back later, as it would be read from its start again"


def require_same_topics(
    lake: Lake, config: Config, report: Callable[[str], None], seen: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Refuse topics of bronze that were made anew since the last look: their offsets mean other records.

    And topics that are gone or left out now, unless data may be lost, which is then reported. Returns the
    ids of the cluster's topics: while they are those of `seen`, what was found then holds. Raises
    ReelhouseError (`topic_recreated`, `topic_gone`, `topic_left_out`, `topic_missing`, `broker_unreachable`).
    """
    found = identities(config)
    if found == seen:
        return found
    _require_named(config, found)
    path = f"{lake.checkpoint('bronze')}-topics.json"
    text = lake.read_text(path)
    known: dict[str, str] = json.loads(text) if text else {}
    ids = {name: found[name] for name in _of_bronze(lake, config, found)}
    _require_none_recreated(config, known, ids)
    _require_none_gone(lake, config, found, ids, report)
    if not ids.items() <= known.items():
        # One that is gone stays: Spark forgets it, and would read one of its name from the start.
        lake.write_text(path, json.dumps({**known, **ids}, indent=1, sort_keys=True))
    return found


def _require_none_recreated(config: Config, known: Mapping[str, str], ids: Mapping[str, str]) -> None:
    changed = sorted(name for name, now in ids.items() if known.get(name, now) != now)
    if changed:
        by_pattern = bool(config.kafka.subscribe_pattern)
        way = (
            "leave it out of kafka.subscribe_pattern"
            if by_pattern
            else "point kafka.topics at the former one"
        )
        message = (
            f"the topic {', '.join(changed)} was deleted and created anew since bronze last looked, so its "
            f"offsets count other records; use a new storage.root, or {way}, with "
            "kafka.fail_on_data_loss=false for one run"
        )
        raise ReelhouseError(message, code="topic_recreated")


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
    gone = ", ".join(name for name in missing if name not in found)
    left_out = ", ".join(name for name in missing if name in found)
    lost = []
    if gone:
        told = f"no longer on {config.kafka.bootstrap_servers}, and with it what bronze had not read"
        lost.append(("topic_gone", gone, told, _WITHOUT))
    if left_out:
        key = "subscribe_pattern" if config.kafka.subscribe_pattern else "topics"
        told = f"no longer among those that it reads by kafka.{key}"
        lost.append(("topic_left_out", left_out, told, f"{_PUT_BACK}, or, {_WITHOUT}: {_NOT_LATER}"))
    for code, topics, told, way in lost:
        sentence = f"the topic {topics}, which bronze has read, is {told}"
        if config.kafka.fail_on_data_loss:
            raise ReelhouseError(f"{sentence}; {way}", code=code)
        report(f"{sentence}; going on without it")


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
