"""The schema registry: a small client of Confluent's API, which Apicurio, Karapace and Redpanda serve too."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from requests.auth import HTTPBasicAuth

from pipelines import config
from pipelines.errors import ReelhouseError, UsageError

KINDS = ("AVRO", "PROTOBUF", "JSON")
"""The kinds of schemas, as the registry names them."""
_LARGEST_ID = 2**31 - 1
# With the status 404. Other 404s come from an address that is none of a registry.
_SCHEMA_NOT_FOUND = 40403
_START = "start it, or correct registry.url"
_CORRECT_TLS = "correct registry.url, registry.ca_file, registry.cert_file and registry.key_file"
_HEADERS = {
    "Accept": "application/vnd.schemaregistry.v1+json, application/json",
    "Content-Type": "application/vnd.schemaregistry.v1+json",
}


class SchemaRefusedError(ReelhouseError):
    """The registry does not accept a schema: it is broken, or incompatible with the subject's others."""

    def __init__(self, message: str, *, incompatible: bool) -> None:
        super().__init__(message, code="schema_refused")
        self.incompatible = incompatible


@dataclass(frozen=True)
class Registered:
    """A schema as the registry has it."""

    kind: str
    """One of KINDS."""
    text: str
    """As it was registered, or as the registry writes it; of Protobuf perhaps a descriptor in base64."""


