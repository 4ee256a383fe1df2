"""A PostgreSQL of the tests' own: a cluster in a temporary folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from embedded_broker import free_ports

USER, PASSWORD = "reelhouse", "open sesame"


def _programs() -> Path:
    """The folder of its programs; installs the package when it is missing."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(["apt-get", "-q", *step], check=True, capture_output=True, env=quiet)
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))


@dataclass
class Postgres:
    """One cluster; its data stays over `stop` and `start`."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def url(self) -> str:
        """Of its one database, for JDBC."""
        return f"jdbc:postgresql://127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the cluster; only USER with PASSWORD may connect."""
        (self.folder / "password").write_text(PASSWORD)
        self._run(
            "initdb", "-U", USER, "--pwfile", str(self.folder / "password"), "-A", "scram-sha-256", "-N"
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """End it, and wait for that."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_programs() / program), "-D", str(self.folder / "data"), *arguments]
        if os.geteuid() == 0:  # which it refuses to run as
            shutil.chown(self.folder, "postgres")
            command = ["runuser", "-u", "postgres", "--", *command]
        # Not captured: the server would keep the pipe open.
        with (self.folder / "programs.log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=self.folder)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that runs; its folder is not pytest's, into which another user may not go."""
    _programs()  # makes the user as well
    with tempfile.TemporaryDirectory(prefix="reelhouse-postgres-") as folder:
        server = Postgres(Path(folder))
        server.create()
        server.start()
        try:
            yield server
        finally:
            if (server.folder / "data" / "postmaster.pid").exists():
                server.stop()
