"""A real Apicurio Registry for the tests: from the Maven repository, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from embedded_broker import free_ports

from pipelines.jars import _ivy_jar, _locked, cache_dir
from pipelines.java import require_java

VERSION = "3.0.9"
USER, PASSWORD = "publisher", "open sesame"
_API = "/apis/ccompat/v7"
_START_SECONDS = 120
# The parent of its POM is in no repository, so POMs are not read: there is one file to fetch.
_IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="central"/>
  <resolvers><ibiblio name="central" m2compatible="true" usepoms="false"/></resolvers>
</ivysettings>"""
_IVY_FILE = f"""<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">
  <info organisation="reelhouse" module="apicurio"/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
    <dependency org="io.apicurio" name="apicurio-registry-app" rev="{VERSION}" conf="default->*">
      <artifact name="apicurio-registry-app" type="tar.gz" ext="tar.gz" m:classifier="all"/>
    </dependency>
  </dependencies>
</ivy-module>"""


def apicurio_folder() -> Path:
    """The unpacked registry in the cache of the jars. Downloads it the first time."""
    folder = cache_dir() / f"apicurio-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / ".lock"):
        if not folder.is_dir():
            work = Path(tempfile.mkdtemp(prefix=".resolving-", dir=folder.parent))
            try:
                with tarfile.open(_download(work)) as packed:
                    packed.extractall(work / "unpacked", filter="data")
                # A rename is atomic: the folder exists only when it is complete.
                (work / "unpacked").rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return folder


def _download(work: Path) -> Path:
    (work / "ivy.xml").write_text(_IVY_FILE)
    (work / "settings.xml").write_text(_IVY_SETTINGS)
    settings = os.environ.get("REELHOUSE_IVY_SETTINGS", str(work / "settings.xml"))
    command = [require_java(), "-cp", str(_ivy_jar()), "org.apache.ivy.Main", "-settings", settings]
    command += ["-cache", str(work / "cache"), "-ivy", str(work / "ivy.xml"), "-confs", "default"]
    command += ["-retrieve", str(work / "[artifact].[ext]"), "-types", "tar.gz"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    packed = work / "apicurio-registry-app.tar.gz"
    assert packed.is_file(), f"Apicurio could not be downloaded:\n{(ran.stdout + ran.stderr)[-3000:]}"
    return packed


@dataclass
class Apicurio:
    """One registry; what it was told is in `folder`, so it survives `stop` and `start`."""

    folder: Path
    ca_file: Path | None
    """Set: it speaks only TLS with this certificate, and asks for USER and PASSWORD."""
    port: int = field(default_factory=lambda: free_ports(1)[0])
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The Confluent-compatible API."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}{_API}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "quarkus.http.host": "127.0.0.1",
            "apicurio.datasource.url": f"jdbc:h2:file:{self.folder / 'registry'}",
            **(self._secured() if self.ca_file else {"quarkus.http.port": self.port}),
        }
        jar = apicurio_folder() / f"apicurio-registry-app-{VERSION}-runner.jar"
        # Quick to start, for a life of seconds.
        command = [require_java(), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command += [f"-D{name}={value}" for name, value in options.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "apicurio.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-jar", str(jar)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait(self._process)

    def _secured(self) -> dict[str, object]:
        assert self.ca_file is not None
        return {
            "quarkus.http.insecure-requests": "disabled",
            "quarkus.http.ssl-port": self.port,
            "quarkus.http.ssl.certificate.files": self.ca_file,
            "quarkus.http.ssl.certificate.key-files": self.ca_file.with_suffix(".key"),
            "quarkus.http.auth.basic": "true",
            "quarkus.security.users.embedded.plain-text": "true",
            f"quarkus.security.users.embedded.users.{USER}": PASSWORD,
            f"quarkus.security.users.embedded.roles.{USER}": "sr-admin",
        }

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            log = (self.folder / "apicurio.log").read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"Apicurio ended with {process.returncode}:\n{log}"
            assert time.monotonic() < deadline, f"Apicurio does not answer at {self.url}:\n{log}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        ca_file = str(self.ca_file) if self.ca_file else None
        try:
            answer = requests.get(f"{self.url}/subjects", auth=(USER, PASSWORD), verify=ca_file, timeout=5)
            return answer.ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """End it, and wait for that; nothing when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def apicurio(folder: Path, *, secured: bool = False) -> Iterator[Apicurio]:
    """A registry that runs, with its data in `folder`; `secured`: by TLS and with a password only."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = Apicurio(folder, certificate(folder, "registry") if secured else None)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def certificate(folder: Path, name: str) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, `name.pem`, with its key in `name.key`."""
    path = folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(path.with_suffix(".key")), "-out", str(path), "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return path
