"""`broker status` and `broker map versions` against a real store, and without one."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.store import bundles, held, keys, metrics
from broker.store.bundles import Failure
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from broker.worklist.changes import Unmapped

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="status-") as folder:
        server = EmbeddedServer(Path(folder), binary=find_server())
        server.start()
        yield server
        server.stop()


@pytest.fixture
def store(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store, which the configuration names, with one RIS."""
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    monkeypatch.setenv("BROKER_REDIS__URL", server.url)
    monkeypatch.setenv("BROKER_RIS", "[{name: north, to: '127.0.0.1:9'}]")
    opened = Store(server.url)
    opened.redis.flushall()
    yield opened
    opened.close()


def test_it_says_which_mappings_are_in_force_and_why_no_others_are(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.run(bundles.put("0123456789abcdef", {}))
    store.run(bundles.activate("0123456789abcdef", at=5.0, by="start"))
    store.run(bundles.note_failure(Failure(6.0, "watch", "a.yaml:3:1: wrong\n   3 | x")))
    assert run_command(["status"]) == 0
    said = capsys.readouterr().out
    assert "takes writes" in said
    assert "version 0123456789ab since 1970-01-01" in said
    assert "! watch failed at 1970-01-01" in said
    assert "a.yaml:3:1: wrong\n" in said
    assert "north: 0 orders wait" in said
    assert run_command(["status", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mappings"]["failed_reload"]["reason"].startswith("a.yaml:3:1")
    assert report["updates"] == {
        "pending": {"north": 0},
        "dead_letters": 0,
        "stopped": {"north": 0},
        "paused": {},
        "away": {},
    }


def test_it_says_how_many_messages_wait_for_a_code(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["status"]) == 0
    assert "orders    0 wait for a code\n" in capsys.readouterr().out
    waiting = held.Waiting("d", "RIS", "1", 5.0, "m@1", (Unmapped("modality", "X"),), b"MSH|")
    store.run(commit(Commit(at=datetime.now(UTC), held=waiting)))
    assert run_command(["status"]) == 0
    assert "orders    ! 1 wait for a code: see `broker unmapped`\n" in capsys.readouterr().out


def test_a_store_that_takes_no_writes_is_a_finding(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.redis.set(keys.REFUSE_WRITES, "the disk is full")
    assert run_command(["status"]) == 1
    assert "! takes no writes: the disk is full" in capsys.readouterr().out


def test_a_health_check_asks_only_for_the_processes_of_a_door_on_this_machine(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    here = [metrics.own_name("updates", number) for number in (0, 1)]
    for name in ("updates:0@elsewhere", "updates:1@elsewhere", here[0]):
        store.run(metrics.publish(name, metrics.Snapshot(now, ())))
    assert run_command(["status", "--here", "updates"]) == 1
    assert f"door      {here[0]}: heard\ndoor      {here[1]}: ! not heard for 30 s" in (
        capsys.readouterr().out
    )
    store.run(metrics.publish(here[1], metrics.Snapshot(now, ())))
    assert run_command(["status", "--here", "updates"]) == 0
    capsys.readouterr()
    store.run(metrics.publish(here[0], metrics.Snapshot(now - 31, ())))
    assert run_command(["status", "--here", "updates", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {here[0]: False, here[1]: True}
    assert run_command(["status", "--here", "console"]) == 2


def test_without_a_broker_they_end_with_69(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    monkeypatch.setenv("BROKER_DATA", str(tmp_path))
    for words in (["status"], ["map", "versions"], ["map", "reload"], ["map", "rollback"]):
        assert run_command(words) == os.EX_UNAVAILABLE
        assert "no broker runs on" in capsys.readouterr().err


def test_versions_come_newest_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["map", "versions"]) == 1
    for at, version in enumerate(["a" * 64, "b" * 64, "a" * 64]):
        store.run(bundles.put(version, {}))
        store.run(bundles.activate(version, at=float(at), by="reload (me)"))
    assert run_command(["map", "versions"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("aaaaaaaaaaaa ")
    assert first.endswith("reload (me)  in force")
    assert second.startswith("bbbbbbbbbbbb ")
    assert run_command(["map", "versions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["since"] for each in listed] == [2.0, 1.0]
