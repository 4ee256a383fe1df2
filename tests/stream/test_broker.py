"""The embedded broker: starts once, keeps its data through a crash, and says what is in its way."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_broker import broker_config, free_ports, read_all
from kafka.errors import KafkaConnectionError, RequestTimedOutError

from pipelines import broker, broker_files, kafka_failures
from pipelines.broker_files import BrokerFiles, Record
from pipelines.config import Config
from pipelines.errors import ReelhouseError
from pipelines.kafka_clients import admin, producer
from pipelines.topics import end_offsets, first_offsets

pytestmark = pytest.mark.stream


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    config = broker_config(tmp_path, partitions=3)
    yield config
    broker.stop(config)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        try:
            os.waitpid(pid, os.WNOHANG)
            os.kill(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return
        time.sleep(0.05)


def test_offsets_are_asked_of_the_topics_that_are_named_only(config: Config) -> None:
    """Another's topic, in a shared cluster, may have a partition that answers nobody."""
    broker.start(config)
    for asked in (end_offsets, first_offsets):
        assert asked(config, ["media.user-actions", "of.nobody"]) == {
            "media.user-actions": {0: 0, 1: 0, 2: 0}
        }
        assert asked(config, []) == {}


def test_it_starts_once_survives_a_kill_and_stops(config: Config) -> None:
    first = broker.start(config)
    assert (first.running, first.port, first.already_ran) == (True, config.broker.port, False)
    found = broker.status(config)
    assert (found.running, found.pid) == (True, first.pid)
    names = ("content-uploads", "notifications", "system-events", "user-actions")
    assert found.topics == {f"media.{name}": {0: 0, 1: 0, 2: 0} for name in names}

    second = broker.start(config)
    assert (second.pid, second.already_ran) == (first.pid, True)

    client = producer(config)
    client.send("media.user-actions", b"kept", partition=1).get(10)
    client.close()
    assert broker.status(config).topics["media.user-actions"] == {0: 0, 1: 1, 2: 0}

    kill(first.pid or 0)
    assert not broker.status(config).running
    third = broker.start(config)
    assert third.pid != first.pid
    assert [record.value for record in read_all(config, "media.user-actions")] == [b"kept"]

    assert broker.stop(config)
    assert not broker.status(config).running
    with pytest.raises(ProcessLookupError):
        os.kill(os.waitpid(third.pid or 0, 0)[0], 0)
    assert not broker.stop(config)


def test_it_outlives_the_command_that_started_it(config: Config) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "REELHOUSE_BROKER__DIR": config.broker.dir,
        "REELHOUSE_BROKER__PORT": "0",
        "REELHOUSE_BROKER__CONTROLLER_PORT": "0",
    }
    command = [sys.executable, "-m", "pipelines.cli.main", "broker"]
    shown = subprocess.run([*command, "start"], env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("the broker runs on 127.0.0.1:")
    chosen = broker.with_embedded_broker(config)
    assert chosen.kafka.bootstrap_servers in shown.stdout
    # The port was picked, so the configured address is another, and the command says so.
    assert chosen.kafka.bootstrap_servers in shown.stderr
    again = subprocess.run([*command, "start"], env=env, capture_output=True, text=True, check=True)
    assert again.stdout.startswith(f"the broker already runs on {chosen.kafka.bootstrap_servers}")
    status = subprocess.run([*command, "status"], env=env, capture_output=True, text=True, check=True)
    assert "media.user-actions" in status.stdout
    stopped = subprocess.run([*command, "stop"], env=env, capture_output=True, text=True, check=True)
    assert stopped.stdout == "the broker is stopped\n"


@pytest.mark.parametrize("key", ["port", "controller_port"])
def test_a_busy_port_is_named_with_its_key(config: Config, key: str) -> None:
    port = getattr(config.broker, key)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(ReelhouseError) as caught:
            broker.start(config)
    assert caught.value.code == "port_busy"
    assert str(caught.value).startswith(f"port {port} (broker.{key}) is in use by another program")
    assert f"REELHOUSE_BROKER__{key.upper()}" in str(caught.value)


def test_stop_leaves_another_program_that_has_the_recorded_pid(config: Config) -> None:
    files = BrokerFiles.of(config)
    other = subprocess.Popen(["sleep", "60"])
    try:
        with files.locked():
            files.write_record(Record(other.pid, config.broker.port, config.broker.controller_port))
        assert not broker.status(config).running
        assert not broker.stop(config)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_broker_that_cannot_start_says_why(config: Config) -> None:
    data = BrokerFiles.of(config).data
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=2\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\n")
    with pytest.raises(ReelhouseError) as caught:
        broker.start(config)
    assert caught.value.code == "broker_failed"
    assert "Stored node id 2" in str(caught.value)
    assert "broker.log" in str(caught.value)


@pytest.mark.parametrize("name", ["zürich 東京 🎬", "a\\b c=d"])
def test_it_runs_in_a_folder_of_any_letters(tmp_path: Path, name: str) -> None:
    config = broker_config(tmp_path / name, partitions=1)
    try:
        assert broker.start(config).running
        assert broker.status(config).running
        assert BrokerFiles.of(config).formatted()
    finally:
        broker.stop(config)


def test_a_folder_with_a_comma_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReelhouseError) as caught:
        broker.start(broker_config(tmp_path / "a,b"))
    assert caught.value.code == "broker_dir"
    assert "set broker.dir to another" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("a file where the folder belongs")
    with pytest.raises(ReelhouseError) as caught:
        broker.start(config)
    assert caught.value.code == "broker_dir_unwritable"
    assert "set broker.dir" in str(caught.value)


