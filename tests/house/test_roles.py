"""`broker run`: every door open, restarted when it ends, taken down together, ended in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker import roles
from broker.roles import CannotRun, Pace
from broker.settings import Settings
from broker.store import external
from broker.store.server import EmbeddedServer, find_server

CONFIG = """\
data: data
hl7: {listen: '127.0.0.1:0', processes: 2}
dicom: {listen: '127.0.0.1:0'}
console: {listen: '127.0.0.1:0'}
ris: [{name: ris, to: '127.0.0.1:9'}]
"""
PATIENCE_S = 30.0


class Broker:
    """A `broker run` of its own, and what can be seen of it from outside."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.folder = folder
        self.config = folder / "broker.yaml"
        if not self.config.exists():
            self.config.write_text(CONFIG)
        clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker", "run", "--config", self.config, *arguments],
                env=clean | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def said(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")

    def ready(self) -> dict[str, tuple[str, int]]:
        """Where it listens, once it says so."""
        until(lambda: "\n" in self.said("out") or self.process.poll() is not None)
        line = self.said("out")
        assert line.startswith("ready "), self.said("err")
        words = dict(word.split("=") for word in line.split()[1:])
        return {name: (p.rsplit(":", 1)[0], int(p.rsplit(":", 1)[1])) for name, p in words.items()}

    def children(self, pattern: str = "") -> dict[int, str]:
        """The living processes it started whose command line has `pattern`, by process id."""
        listed = subprocess.run(
            ["ps", "-e", "-ww", "-o", "pid=,ppid=,stat=,args="],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
        return {
            int(pid): command
            for pid, parent, state, command in rows
            if int(parent) == self.process.pid and state[0] != "Z" and re.search(pattern, command)
        }

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith(b"Z")


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 2).close()
    except OSError:
        return False
    return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """A function that starts a broker on this test's folder; whatever still runs is ended."""
    started: list[Broker] = []

    def begin(*arguments: str, **environ: str) -> Broker:
        started.append(Broker(tmp_path, *arguments, **environ))
        return started[-1]

    yield begin
    for broker in started:
        if broker.process.poll() is None:
            broker.process.kill()
            broker.process.wait()


@pytest.mark.peer("redis-server")
def test_ready_is_said_when_every_door_listens_and_sigterm_ends_it_with_0(start):
    broker = start()
    where = broker.ready()
    assert set(where) == {"hl7", "dicom", "console"}
    assert all(accepts(address) for address in where.values())
    commands = sorted(
        each.partition("-m broker ")[2] for each in broker.children("broker door").values()
    )
    assert commands == [
        "door console --instance 0",
        "door modality --instance 0",
        "door orders --instance 0",
        "door orders --instance 1",
        "door updates --instance 0",
        "door updates --instance 1",
    ]
    children = broker.children()
    assert broker.stop() == 0
    assert not any(alive(pid) for pid in children)
    assert not any(accepts(address) for address in where.values())
    assert broker.said("out").count("\n") == 1


@pytest.mark.peer("redis-server")
def test_a_killed_door_is_back_at_once_on_the_same_port(start):
    broker = start()
    where = broker.ready()
    (modality,) = broker.children("door modality")
    os.kill(modality, signal.SIGKILL)
    until(lambda: "door open again" in broker.said("err"))
    assert accepts(where["dicom"])
    assert broker.stop() == 0


@pytest.mark.peer("redis-server")
def test_a_killed_redis_is_back_while_the_doors_stay_open(start):
    broker = start()
    broker.ready()
    doors = broker.children("broker door")
    (server,) = broker.children("redis-server")
    os.kill(server, signal.SIGKILL)
    url = f"unix://{broker.folder}/data/redis/redis.sock"
    until(lambda: server not in broker.children("redis-server") and external.writable(url))
    assert broker.children("broker door") == doors
    assert broker.stop() == 0


@pytest.mark.peer("redis-server")
def test_a_redis_that_keeps_crashing_ends_the_broker_with_75(start):
    broker = start()
    broker.ready()
    killed: set[int] = set()
    while broker.process.poll() is None:
        for server in set(broker.children("redis-server")) - killed:
            os.kill(server, signal.SIGKILL)
            killed.add(server)
        time.sleep(0.02)
    assert broker.process.returncode == os.EX_TEMPFAIL
    assert len(killed) == roles.REDIS_CRASHES


@pytest.mark.peer("redis-server")
def test_a_killed_supervisor_takes_everything_down_and_a_new_start_finds_all(start):
    broker = start()
    broker.ready()
    with_marker = EmbeddedServer(broker.folder / "data", binary=find_server())
    children = broker.children()
    assert broker.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not any(alive(pid) for pid in children))
    assert not external.writable(with_marker.url)
    again = start()
    again.ready()
    assert again.stop() == 0


