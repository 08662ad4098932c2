"""`broker run`: every door open, restarted when it ends, taken down together, ended in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from broker.store import external, keys, metrics
from broker.store.executors import Store
from broker.store.indexing import FORM
from broker.store.server import EmbeddedServer, find_server
from broker.supervising.redis_server import CRASHES
from tests.doors.actors import Broker, living, until

CONFIG = """\
data: data
hl7: {listen: '127.0.0.1:0', processes: 2}
dicom: {listen: '127.0.0.1:0'}
console: {listen: '127.0.0.1:0'}
ris: [{name: ris, to: '127.0.0.1:9'}]
"""


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 2).close()
    except OSError:
        return False
    return True


def turned_away(address: tuple[str, int], times: int) -> bool:
    """Whether each of so many connections is closed at once; the kernel spreads them."""

    def closed() -> bool:
        with socket.create_connection(address, 5) as peer, suppress(ConnectionResetError):
            return not peer.recv(1)
        return True

    return all(closed() for _ in range(times))


@pytest.fixture
def start() -> Iterator[Callable[..., Broker]]:
    """A function that launches a broker of this test's own; it is ended whatever happens."""
    started: list[Broker] = []

    def begin(*arguments: str, config: str = CONFIG, **environ: str) -> Broker:
        started.append(Broker(config))
        return started[-1].launch(*arguments, **environ)

    yield begin
    for broker in started:
        broker.end()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Broker]:
    """A broker that outlives what its tests do to it."""
    with Broker(CONFIG).started() as broker:
        yield broker


@pytest.mark.peer("redis-server")
def test_ready_is_said_when_every_door_listens_and_sigterm_ends_it_with_0(start):
    broker = start()
    where = broker.ready()
    assert set(where) == {"hl7", "dicom", "console"}
    assert all(accepts(address) for address in where.values())
    commands = sorted(
        each.partition("-m broker ")[2] for each in broker.commands("broker door").values()
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
    assert not living(children)
    assert not any(accepts(address) for address in where.values())
    assert broker.said().count("\n") == 1


@pytest.mark.peer("redis-server")
def test_a_killed_door_is_back_at_once_on_the_same_port(lasting):
    before = lasting.log().count("door open again")
    lasting.kill("door modality")
    until(lambda: lasting.log().count("door open again") > before)
    assert accepts(lasting.dicom)


@pytest.mark.peer("redis-server")
def test_who_may_connect_is_the_same_for_further_instances_and_after_a_restart(start):
    strict = "hl7: {listeners: [{listen: '127.0.0.1:0', peers: [192.0.2.0/24]}], processes: 2}"
    listening = "hl7: {listen: '127.0.0.1:0', processes: 2}"
    assert listening in CONFIG
    broker = start(config=CONFIG.replace(listening, strict))
    where = broker.ready()
    assert turned_away(where["hl7"], times=12)
    broker.kill("door orders")
    until(lambda: broker.log().count("door open again") == 2)
    assert turned_away(where["hl7"], times=12)
    assert broker.stop() == 0


@pytest.mark.peer("redis-server")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_where_doors_are_forked_nothing_goes_on_and_its_end_only_begins_them_anew(lasting):
    before = lasting.log().count("door open again")
    (forkserver,) = lasting.children("broker forkserver")
    assert len(list(Path(f"/proc/{forkserver}/task").iterdir())) == 1
    open_files = {str(each.readlink()) for each in Path(f"/proc/{forkserver}/fd").iterdir()}
    sockets = [each for each in open_files if each.startswith("socket:")]
    assert len(sockets) == 1, "the supervisor, and no store"
    doors = lasting.children("broker door")
    os.kill(forkserver, signal.SIGKILL)
    until(lambda: lasting.log().count("door open again") - before == len(doors))
    assert not living(doors)
    assert all(map(accepts, (lasting.hl7, lasting.dicom, lasting.console)))


def test_doors_have_the_scripts_of_the_version_that_forks_them():
    """Files of another version may lie there when a door uses a script for the first time."""
    forks = """if True:
        import socket
        from importlib.resources import files
        from broker.supervising import forkserver
        from broker.store import call
        ours, theirs = socket.socketpair()
        ours.close()
        forkserver.serve(theirs, [], None)
        scripts = files("broker.store") / "scripts"
        names = [each.name.removesuffix(".lua") for each in scripts.iterdir()]
        call.files = None
        print(bool(names) and all(call.script(name).text for name in names))
    """
    ran = subprocess.run(
        [sys.executable, "-c", forks], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.stderr) == ("True\n", "")


@pytest.mark.peer("redis-server")
def test_told_to_end_while_it_checks_the_mappings_it_ends_with_0(start):
    broker = start()
    until(lambda: broker.children("redis-server"))
    children = broker.children()
    assert broker.stop() == 0
    assert broker.said() == ""
    assert not living(children)


@pytest.mark.peer("redis-server")
def test_a_killed_redis_is_back_while_the_doors_stay_open(lasting):
    doors = lasting.children("broker door")
    (server,) = lasting.children("redis-server")
    os.kill(server, signal.SIGKILL)
    url = f"unix://{lasting.folder}/data/redis/redis.sock"
    until(lambda: server not in lasting.children("redis-server") and external.writable(url))
    assert lasting.children("broker door") == doors


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
    assert len(killed) == CRASHES
    assert "redis keeps ending" in broker.log()


@pytest.mark.peer("redis-server")
def test_a_killed_supervisor_takes_everything_down_and_a_new_start_finds_all(start):
    broker = start()
    broker.ready()
    with_marker = EmbeddedServer(broker.folder / "data", binary=find_server())
    children = broker.children()
    assert broker.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not living(children))
    assert not external.writable(with_marker.url)
    broker.start()
    assert broker.stop() == 0


@pytest.mark.peer("redis-server")
def test_a_second_broker_on_the_same_data_is_told_who_is_there(lasting):
    second = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", lasting.folder / "broker.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == os.EX_TEMPFAIL
    assert f"in use by process {lasting.process.pid}" in second.stderr


@pytest.mark.peer("redis-server")
def test_it_waits_for_a_broker_to_end_that_could_not_read_what_it_writes(start, tmp_path):
    server = EmbeddedServer(tmp_path / "given", binary=find_server())
    server.start()
    try:
        there = start("--role", "modality", BROKER_REDIS__URL=server.url)
        there.ready()
        with closing(Store(server.url)) as store:
            until(lambda: store.run(metrics.published()))
            store.redis.set(keys.INDEXED, "3")  # as if it were of the version before
            second = start("--role", "console", BROKER_REDIS__URL=server.url)
            until(lambda: "waits" in second.log())
            assert store.redis.get(keys.INDEXED) == b"3"
            assert there.stop() == 0
            assert set(second.ready()) == {"console"}
            assert store.redis.get(keys.INDEXED) == FORM.encode()
        assert second.stop() == 0
    finally:
        server.stop()


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