# A listener that asks for a password, beside the one without.
_SASL = """
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}},SASL_PLAINTEXT://127.0.0.1:{sasl}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SASL_PLAINTEXT://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required user_alice="right";
"""
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


def with_options(config: Config, port: int, **options: str) -> Config:
    named = {name.replace("_", "."): value for name, value in options.items()}
    changed = {"bootstrap_servers": f"127.0.0.1:{port}", "options": named}
    return config.model_copy(update={"kafka": config.kafka.model_copy(update=changed)})


def test_who_is_denied_is_told_why(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    more = _SASL.format(sasl=port, module=_PLAIN)
    monkeypatch.setattr(broker_files, "_PROPERTIES", broker_files._PROPERTIES + more)
    broker.start(config)
    alice = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "alice"}
    admin(with_options(config, port, **alice, sasl_password="right")).close()

    def refusal(port: int, **options: str) -> ReelhouseError:
        with pytest.raises(ReelhouseError) as caught:
            admin(with_options(config, port, **options), bootstrap_timeout_ms=1500)
        return caught.value

    wrong = refusal(port, **alice, sasl_password="wrong")
    assert wrong.code == "kafka_denied"
    assert "(Authentication failed: Invalid username or password)" in str(wrong)
    assert "correct kafka.options" in str(wrong)
    another = {**alice, "sasl_mechanism": "SCRAM-SHA-256", "sasl_password": "right"}
    assert refusal(port, **another).code == "kafka_denied"
    assert refusal(config.broker.port, **alice, sasl_password="right").code == "kafka_denied"
    # It hangs up on who says nothing of a password, as a broker that is stopping does.
    silent = refusal(port)
    assert silent.code == "broker_unreachable"
    assert "(socket disconnected)" in str(silent)
    assert "correct kafka.options" in str(silent)


def test_an_attempt_that_the_end_of_the_time_cut_off_is_not_the_reason() -> None:
    log = logging.getLogger("kafka.net.connection")
    with kafka_failures.Failures() as failures:
        log.error("closing: %s", KafkaConnectionError("socket disconnected"))
        log.error("closing: %s", RequestTimedOutError("Request timed out after 11 ms"))
    assert "socket disconnected" in str(failures.reason)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_a_broker_that_takes_connections_and_does_not_answer_yet_may_be_waited_for(
    config: Config, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setattr(kafka_failures, "HANDSHAKE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ReelhouseError) as caught:
            admin(with_options(config, port, security_protocol=protocol), bootstrap_timeout_ms=500)
    assert caught.value.code == "broker_unreachable"
    assert f"127.0.0.1:{port} takes connections" in str(caught.value)
