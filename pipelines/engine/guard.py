"""What must hold before a stream starts: one writer, its own checkpoint, the same topics as before."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from py4j.protocol import Py4JError
from pyspark.errors import IllegalArgumentException
from pyspark.sql import functions as F

from pipelines.config import Config, is_folder
from pipelines.engine.batch import pins
from pipelines.engine.checkpoint import app_id, last_batch, last_planned, offsets, query_id, sources
from pipelines.engine.lake import Lake
from pipelines.engine.lease import is_supported, leases
from pipelines.engine.storage_errors import unwritable
from pipelines.errors import ReelhouseError, UsageError
from pipelines.gold import quality_results, state
from pipelines.silver import ledger
from pipelines.tables import BRONZE, OF_LAYER, READ_BY
from pipelines.topics import event_types, identities

_LOOKS = 3
_WRITTEN_BY_EACH_BATCH = {"bronze": BRONZE[0], "silver": ledger.TABLE, "gold": state.RECENT_ACTIONS}


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def only_writer(
    lake: Lake, layers: Sequence[str], report: Callable[[str], None] = _to_stderr
) -> Iterator[None]:
    """Hold the layers against every other writer of this root.

    Raises ReelhouseError (`already_running`, `storage_not_local`).

    By a lock of the operating system, which ends with the process however it ends; on S3 by a lease. Other
    storages have neither, which is told: there the scheduler must keep a second writer away.
    """
    if is_folder(lake.root):
        _require_local(lake)
        held: contextlib.AbstractContextManager[None] = _locks(lake.root, layers)
    elif _has_leases(lake):
        held = leases(lake, layers, _this_process(), report)
    else:
        report(f"{lake.root} has no lock: see that nothing else writes the layers {', '.join(layers)}")
        held = contextlib.nullcontext()
    with held:
        yield


def _require_local(lake: Lake) -> None:
    """Refuse a folder that Hadoop takes for one of a cluster's storage: each machine would have a lock of its
    own. Raises ReelhouseError (`storage_not_local`).
    """
    storage = lake.default_storage()
    if not storage.startswith("file:"):
        message = (
            f"storage.root is the folder {lake.root}, which Hadoop takes for one of {storage}; write it with "
            "its scheme, or set spark.hadoop.fs.defaultFS to file:/// in spark.conf"
        )
        raise ReelhouseError(message, code="storage_not_local")


@contextlib.contextmanager
def _locks(root: str, layers: Sequence[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_lock(Path(root) / "_locks" / f"{layer}.lock", layer))
        yield


def _has_leases(lake: Lake) -> bool:
    try:
        return is_supported(lake)
    except Py4JError as error:
        raise unwritable(lake.root, error) from error


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextlib.contextmanager
def _lock(path: Path, layer: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise unwritable(str(path.parent.parent), error) from error
    with file:
        if not _is_locked(file):
            message = (
                f"another process writes the {layer} layer already: {_holder(file)}; stop it first, or "
                "let it do the work"
            )
            raise ReelhouseError(message, code="already_running")
        file.truncate(0)
        file.write(_this_process())
        file.flush()
        yield


def _is_locked(file: IO[str]) -> bool:
    """Whether the lock is ours now; who only looks whether it is held (`holders`) has it for an instant."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.05)
    return False


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "an unknown process"


def make_tables(lake: Lake, layers: Sequence[str]) -> None:
    """Make what the layers' streams write, where it is missing, once it is sure that nothing is lost.

    Raises ReelhouseError (`checkpoint_lost`, `checkpoint_behind`, `table_lost`, `table_behind`,
    `source_lost` …).
    """
    for layer in layers:
        _require_checkpoint(lake, layer)
        _require_tables(lake, layer)
        _require_newest_checkpoint(lake, layer)
        _require_newest_tables(lake, layer)
    for layer in layers:
        lake.create(OF_LAYER[layer])


def _require_checkpoint(lake: Lake, layer: str) -> None:
    """Refuse to read everything anew into tables that hold it: without its checkpoint a stream would.

    Raises ReelhouseError (`checkpoint_lost`).
    """
    checkpoint = lake.checkpoint(layer)
    if lake.read_text(f"{checkpoint}/metadata") is not None:
        return
    # A table that has its first version only is empty: asking its rows would cost a job each.
    kept = [t for t in OF_LAYER[layer] if t is not quality_results.TABLE]  # `check` writes it as well
    made = [t for t in kept if lake.exists(t) and lake.version(t) > 0]
    written = [t.full_name for t in made if not lake.read(t).isEmpty()]
    if written:
        message = (
            f"the checkpoint {checkpoint} is gone, but {', '.join(written)} holds what it had read; restore "
            f"the checkpoint, or begin {layer} anew: docs/operations.md says how"
        )
        raise ReelhouseError(message, code="checkpoint_lost")


