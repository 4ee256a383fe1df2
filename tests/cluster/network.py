"""Machines of a test's cluster: network namespaces on a bridge where the system allows it, else loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NAMES = ("master", "worker-0", "worker-1")


@dataclass(frozen=True)
class Machine:
    """An address, and what a command begins with to run there."""

    address: str
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """The machines by name; `driver` is this one, as the others see it."""

    driver: Machine
    machines: dict[str, Machine]

    @property
    def is_apart(self) -> bool:
        """Whether each machine is a network namespace of its own."""
        return bool(self.machines["master"].prefix)


@contextlib.contextmanager
def network(broker_port: int, folder: Path) -> Iterator[Network]:
    """The machines. The broker's port on loopback, which is all that it listens on, is there on each."""
    tag = f"rh{os.getpid() % 100_000}"
    with contextlib.ExitStack() as stack:
        if not _may(tag):
            here = Machine("127.0.0.1")
            yield Network(here, dict.fromkeys(_NAMES, here))
            return
        subnet = f"10.213.{os.getpid() % 250}"
        driver = Machine(f"{subnet}.1")
        stack.callback(_ip, "link", "del", tag)
        _ip("addr", "add", f"{driver.address}/24", "dev", tag)
        _ip("link", "set", tag, "up")
        socket = folder / "broker.sock"
        stack.enter_context(_relay((), "to-port", socket, broker_port))
        machines = {}
        for place, name in enumerate(_NAMES):
            machines[name] = _join(stack, tag, place, subnet)
            stack.enter_context(_relay(machines[name].prefix, "to-socket", socket, broker_port))
        yield Network(driver, machines)


def _may(bridge: str) -> bool:
    """Make the bridge; False when the system does not let us make it and namespaces, or has no `ip`."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    try:
        _ip("netns", "add", bridge)
        _ip("netns", "del", bridge)
        _ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError:
        return False
    return True


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _join(stack: contextlib.ExitStack, bridge: str, place: int, subnet: str) -> Machine:
    """A namespace with a cable to the bridge."""
    name, cable, address = f"{bridge}-{place}", f"{bridge}v{place}", f"{subnet}.{10 + place}"
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("link", "set", cable, "master", bridge, "up")
    _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "link", "set", "lo", "up")
    return Machine(address, ("ip", "netns", "exec", name))


@contextlib.contextmanager
def _relay(prefix: tuple[str, ...], way: str, socket: Path, port: int) -> Iterator[None]:
    script = Path(__file__).parent / "relay.py"
    process = subprocess.Popen([*prefix, sys.executable, str(script), way, str(socket), str(port)])
    try:
        yield
    finally:
        process.kill()
        process.wait()
