"""Writes events in the contracts' encodings, plain or in Confluent's wire format: for `reelhouse produce`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import cycle

from pipelines.contracts import avro, protobuf
from pipelines.contracts.load import Contract, contracts
from pipelines.contracts.reading import told_version
from pipelines.contracts.schema_ids import MAGIC, PREFIX_BYTES
from pipelines.event_files import Record

SchemaNumbers = Mapping[tuple[str, int, str], int]
"""The registry's id by event type, version and encoding."""
_FIRST_MESSAGE = b"\0"


class Encoder:
    """Encodes records whose values are JSON; several encodings take turns."""

    def __init__(
        self, encodings: tuple[str, ...], types: Mapping[str, str], numbers: SchemaNumbers | None
    ) -> None:
        """`types`: event types by topic. With `numbers` in Confluent's wire format, else told by headers."""
        self._turns, self._types, self._numbers = cycle(encodings), types, numbers
        self.left = 0
        """Records that no contract can write, left as they were (count)."""

    def __call__(self, record: Record) -> Record:
        """The record in the next encoding."""
        encoding = next(self._turns)
        if encoding == "json" and self._numbers is None:
            return record
        try:
            return self._encoded(record, encoding)
        except (ValueError, RecursionError):
            self.left += 1
            return record

    def _encoded(self, record: Record, encoding: str) -> Record:
        event = json.loads(record.value or b"")
        if not isinstance(event, dict):
            raise ValueError("no event")
        headers = dict(record.headers or ())
        contract = self._contract(record.topic, event, headers)
        if encoding == "json":
            value = record.value or b""
        else:
            value = {"avro": avro.write, "protobuf": protobuf.write}[encoding](event, contract)
        if self._numbers is None:
            headers["content-type"] = f"application/{encoding}".encode()
            headers["schema-version"] = str(contract.version).encode()
        else:
            number = self._numbers[contract.event_type, contract.version, encoding]
            place = _FIRST_MESSAGE if encoding == "protobuf" else b""
            value = bytes([MAGIC]) + number.to_bytes(PREFIX_BYTES - 1, "big") + place + value
        return record._replace(value=value, headers=list(headers.items()))

    def _contract(self, topic: str, event: dict[str, object], headers: Mapping[str, bytes]) -> Contract:
        header = headers.get("schema-version")
        version = told_version(event, None if header is None else header.decode(errors="replace"))
        found = contracts(self._types.get(topic, "")).get(version or 0)
        if found is None:
            raise ValueError("no contract")
        return found
