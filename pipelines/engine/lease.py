"""A lease on a layer in object storage, where there are no locks: an object that its holder keeps renewing.

It is made by a PUT that fails where there is one (If-None-Match), and renewed and taken over by PUTs that
fail where it is not the one that was read (If-Match): of two writers, one wins. No clocks are compared. Who
wants the lease of another waits until it has seen the same object for `EXPIRES_SECONDS`; a holder that could
not renew it for `GIVES_UP_SECONDS`, which is less, ends its process, with all that it had under way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError

from pipelines.engine.lake import Lake
from pipelines.engine.storage_errors import storage_failure, unwritable
from pipelines.errors import ReelhouseError

RENEWS_SECONDS = 5.0
GIVES_UP_SECONDS = 20.0
EXPIRES_SECONDS = 30.0
_POLL_SECONDS = 1.0
_ABSENT = "fs.option.create.conditional.overwrite"
_MATCHES = "fs.option.create.conditional.overwrite.etag"


def is_supported(lake: Lake) -> bool:
    """Whether the storage has PUTs on a condition: S3A has."""
    files, root = lake.hadoop_files(lake.root)
    return bool(files.hasPathCapability(root, _MATCHES))


@contextlib.contextmanager
def leases(lake: Lake, layers: Sequence[str], holder: str, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the layers; `holder` tells others who does. Raises ReelhouseError (`already_running`, …)."""
    wanted = [_Lease(lake, layer, holder) for layer in layers]
    with contextlib.ExitStack() as stack:
        try:
            for one in wanted:  # all first: one time of waiting is enough for all
                one.look(report)
            for one in wanted:
                one.take()
                stack.callback(one.release)
        except Py4JError as error:
            raise unwritable(lake.root, error) from error
        yield


def lease_holder(lake: Lake, layer: str) -> str | None:
    """The process that has the layer's lease, for those who only look; None: none has."""
    return _stored(lake, layer).get("holder")


def _stored(lake: Lake, layer: str) -> dict[str, str]:
    """What the lease tells; nothing when there is none."""
    text = lake.read_text(_lease_file(lake, layer))
    return dict(json.loads(text)) if text else {}


def _lease_file(lake: Lake, layer: str) -> str:
    return f"{lake.root}/_locks/{layer}.lease"


class _Lease:
    def __init__(self, lake: Lake, layer: str, holder: str) -> None:
        self._lake, self._layer, self._holder = lake, layer, holder
        self._id = uuid.uuid4().hex
        self._path = _lease_file(lake, layer)
        self._etag: str | None = None
        self._seen_at = self._held_until = 0.0
        self._failure = ""
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"lease-{layer}", daemon=True)

    def look(self, report: Callable[[str], None]) -> None:
        """See who has it, before the wait for its end."""
        self._etag, self._seen_at = self._stored_etag(), time.monotonic()
        if self._etag is not None:
            holder = self._stored_holder()
            report(f"{holder} has the {self._layer} layer; it is taken over when it is not renewed")

    def take(self) -> None:
        """Make the lease, or take it over when its holder does not renew it; keep it from then on."""
        while True:
            etag = self._stored_etag()
            if etag is not None and etag != self._etag:
                raise already_running(self._layer, self._stored_holder())
            if (etag is None or time.monotonic() - self._seen_at >= EXPIRES_SECONDS) and self._put(etag):
                break
            time.sleep(_POLL_SECONDS)
        self._keeper.start()
        threading.Thread(target=self._watch, name=f"lease-watch-{self._layer}", daemon=True).start()

    def _keep(self) -> None:
        """Renew until `release`, or until another has it."""
        while not self._done.wait(RENEWS_SECONDS):
            try:
                if not self._put(self._etag):
                    self._end(f"another process has taken over the {self._layer} layer")
            except (Py4JError, OSError) as error:  # the watcher counts the seconds
                self._failure = str(error)

    def _watch(self) -> None:
        """End the process in time: before another may take over."""
        while not self._done.wait(0.5):
            if time.monotonic() > self._held_until:
                known = storage_failure(self._lake.root, self._failure)
                reason = f": {known}" if known else "; start again when it answers: nothing is lost"
                self._end(f"the lease on the {self._layer} layer could not be renewed{reason}")

    def release(self) -> None:
        """Let others have it at once; a failure only makes them wait."""
        self._done.set()
        self._keeper.join(GIVES_UP_SECONDS)
        with contextlib.suppress(Py4JError):
            if not self._keeper.is_alive() and self._stored_etag() == self._etag:
                self._lake.remove(self._path)

    def _put(self, over: str | None) -> bool:
        """Write the lease where there is none, or over the one with this ETag; whether it is ours then."""
        began = time.monotonic()
        # Each renewal another text: the ETag may be a hash of it.
        text = json.dumps({"holder": self._holder, "id": self._id, "renewal": uuid.uuid4().hex})
        files, path = self._lake.hadoop_files(self._path)
        builder = files.createFile(path).create()
        builder = (
            builder.must(_ABSENT, True) if over is None else builder.overwrite(True).must(_MATCHES, over)
        )
        try:
            stream = builder.build()
            stream.write(bytearray(text.encode()))
            stream.close()
        except Py4JJavaError as error:
            # Or it, or the one before, has arrived without its answer, and this one met it: the text tells.
            if not _lost_the_race(error):
                raise
        # The ETag first: were it another's, the text that is read after it would tell.
        etag = self._stored_etag()
        if _stored(self._lake, self._layer).get("id") != self._id:
            return False
        self._etag, self._held_until = etag, began + GIVES_UP_SECONDS
        return True

    def _stored_etag(self) -> str | None:
        files, path = self._lake.hadoop_files(self._path)
        try:
            return str(files.getFileStatus(path).getEtag())
        except Py4JJavaError as error:
            if "FileNotFoundException" in _class_of(error):
                return None
            raise

    def _stored_holder(self) -> str:
        return lease_holder(self._lake, self._layer) or "an unknown process"

    def _end(self, sentence: str) -> None:
        """End Java and Python at once: a commit on its way must not arrive after another has taken over."""
        if self._done.is_set():
            return
        java: Any = self._lake.spark._jvm
        logging.disable()  # all that speak to Java would say that it has gone
        with contextlib.suppress(Exception):
            java.java.lang.Runtime.getRuntime().halt(1)
        print(f"reelhouse: {sentence}", file=sys.stderr, flush=True)
        os._exit(1)


def _class_of(error: Py4JJavaError) -> str:
    return str(error.java_exception.getClass().getName())


def _lost_the_race(error: Py4JJavaError) -> bool:
    names = ("RemoteFileChangedException", "FileAlreadyExistsException")
    return any(name in _class_of(error) for name in names) or "Status Code: 412" in str(error)


def already_running(layer: str, holder: str) -> ReelhouseError:
    """Another process writes the layer: `holder` tells which."""
    message = (
        f"another process writes the {layer} layer already: {holder}; stop it first, or let it do the work"
    )
    return ReelhouseError(message, code="already_running")