@pytest.mark.peer("redis-server")
def test_a_second_broker_on_the_same_data_is_told_who_is_there(start, tmp_path):
    broker = start()
    broker.ready()
    second = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", broker.config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == os.EX_TEMPFAIL
    assert f"in use by process {broker.process.pid}" in second.stderr
    assert broker.stop() == 0


@pytest.mark.peer("redis-server")
def test_some_doors_share_a_redis_that_is_given(start, tmp_path):
    server = EmbeddedServer(tmp_path / "given", binary=find_server())
    server.start()
    try:
        broker = start("--role", "modality,console", BROKER_REDIS__URL=server.url)
        assert set(broker.ready()) == {"dicom", "console"}
        assert broker.stop() == 0
        assert external.writable(server.url)
    finally:
        server.stop()


def settings(**environ: str) -> Settings:
    return Settings.load(None, {f"BROKER_{name}": text for name, text in environ.items()})


def test_some_doors_cannot_share_an_embedded_redis():
    with pytest.raises(CannotRun, match="BROKER_REDIS__URL") as caught:
        roles.run(settings(), ["orders"])
    assert caught.value.code == os.EX_CONFIG


@pytest.mark.peer("redis-server")
def test_a_port_that_is_taken_is_named_although_doors_share_ports(tmp_path, monkeypatch):
    monkeypatch.setattr(roles, "PORT_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        host, port = taken.getsockname()
        given = settings(
            DATA=str(tmp_path / "data"), HL7__LISTEN="127.0.0.1:0", DICOM__LISTEN=f"{host}:{port}"
        )
        with pytest.raises(CannotRun, match=rf"dicom\.listen: {host}:{port}: .*in use"):
            roles.run(given)


@pytest.mark.peer("redis-server")
def test_a_redis_that_may_lose_orders_is_refused_unless_that_is_accepted(tmp_path):
    server = EmbeddedServer(tmp_path, binary=find_server())
    server.start()
    try:
        url = server.url
        roles._judge_external(settings(REDIS__URL=url))
        server_config(url, "appendonly", "no")
        with pytest.raises(CannotRun, match="appendonly is off") as caught:
            roles._judge_external(settings(REDIS__URL=url))
        assert caught.value.code == os.EX_CONFIG
        roles._judge_external(settings(REDIS__URL=url, REDIS__ACCEPT_LOSS="true"))
    finally:
        server.stop()


def server_config(url: str, name: str, value: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.config_set(name, value)


def test_what_ends_often_is_started_ever_later_but_always_again():
    pace = Pace()
    pauses = [pace.pause_s(now) for now in range(12)]
    assert pauses[:3] == [0, 0, 0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == roles.LONGEST_PAUSE_S
    assert pace.pause_s(1000.0) == 0


def test_updates_is_a_dispatcher_and_a_worker_for_each_ris():
    given = settings(RIS="[{name: a, to: 'h:1'}, {name: b, to: 'h:2'}]", HL7__PROCESSES="3")
    counts = {role: roles.instances(given, role) for role in roles.ROLES}
    assert counts == {"orders": 3, "modality": 1, "updates": 3, "console": 1}


def test_the_line_with_ready_lists_each_address_once():
    bound = [{"hl7": "a:1,b:2"}, {"hl7": "a:1,b:2"}, {"dicom": "c:3"}, {"updates": "sending"}]
    assert roles.ready_line(bound) == "ready hl7=a:1,b:2 dicom=c:3"


@pytest.mark.parametrize(
    ("text", "says"),
    [("dicom: {ae_titel: X}\n", ":1:9: unknown key"), ("- no\n", ":1:1: the configuration is")],
)
def test_a_bad_configuration_ends_with_78_and_its_place(tmp_path, text, says):
    config = tmp_path / "broker.yaml"
    config.write_text(text)
    refused = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == os.EX_CONFIG
    assert f"{config}{says}" in refused.stderr
    assert "Traceback" not in refused.stderr
