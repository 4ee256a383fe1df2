"""Who may write a layer: one process at a time, by a lock or a lease. And who does, for others to see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from py4j.protocol import Py4JError

from pipelines.config import is_folder
from pipelines.declare import Table
from pipelines.engine.lake import Lake
from pipelines.engine.lease import already_running, is_supported, lease_holder, leases
from pipelines.engine.storage_errors import unwritable
from pipelines.errors import ReelhouseError

_LOOKS = 3
"""How often a lock is asked for (count)."""


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
        held: contextlib.AbstractContextManager[None] = _locks(lake, layers)
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
            "that scheme, or set spark.hadoop.fs.defaultFS to file:/// in spark.conf"
        )
        raise ReelhouseError(message, code="storage_not_local")


@contextlib.contextmanager
def _locks(lake: Lake, layers: Sequence[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_lock(_lock_file(lake, layer), layer))
        yield


def _lock_file(lake: Lake, layer: str) -> Path:
    return Path(lake.root) / "_locks" / f"{layer}.lock"


@contextlib.contextmanager
def in_turn(lake: Lake, table: Table) -> Iterator[None]:
    """Write a table that more than one process writes: on a disk, wait until no other one does.

    There Delta keeps apart the writers of one Java only: of two processes one could replace the other's
    commit. In object storage a table is written under the layer's lease alone.
    """
    if not is_folder(lake.root):
        yield
        return
    with _opened(Path(lake.root) / "_locks" / f"{table.full_name}.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
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
    with _opened(path) as file:
        if not _is_locked(file):
            raise already_running(layer, _told_in(file))
        file.truncate(0)
        file.write(_this_process())
        file.flush()
        yield


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise unwritable(str(path.parent.parent), error) from error


def _is_locked(file: IO[str]) -> bool:
    """Whether the lock is ours now; who only looks whether it is held (`is_held`) has it for an instant."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.05)
    return False


def _told_in(file: IO[str]) -> str:
    file.seek(0)
    return file.read() or "an unknown process"


def holder(lake: Lake, layer: str) -> str | None:
    """The process that holds a layer, or on a disk held it last; None: none did, or there are no locks."""
    if is_folder(lake.root):
        return lake.read_text(str(_lock_file(lake, layer)))
    return lease_holder(lake, layer)


def is_held(lake: Lake, layer: str) -> bool:
    """Whether a process holds the layer; False where there are no locks."""
    if not is_folder(lake.root):
        return lease_holder(lake, layer) is not None
    try:
        # Shared, and for an instant: a writer that starts in it looks again.
        with _lock_file(lake, layer).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
