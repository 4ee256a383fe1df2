"""The lake in an object storage: the truth comes out, one writer, and credentials that fail lose nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from embedded_broker import broker_config
from lake_rows import assert_gold_is
from object_storage import BUCKET, ObjectStorage, object_storage

from pipelines import broker
from pipelines.config import Config
from pipelines.engine.lake import Lake
from pipelines.produce import produce
from pipelines.simulate.write import write_simulation

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stream
_WAIT_SECONDS = 400
_HOLDER = """
import json, sys, time
from pipelines.config import load_config
from pipelines.engine.locks import only_writer
from pipelines.engine.lake import Lake
from pipelines.engine.lease import _Lease
from pipelines.errors import ReelhouseError
from pipelines.session import open_session

config = load_config(sys.argv[1])
lake = Lake.of(open_session(config, "lease"), config)
one, other = _Lease(lake, "silver", "one"), _Lease(lake, "silver", "other")
won = [one._put(None), other._put(None), other._put(one._etag), one._put(one._etag)]
known = other._etag
other._put(known)
other._etag = known  # as if the answer had been lost
won.append(other._put(known))
with only_writer(lake, ["gold"]):
    try:
        with only_writer(lake, ["gold"]):
            pass
    except ReelhouseError as error:
        print(json.dumps({"won": won, "code": error.code}), flush=True)
    time.sleep(300)
"""


@dataclass
class OnObjectStorage:
    """A broker, and a lake on an object storage."""

    config: Config
    storage: ObjectStorage
    folder: Path
    conf: Path

    def publish(self, part: int, parts: int) -> None:
        """One part of the simulation."""
        lines = (self.folder / "events.ndjson").read_text().splitlines(keepends=True)
        chosen = lines[len(lines) * part // parts : len(lines) * (part + 1) // parts]
        (self.folder / "part.ndjson").write_text("".join(chosen))
        produce(self.config, [self.folder / "part.ndjson"])

    def start(self, key: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli.main", "--conf", str(self.conf), *arguments]
        return subprocess.Popen(
            command, env=os.environ | key, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def reelhouse(self, key: dict[str, str], *arguments: str) -> tuple[int, str, str]:
        process = self.start(key, *arguments)
        out, err = process.communicate(timeout=_WAIT_SECONDS)
        return process.returncode, out, err

    def wait_for(self, prefix: str) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self.storage.names(prefix):
            assert time.monotonic() < deadline, f"there is no {prefix}"
            time.sleep(1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[OnObjectStorage]:
    """The lake's place; the broker is not started."""
    config = broker_config(tmp_path, partitions=1)
    with object_storage(tmp_path) as storage:
        conf = tmp_path / "conf.toml"
        conf.write_text(
            f'[storage]\nroot = "s3a://{BUCKET}/lake"\n'
            f'[kafka]\nbootstrap_servers = "{config.kafka.bootstrap_servers}"\n'
            "[stream]\nrules_minutes = 0\n[spark.conf]\n"
            f'"spark.hadoop.fs.s3a.endpoint" = "{storage.url}"\n'
            '"spark.hadoop.fs.s3a.endpoint.region" = "us-east-1"\n'
            '"spark.hadoop.fs.s3a.path.style.access" = "true"\n'
        )
        yield OnObjectStorage(config, storage, tmp_path, conf)


@pytest.fixture
def lake(place: OnObjectStorage) -> Iterator[OnObjectStorage]:
    write_simulation(place.folder, users=5, days=1, seed=3)
    broker.start(place.config)
    try:
        yield place
    finally:
        broker.stop(place.config)


def test_the_truth_comes_out_through_a_second_writer_and_a_key_that_expires(
    lake: OnObjectStorage, spark: SparkSession
) -> None:
    key = lake.storage.new_key()
    lake.publish(0, 2)
    code, _, err = lake.reelhouse(key, "run", "--available-now")
    assert code == 0, err
    assert not lake.storage.names("lake/_locks/bronze.lease"), "the lease outlives its process"
    asked = (lake.folder / "moto.log").read_text()
    assert re.search(r"start-after=[^ ]*_delta_log", asked), "each look lists a log from its beginning"

    first = lake.start(key, "run")
    try:
        lake.wait_for("lake/_locks/gold.lease")
        code, _, err = lake.reelhouse(key, "run", "--available-now")
        assert code == 1
        assert f"another process writes the bronze layer already: process {first.pid} on" in err

        renewed = lake.storage.new_key()
        lake.publish(1, 2)
        _, err = first.communicate(timeout=_WAIT_SECONDS)
        assert first.returncode == 1
        assert "the object storage refuses access to s3a://" in err.strip().splitlines()[-1], err
    finally:
        first.kill()

    for verb in (["sql", "SELECT 1"], ["tables"], ["reconcile"]):
        code, _, err = lake.reelhouse(key, *verb)
        assert code == 1
        assert "the object storage refuses access to s3a://" in err.strip().splitlines()[-1], err
    code, _, err = lake.reelhouse(renewed, "run", "--available-now")
    assert code == 0, err
    assert f"process {first.pid} on" in err, "it has not waited for the lease of the first"
    code, out, err = lake.reelhouse(renewed, "reconcile")
    assert code == 0, out + err
    lake.storage.download("lake/", lake.folder / "copy")
    assert_gold_is(Lake(spark, str(lake.folder / "copy" / "lake")), lake.folder)


def test_of_two_writers_one_wins_and_who_cannot_renew_ends_itself(place: OnObjectStorage) -> None:
    environment = os.environ | place.storage.new_key()
    command = [sys.executable, "-c", _HOLDER, str(place.conf)]
    holder = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        told = json.loads(holder.stdout.readline() or "{}")
        # The second to take an absent one, and the one whose ETag is another's by then, lose; who finds its
        # own lease, renewed without its knowing, keeps it.
        assert told == {"won": [True, False, True, False, True], "code": "already_running"}
        place.storage.server.send_signal(signal.SIGSTOP)  # it answers no more
        _, err = holder.communicate(timeout=60)
    finally:
        place.storage.server.send_signal(signal.SIGCONT)
        holder.kill()
    assert holder.returncode == 1
    assert "the lease on the gold layer could not be renewed" in err.strip().splitlines()[-1]
