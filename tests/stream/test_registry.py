"""The schema registry, a real Apicurio: what is published is found by its id, and every failure says why."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from apicurio import PASSWORD, USER, Apicurio, apicurio, certificate
from embedded_broker import free_ports

from pipelines import config
from pipelines.contracts.load import contracts, event_types
from pipelines.contracts.publish import ENCODINGS, publish
from pipelines.errors import ReelhouseError
from pipelines.registry import KINDS, Registered, Registry

pytestmark = pytest.mark.stream

FILES = {"avro": "schema.avsc", "protobuf": "schema.proto", "json": "schema.json"}


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    with apicurio(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def secured_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    with apicurio(tmp_path_factory.mktemp("secured"), secured=True) as running:
        yield running


def client(url: str, **settings: object) -> Registry:
    return Registry.of(config.Registry.model_validate({"url": url, **settings}))


def failure(registry: Registry, schema_id: int = 1) -> ReelhouseError:
    with pytest.raises(ReelhouseError) as caught:
        registry.schema(schema_id)
    return caught.value


def topics(prefix: str) -> dict[str, str]:
    return {event_type: f"{prefix}.{event_type}" for event_type in event_types()}


def compare(registry: Apicurio, level: str, subject: str = "") -> None:
    """Set the rule by which the registry compares the versions of a subject, else of all."""
    path = f"{registry.url}/config/{subject}".rstrip("/")
    requests.put(path, json={"compatibility": level}, timeout=10).raise_for_status()


def compared(registry: Apicurio, subject: str) -> str:
    answer = requests.get(f"{registry.url}/config/{subject}", timeout=10)
    return str(answer.json()["compatibilityLevel"])


@pytest.fixture
def backward(open_registry: Apicurio) -> Iterator[Apicurio]:
    """The registry with Confluent's default; Apicurio's own compares nothing."""
    compare(open_registry, "BACKWARD")
    yield open_registry
    compare(open_registry, "NONE")


class Request(NamedTuple):
    path: str
    login: str
    body: bytes


@contextmanager
def answering(
    status: int, body: bytes, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Request]]]:
    """The address of a server that answers every request so, and the requests that it was sent."""
    requested: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requested.append(Request(self.path, self.headers.get("Authorization", ""), sent))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (the library's name)

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", requested
        finally:
            server.shutdown()


def test_what_is_published_is_found_by_its_id_and_publishing_again_changes_nothing(
    open_registry: Apicurio,
) -> None:
    registry = client(open_registry.url)
    first = publish(registry, topics("found"))
    assert len(first) == len({one.schema_id for one in first})
    wanted = [(e, v, n) for e in event_types() for n in ENCODINGS for v in contracts(e)]
    assert [(one.event_type, one.version, one.encoding) for one in first] == wanted
    for one in first:
        text = (contracts(one.event_type)[one.version].folder / FILES[one.encoding]).read_text()
        assert registry.schema(one.schema_id) == Registered(one.encoding.upper(), text)

    assert publish(registry, topics("found")) == first
    versions = requests.get(f"{open_registry.url}/subjects/found.user-action-value/versions", timeout=10)
    assert versions.json() == list(contracts("user-action"))


def test_a_subject_holds_one_kind_of_schema(open_registry: Apicurio) -> None:
    found = publish(client(open_registry.url), {"user-action": "plays"}, ["json", "avro", "protobuf"])
    assert {(one.encoding, one.subject) for one in found} == {
        ("avro", "plays-value"),
        ("protobuf", "plays-value-protobuf"),
        ("json", "plays-value-json"),
    }


def test_every_version_is_published_where_the_registry_compares_them(open_registry: Apicurio) -> None:
    registry = client(open_registry.url)
    subjects = {
        "AVRO": "compared-value",
        "PROTOBUF": "compared-value-protobuf",
        "JSON": "compared-value-json",
    }
    oldest = contracts("user-action")[1]
    for encoding, file in FILES.items():
        kind = encoding.upper()
        registry.register(subjects[kind], kind, (oldest.folder / file).read_text())
        compare(open_registry, "BACKWARD", subjects[kind])
    first = publish(registry, {"user-action": "compared"})
    assert publish(registry, {"user-action": "compared"}) == first
    # Only JSON's, whose rules let no object gain a field.
    levels = {kind: compared(open_registry, subject) for kind, subject in subjects.items()}
    assert levels == {"AVRO": "BACKWARD", "PROTOBUF": "BACKWARD", "JSON": "NONE"}


def test_a_registry_that_compares_all_the_same_is_told(backward: Apicurio) -> None:
    # Apicurio keeps the rule for all over NONE for a subject; Confluent does not.
    registry = client(backward.url)
    assert len(publish(registry, topics("strict"), ["avro", "protobuf"])) == 2 * sum(
        len(contracts(e)) for e in event_types()
    )
    with pytest.raises(ReelhouseError) as caught:
        publish(registry, topics("strict"), ["json"])
    assert caught.value.code == "schema_refused"
    assert "set compatibility NONE there" in str(caught.value)


def test_a_schema_that_breaks_readers_is_refused(open_registry: Apicurio) -> None:
    registry = client(open_registry.url)
    other = {"type": "record", "name": "UserAction", "namespace": "reelhouse.media", "fields": []}
    registry.register("refused-value", "AVRO", json.dumps(other))
    compare(open_registry, "BACKWARD", "refused-value")
    with pytest.raises(ReelhouseError) as caught:
        publish(registry, {"user-action": "refused"}, ["avro"])
    assert caught.value.code == "schema_refused"
    assert "refuses the AVRO schema for refused-value (HTTP 409: " in str(caught.value)
    assert compared(open_registry, "refused-value") == "BACKWARD"


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_schema_is_refused(open_registry: Apicurio, kind: str) -> None:
    with pytest.raises(ReelhouseError) as caught:
        client(open_registry.url).register("broken", kind, "{ no schema")
    assert caught.value.code == "schema_refused"


# Beyond four bytes with a sign there are no ids, and a registry would say that there is no such page.
@pytest.mark.parametrize("schema_id", [0, 987_654, 2**31 - 1, 2**31, 2**32 - 1, -1])
def test_an_id_that_was_never_given_is_unknown(open_registry: Apicurio, schema_id: int) -> None:
    error = failure(client(open_registry.url), schema_id)
    assert error.code == "unknown_schema_id"
    assert str(schema_id) in str(error)


def test_an_id_beyond_those_of_registries_is_not_asked_for() -> None:
    with answering(200, b"{}") as (url, requested):
        assert failure(client(url), 2**31).code == "unknown_schema_id"
    assert requested == []


def test_an_address_without_the_api_is_not_taken_for_an_unknown_id(open_registry: Apicurio) -> None:
    error = failure(client(open_registry.url.removesuffix("/ccompat/v7")))
    assert error.code == "registry_unavailable"
    assert "correct registry.url" in str(error)


def test_a_slash_after_the_address_does_no_harm(open_registry: Apicurio) -> None:
    number = client(open_registry.url).register("slash", "AVRO", '"string"')
    assert client(open_registry.url + "/").schema(number) == Registered("AVRO", '"string"')


def test_a_registry_that_is_down_is_told_and_its_ids_are_back_with_it(tmp_path: Path) -> None:
    with apicurio(tmp_path) as running:
        registry = client(running.url)
        number = registry.register("kept", "AVRO", '"long"')
        running.stop()
        error = failure(registry, number)
        assert error.code == "registry_unavailable"
        assert "connection refused" in str(error)
        assert "start it, or correct registry.url" in str(error)
        running.start()
        assert registry.schema(number).text == '"long"'
        assert registry.register("kept", "AVRO", '"long"') == number


def test_with_its_authority_and_the_password_a_secured_registry_serves(secured_registry: Apicurio) -> None:
    login = {"username": USER, "password": PASSWORD}
    registry = client(secured_registry.url, ca_file=str(secured_registry.ca_file), **login)
    found = publish(registry, {"system-event": "secured"})
    assert {registry.schema(one.schema_id).kind for one in found} == set(KINDS)


@pytest.mark.parametrize(
    ("login", "who"),
    [
        ({"username": USER, "password": "wrong"}, f"the user {USER}"),
        ({"username": USER}, f"the user {USER}"),
        ({}, "a request without a user"),
    ],
)
def test_a_wrong_login_names_the_keys(secured_registry: Apicurio, login: dict[str, str], who: str) -> None:
    error = failure(client(secured_registry.url, ca_file=str(secured_registry.ca_file), **login))
    assert error.code == "registry_unavailable"
    assert f"refuses {who} (HTTP 401); correct registry.username and registry.password" in str(error)


@pytest.mark.parametrize("made", [False, True])
def test_without_its_authority_there_is_no_tls(
    secured_registry: Apicurio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    # What the environment trusts does not stand in for a file that is named.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secured_registry.ca_file) if made else "")
    other = str(certificate(tmp_path, "other")) if made else None
    error = failure(client(secured_registry.url, username=USER, password=PASSWORD, ca_file=other))
    assert error.code == "registry_unavailable"
    assert "certificate" in str(error)
    assert "registry.ca_file" in str(error)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_a_file_that_is_missing_is_named(secured_registry: Apicurio, tmp_path: Path, key: str) -> None:
    missing = str(tmp_path / "missing.pem")
    error = failure(client(secured_registry.url, **{key: missing}))
    assert error.code == "registry_unavailable"
    assert missing in str(error)
    assert f"registry.{key}" in str(error)


def test_a_client_certificate_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    server, own = certificate(tmp_path, "server"), certificate(tmp_path, "client")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server, server.with_suffix(".key"))
    tls.load_verify_locations(own)
    tls.verify_mode = ssl.CERT_REQUIRED
    both = tmp_path / "both.pem"
    both.write_text(own.read_text() + own.with_suffix(".key").read_text())
    with answering(200, b'{"schema": "\\"int\\""}', tls) as (url, _):
        trusted = {"ca_file": str(server)}
        pair = {"cert_file": str(own), "key_file": str(own.with_suffix(".key"))}
        assert client(url, **trusted, **pair).schema(1) == Registered("AVRO", '"int"')
        assert client(url, **trusted, cert_file=str(both)).schema(1) == Registered("AVRO", '"int"')
        error = failure(client(url, **trusted))
    assert error.code == "registry_unavailable"
    assert "registry.cert_file" in str(error)


def test_a_registry_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        error = failure(client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3))
    assert time.monotonic() - started < 3
    assert error.code == "registry_unavailable"
    assert "no answer within 0.3 s" in str(error)


def test_a_connection_that_breaks_off_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        error = failure(client(f"http://127.0.0.1:{server.getsockname()[1]}"))
    assert error.code == "registry_unavailable"
    assert "(the connection broke off); look into its log" in str(error)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>log in</html>", "does not answer as a Confluent-compatible schema registry (HTTP 200)"),
        (200, b"[]", "does not answer as"),
        (200, b'{"schema": 1}', "does not answer as"),
        (200, b'{"schema": "\\xff', "does not answer as"),
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}', "(HTTP 404: HTTP 404 Not Found)"),
        (500, b'{"error_code": 50001, "message": "the store\\nis gone"}', "(HTTP 500: the store is gone)"),
        (502, b"<html>", "fails (HTTP 502); look into its log"),
        (403, b"", "refuses a request without a user (HTTP 403)"),
    ],
)
def test_an_answer_that_is_no_schema_is_told(status: int, body: bytes, told: str) -> None:
    with answering(status, body) as (url, _):
        error = failure(client(url))
    assert error.code == "registry_unavailable"
    assert told in str(error)
    assert "\n" not in str(error)


def test_a_schema_of_another_kind_is_unknown() -> None:
    with answering(200, b'{"schema": "<xs:schema/>", "schemaType": "XSD"}') as (url, _):
        error = failure(client(url))
    assert error.code == "unknown_schema_id"
    assert "of the type XSD" in str(error)


def test_a_login_may_have_any_letters() -> None:
    with answering(200, b'{"schema": "1"}') as (url, requested):
        client(url, username="żółw", password="pässword").schema(1)
    assert requested[0].login == f"Basic {base64.b64encode('żółw:pässword'.encode()).decode()}"


def test_a_schema_is_registered_with_its_kind() -> None:
    # Apicurio would guess it; Confluent takes what has no kind for Avro.
    with answering(200, b'{"id": 7}') as (url, requested):
        assert client(url).register("plays/value", "JSON", "{}") == 7
    assert requested[0].path == "/subjects/plays%2Fvalue/versions"
    assert json.loads(requested[0].body) == {"schemaType": "JSON", "schema": "{}"}


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://[::1", "http://127.0.0.1:x"]
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    error = failure(client(url))
    assert error.code == "registry_unavailable"
    assert "no http or https address" in str(error)


def test_a_login_in_the_address_is_not_told() -> None:
    error = failure(client(f"http://reader:secret@127.0.0.1:{free_ports(1)[0]}/x"))
    assert "secret" not in str(error)
    assert "127.0.0.1" in str(error)


def test_without_an_address_there_is_no_registry() -> None:
    with pytest.raises(ReelhouseError) as caught:
        Registry.of(config.Registry())
    assert caught.value.code == "registry_not_set"
    assert "REELHOUSE_REGISTRY__URL" in str(caught.value)


def test_an_encoding_that_does_not_exist_is_refused_before_anything_is_registered() -> None:
    with pytest.raises(ReelhouseError) as caught:
        publish(client(f"http://127.0.0.1:{free_ports(1)[0]}"), {"user-action": "x"}, ["avro", "xml"])
    assert caught.value.code == "unknown_encoding"
    assert "avro, protobuf, json" in str(caught.value)