def _require_newest_checkpoint(lake: Lake, layer: str) -> None:
    """Refuse a checkpoint that is older than what its stream has written, such as one from a backup.

    Its next batches have numbers that tables know: Delta would take new records for written ones. Raises
    ReelhouseError (`checkpoint_behind`).
    """
    planned, written = last_planned(lake, layer), _last_written(lake, layer)
    if written is not None and written > (-1 if planned is None else planned):
        message = (
            f"the checkpoint {lake.checkpoint(layer)} is older than what {layer} has written (its batch "
            f"{planned}, theirs {written}); restore a newer one, or begin {layer} anew: docs/operations.md "
            "says how"
        )
        raise ReelhouseError(message, code="checkpoint_behind")


def _last_written(lake: Lake, layer: str) -> int | None:
    """The newest batch that a table of the layer knows of; None: of none."""
    table, own = _WRITTEN_BY_EACH_BATCH[layer], query_id(lake, layer)
    if own is None or not lake.exists(table):
        return None
    if layer == "silver":
        newest = lake.read(table).agg(F.max("batch")).first()
        return None if newest is None or newest[0] is None else int(newest[0])
    return lake.txn_version(table, own if layer == "bronze" else f"{app_id(lake, layer)}/{table.full_name}")


def _require_tables(lake: Lake, layer: str) -> None:
    """Refuse to go on where a table is gone that the layer's stream has written, or one that it reads.

    An empty one in its place would hide the hole. Raises ReelhouseError (`table_lost`, `source_lost`).
    """
    batch, _ = last_batch(lake, layer)
    if batch is None:
        return
    begun = pins(lake, layer)
    # Bronze pins none: Spark's own sink writes its one table. A table of a newer release is in no pins.
    known = {*begun.versions} if begun else {table.full_name for table in BRONZE}
    lost = [t.full_name for t in OF_LAYER[layer] if t.full_name in known and not lake.exists(t)]
    if lost:
        message = (
            f"{', '.join(lost)} is gone, which the {layer} stream has written; restore it, or begin "
            f"{layer} anew: docs/operations.md says how"
        )
        raise ReelhouseError(message, code="table_lost")
    if layer in READ_BY:
        sources(lake, layer, batch)


def _require_newest_tables(lake: Lake, layer: str) -> None:
    """Refuse tables that are older than the checkpoint, such as from a backup: their stream would go on, and
    what it had written since would be missing. Raises ReelhouseError (`table_behind`).
    """
    committed, _ = last_batch(lake, layer)
    if committed is None:
        return
    begun = pins(lake, layer)
    known = begun.versions if begun else {}
    behind = {
        table.full_name: f"version {newest} of {known[table.full_name]}"
        for table in OF_LAYER[layer]
        if table.full_name in known and (newest := lake.version(table)) < known[table.full_name]
    }
    # By versions only what was there before the last batch. Silver's may have had no records.
    written = _last_written(lake, layer)
    if layer != "silver" and not behind and (-1 if written is None else written) < committed:
        behind = {_WRITTEN_BY_EACH_BATCH[layer].full_name: f"batch {written} of {committed}"}
    if behind:
        listed = ", ".join(f"{name} ({told})" for name, told in behind.items())
        message = (
            f"{listed} is older than the checkpoint of {layer}; restore newer ones, or begin {layer} anew: "
            "docs/operations.md says how"
        )
        raise ReelhouseError(message, code="table_behind")


def require_same_topics(lake: Lake, config: Config, report: Callable[[str], None] = _to_stderr) -> None:
    """Refuse topics of bronze that were made anew since the last start: their offsets mean other records.

    And topics of a pattern that are gone, unless data may be lost, which is then reported. Raises
    ReelhouseError (`topic_recreated`, `topic_gone`, `topic_missing`, `broker_unreachable`).
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
    if config.kafka.subscribe_pattern:
        _require_none_gone(lake, config, found, report)
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
    lake: Lake, config: Config, found: Collection[str], report: Callable[[str], None]
) -> None:
    batch, _ = last_batch(lake, "bronze")
    reached = [] if batch is None else offsets(lake, "bronze", batch)[0]
    gone = ", ".join(sorted(name for name in reached if name not in found))
    if not gone:
        return
    told = f"the topic {gone}, which bronze has read, is no longer on {config.kafka.bootstrap_servers}"
    if config.kafka.fail_on_data_loss:
        message = (
            f"{told}, and with it what bronze had not read; to go on without it, set "
            "kafka.fail_on_data_loss=false for one run"
        )
        raise ReelhouseError(message, code="topic_gone")
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
