"""An object storage for the tests: moto's server, with users who may use it, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import requests
from embedded_broker import free_ports

BUCKET = "reelhouse"
_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True)
class ObjectStorage:
    """One server; what it holds ends with it."""

    url: str
    server: subprocess.Popen[bytes]

    def client(self, service: str) -> Any:
        """Amazon's client, with the administrator's credentials."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="administrator",
            aws_secret_access_key="administrator",
        )

    def new_key(self) -> dict[str, str]:
        """Another key of the one user, as environment variables; the former ones are valid no more."""
        self.ask_for_keys(False)
        iam = self.client("iam")
        for key in iam.list_access_keys(UserName=BUCKET)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=BUCKET, AccessKeyId=key["AccessKeyId"])
        key = iam.create_access_key(UserName=BUCKET)["AccessKey"]
        self.ask_for_keys(True)
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def ask_for_keys(self, wanted: bool) -> None:
        """Whether it refuses who has no valid key."""
        allowed = "0" if wanted else "1000000000"  # requests without a check
        requests.post(f"{self.url}/moto-api/reset-auth", data=allowed, timeout=10).raise_for_status()

    def names(self, prefix: str) -> list[str]:
        """Keys of the objects under a prefix, beside the check of keys."""
        self.ask_for_keys(False)
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        self.ask_for_keys(True)
        return found

    def download(self, prefix: str, folder: Path) -> None:
        """Copy the objects under a prefix into a folder."""
        names = self.names(prefix)
        self.ask_for_keys(False)
        for name in names:
            if not name.endswith("/"):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.client("s3").download_file(BUCKET, name, str(target))
        self.ask_for_keys(True)


@contextmanager
def object_storage(folder: Path) -> Iterator[ObjectStorage]:
    """A server with one bucket and one user."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": "1000000000"}
        )
    storage = ObjectStorage(f"http://127.0.0.1:{port}", server)
    try:
        _wait(storage.url, server)
        storage.client("s3").create_bucket(Bucket=BUCKET)
        iam = storage.client("iam")
        iam.create_user(UserName=BUCKET)
        iam.put_user_policy(UserName=BUCKET, PolicyName="all", PolicyDocument=json.dumps(_ALL))
        yield storage
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "moto's server has ended; see moto.log"
        try:
            requests.get(f"{url}/moto-api/", timeout=5).raise_for_status()
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.1)