@dataclass(frozen=True)
class Registry:
    """A registry's address and how to get in. It keeps no connection: an id is asked for once or so."""

    settings: config.Registry

    @classmethod
    def of(cls, settings: config.Registry) -> Registry:
        """Asks nothing yet. Raises UsageError (`registry_not_set`) when there is no address."""
        if settings.url is None:
            message = "there is no schema registry; set registry.url or REELHOUSE_REGISTRY__URL"
            raise UsageError(message, code="registry_not_set")
        return cls(settings)

    def schema(self, schema_id: int) -> Registered:
        """The schema of an id. Raises ReelhouseError (`unknown_schema_id`, `registry_unavailable`)."""
        # Ids are Java's int; a registry that is asked for another says only that there is no such page.
        if not 0 <= schema_id <= _LARGEST_ID:
            raise _unknown(f"{schema_id} is no id of a schema registry; correct the producer")
        status, answer = self._ask("GET", f"/schemas/ids/{schema_id}")
        if status == 404 and answer.get("error_code") == _SCHEMA_NOT_FOUND:
            message = f"the schema registry {self._name} has no schema {schema_id}; register it, or correct"
            raise _unknown(f"{message} the producer")
        # Confluent leaves the type out for Avro.
        kind, text = answer.get("schemaType") or "AVRO", answer.get("schema")
        if status != 200 or not isinstance(text, str):
            raise self._unexpected(status, answer)
        if kind not in KINDS:
            message = f"schema {schema_id} of the schema registry {self._name} is of the type {kind}"
            raise _unknown(f"{message}; use one of {', '.join(KINDS)}")
        return Registered(kind, text)

    def register(self, subject: str, kind: str, text: str) -> int:
        """The id of a schema (`kind` of KINDS), registered under the subject unless it is there already.

        Raises SchemaRefusedError, or ReelhouseError (`registry_unavailable`).
        """
        body = {"schemaType": kind, "schema": text}
        status, answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
        if status in (409, 422):
            incompatible = status == 409
            message = f"the schema registry {self._name} refuses the {kind} schema for {subject}"
            fix = "correct it" + (", or set compatibility NONE there" if incompatible else "")
            raise SchemaRefusedError(f"{message} ({_said(status, answer)}); {fix}", incompatible=incompatible)
        found = answer.get("id")
        if status != 200 or not isinstance(found, int):
            raise self._unexpected(status, answer)
        return found

    def accept_any(self, subject: str) -> None:
        """Have the registry compare the subject's versions no more.

        Raises ReelhouseError (`registry_unavailable`).
        """
        body = {"compatibility": "NONE"}
        status, answer = self._ask("PUT", f"/config/{quote(subject, safe='')}", body)
        if status != 200:
            raise self._unexpected(status, answer)

    @property
    def _name(self) -> str:
        """The address without a login."""
        return re.sub(r"//[^/@]*@", "//", self.settings.url or "")

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON object (else empty) of an answer. Raises ReelhouseError for none."""
        url, told = (self.settings.url or "").rstrip("/") + path, self.settings
        # Bytes, since requests writes text in Latin-1, which has not every letter.
        user, password = (told.username or "").encode(), (told.password or "").encode()
        login = None if told.username is None else HTTPBasicAuth(user, password)
        cert = (told.cert_file, told.key_file) if told.cert_file and told.key_file else told.cert_file
        try:
            response = requests.request(
                method,
                url,
                json=body,
                headers=_HEADERS,
                auth=login,
                # Said here and not by a session, over which the environment's REQUESTS_CA_BUNDLE would win.
                verify=told.ca_file or True,
                cert=cert,
                timeout=told.timeout_seconds,
            )
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            raise self._unreachable(error) from error
        if response.status_code in (401, 403):
            raise self._not_let_in(response.status_code)
        return response.status_code, _object(response)

    def _not_let_in(self, status: int) -> ReelhouseError:
        user = self.settings.username
        who = "a request without a user" if user is None else f"the user {user}"
        message = f"the schema registry {self._name} refuses {who} (HTTP {status}); correct registry.username"
        return _unavailable(f"{message} and registry.password, or allow that user there")

    def _unexpected(self, status: int, answer: dict[str, Any]) -> ReelhouseError:
        said = _said(status, answer)
        if status >= 500 or status == 429:
            message = f"the schema registry {self._name} fails ({said}); look into its log"
        else:
            message = (
                f"{self._name} does not answer as a Confluent-compatible schema registry ({said}); correct "
                "registry.url, for Apicurio it ends with /apis/ccompat/v7"
            )
        return _unavailable(message)

    def _unreachable(self, error: Exception) -> ReelhouseError:
        reason, fix = self._why(error)
        return _unavailable(f"no schema registry answers at {self._name} ({reason}); {fix}")

    def _why(self, error: Exception) -> tuple[str, str]:
        """Why there is no answer, and what to do."""
        if isinstance(error, requests.Timeout):
            return f"no answer within {self.settings.timeout_seconds:g} s", _START
        if isinstance(error, ValueError):
            return "that is no http or https address", "correct registry.url"
        causes = list(_causes(error))
        if not isinstance(error, requests.RequestException):
            return str(error), _CORRECT_TLS  # a file for TLS that is missing
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                return _tls_reason(cause), _CORRECT_TLS
        if any(isinstance(cause, ConnectionResetError | BrokenPipeError) for cause in causes):
            # So ends TLS, too, with a server that misses the client's certificate.
            tls = f", or {_CORRECT_TLS}" if self._name.startswith("https:") else ""
            return "the connection broke off", f"look into its log{tls}"
        spoken = [e.strerror for e in causes if isinstance(e, OSError) and e.strerror]
        return (spoken[-1].lower() if spoken else "no connection"), _START


def _unknown(message: str) -> ReelhouseError:
    """The registry answered, and has no schema of this id that we can read."""
    return ReelhouseError(message, code="unknown_schema_id")


def _unavailable(message: str) -> ReelhouseError:
    """The registry does not answer, does not let us in, or is none: the id may exist all the same."""
    return ReelhouseError(message, code="registry_unavailable")


def _object(response: requests.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _said(status: int, answer: dict[str, Any]) -> str:
    """What an answer says of itself, on one line."""
    message = " ".join(str(answer.get("message", "")).split())[:300]
    return f"HTTP {status}: {message}" if message else f"HTTP {status}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, outermost first: chained, or carried as an argument."""
    yield error
    for inner in (error.__cause__ or error.__context__, *error.args):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    # Without the place in the library's source.
    return (error.reason or str(error).partition(" (_ssl")[0]).lower().replace("_", " ")
