"""Who writes a layer, for those who only look: `guard` and `lease` take the locks."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from pipelines.config import is_folder
from pipelines.engine.lake import Lake


def holder(lake: Lake, layer: str) -> str | None:
    """The process that holds a layer, or on a disk held it last; None: none did, or there are no locks."""
    if is_folder(lake.root):
        return lake.read_text(str(_lock(lake, layer)))
    text = lake.read_text(f"{lake.root}/_locks/{layer}.lease")
    return str(json.loads(text)["holder"]) if text else None


def is_held(lake: Lake, layer: str) -> bool:
    """Whether a process holds the layer; False where there are no locks."""
    if not is_folder(lake.root):
        return holder(lake, layer) is not None
    try:
        # Shared, and for an instant: a writer that starts in it looks again.
        with _lock(lake, layer).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _lock(lake: Lake, layer: str) -> Path:
    return Path(lake.root) / "_locks" / f"{layer}.lock"
