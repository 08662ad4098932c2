"""What systemd is told: ready when every listener is bound, alive while all serve, stopping."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.console.health import SILENT_S, Counts, Health
from broker.store import selftest
from broker.store.metrics import Snapshot
from broker.supervising.service_manager import ServiceManager, illness
from tests.doors.actors import CONFIG, Broker, until


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service manager reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0.05)
        yield listening


def words(told: socket.socket) -> list[str]:
    """What has been said since it was asked last."""
    found: list[str] = []
    with suppress(TimeoutError):
        while True:
            found += told.recv(4096).decode().split("\n")
    return found


@pytest.mark.peer("redis-server")
def test_systemd_is_told_of_ready_alive_ill_and_stopping(told, tmp_path):
    broker = Broker()
    try:
        broker.launch(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="900000").ready()
        heard: list[str] = []
        until(lambda: heard.extend(words(told)) or heard.count("WATCHDOG=1") >= 3)
        assert heard[0] == "READY=1"
        assert not any("NOTIFY_SOCKET" in environ(pid) for pid in broker.children())

        (redis,) = broker.children("redis-server")
        os.kill(redis, signal.SIGSTOP)
        until(lambda: any("the store does not answer" in each for each in words(told)))
        assert "WATCHDOG=1" not in words(told)
        os.kill(redis, signal.SIGCONT)
        until(lambda: "WATCHDOG=1" in words(told))

        assert broker.stop() == 0
        assert "STOPPING=1" in words(told)
    finally:
        broker.end()


@pytest.mark.peer("redis-server")
def test_systemd_is_told_of_a_self_test_that_held_and_fails_again_and_again(told, tmp_path):
    """A door that hangs is found by it long before half a minute of silence."""
    broker = Broker(f"{CONFIG}selftest: {{every: 1s, deadline: 1s, restart_after: 2}}\n")
    told_to = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"}
    try:
        broker.launch(**told_to).ready()
        until(lambda: (last := broker.store.run(selftest.last())) and last.ok, "one that holds")
        hanging = broker.children("modality")
        for pid in hanging:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: any("the self-test failed 2 times" in each for each in words(told)))
        assert "WATCHDOG=1" not in words(told)
        for pid in hanging:
            os.kill(pid, signal.SIGCONT)
        until(lambda: "WATCHDOG=1" in words(told))
        assert broker.stop() == 0
    finally:
        broker.end()


def environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_manager_that_has_gone_ends_nobody(tmp_path):
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


def test_an_abstract_socket_is_told_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"broker-test-{os.getpid()}"
        listening.bind(f"\0{name}")
        variables = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
        manager = ServiceManager(variables)
        manager.tell("READY=1", "STATUS=serving")
        assert listening.recv(100) == b"READY=1\nSTATUS=serving"
        assert variables == {}
        assert manager.watchdog_s == 0  # it is another process that shall feed


COUNTS = Counts(0, 0, 0, 0, 0, {}, 0, {}, {}, {})
NOW = time.time()


@pytest.mark.parametrize(
    ("health", "embedded", "said"),
    [
        (Health(NOW, "", COUNTS, {"orders:0@h": Snapshot(NOW, ())}), True, ""),
        (Health(NOW, "", COUNTS, {"orders:0@h": Snapshot(NOW - SILENT_S, ())}), True, "silent: "),
        (Health(NOW, "", COUNTS, {}), False, "silent: orders:0@h"),
        (
            Health(NOW, "the disk is nearly full", COUNTS, {"orders:0@h": Snapshot(NOW, ())}),
            True,
            "",
        ),
        (Health(NOW, "TimeoutError"), True, "the store does not answer: TimeoutError"),
        (Health(NOW, "BusyLoadingError: Redis is Loading the dataset"), True, ""),
        (Health(NOW, "TimeoutError"), False, ""),
    ],
    ids=["well", "hangs", "never heard", "full", "store hangs", "store loads", "store of others"],
)
def test_only_what_a_new_start_can_mend_is_an_illness(health, embedded, said):
    found = illness(health, ["orders:0@h"], embedded=embedded)
    assert found.startswith(said) if said else found == ""
