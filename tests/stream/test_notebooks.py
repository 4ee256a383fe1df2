"""The notebooks run on a lake, draw something, and are committed without their output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

if TYPE_CHECKING:
    from pipelines.config import Config
    from pipelines.engine.lake import Lake

pytestmark = pytest.mark.stream
NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_they_run_and_draw(simulated: tuple[Lake, Config]) -> None:
    environment = {**os.environ, "REELHOUSE_STORAGE__ROOT": simulated[0].root}
    # One kernel for all, so that Spark starts once.
    manager, client = start_new_kernel(kernel_name="python3", env=environment, cwd=str(NOTEBOOKS[0].parent))
    client.stop_channels()
    try:
        for file in NOTEBOOKS:
            notebook = nbformat.read(file, as_version=4)
            NotebookClient(notebook, km=manager, timeout=300).execute(cleanup_kc=False)
            outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
            kinds = {kind for output in outputs for kind in output.get("data", ())}
            assert kinds & {"text/html", "image/png"}, file.name
            assert "image/png" in kinds or file.name.startswith("01"), file.name
    finally:
        manager.shutdown_kernel(now=True)


def test_they_are_committed_without_output() -> None:
    assert len(NOTEBOOKS) == 4
    for file in NOTEBOOKS:
        for cell in nbformat.read(file, as_version=4).cells:
            assert not cell.get("outputs"), file.name
            assert cell.get("execution_count") is None, file.name
