"""A copy of this checkout to change, and its command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipelines.config import Config

ROOT = Path(__file__).resolve().parents[2]


def copied(folder: Path) -> Path:
    """The package and the contracts, copied into the folder."""
    checkout = folder / "checkout"
    for name in ("pipelines", "schemas"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def replaced(file: Path, *pairs: tuple[str, str]) -> None:
    """Replace texts of a file, each of which is there."""
    text = file.read_text()
    for old, new in pairs:
        assert old in text, (file, old)
        text = text.replace(old, new, 1)
    file.write_text(text)


_VERBS = """
import contextlib, io, json, sys
from pipelines.cli.main import main
told = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    told.append([code, out.getvalue()])
print(json.dumps(told))
"""


def reelhouse_all(checkout: Path, config: Config, *commands: list[str]) -> list[str]:
    """What the verbs of that checkout print, one after the other in one process; all must succeed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "REELHOUSE_STORAGE__ROOT": config.storage.root,
        "REELHOUSE_KAFKA__BOOTSTRAP_SERVERS": config.kafka.bootstrap_servers,
    }
    command = [sys.executable, "-c", _VERBS, json.dumps(commands)]
    ran = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert [code for code, _ in told] == [0] * len(commands), ran.stderr
    return [text for _, text in told]


def reelhouse(checkout: Path, config: Config, *words: str) -> str:
    """What the verb of that checkout prints; it must succeed."""
    return reelhouse_all(checkout, config, list(words))[0]
