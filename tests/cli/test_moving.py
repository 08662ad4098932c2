"""`broker export` and `broker import`: another broker goes on where this one was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run_command
from broker.probe.orders import Patient, orm_o01
from broker.probe.ris import Answer, Sink
from broker.probe.scanner import new_uid
from broker.store import dead, destinations, keys, reads
from broker.store.commit import Change
from broker.store.destinations import Pause
from broker.store.executors import Store, StoreUnavailable
from broker.store.moving import exporting, importing
from broker.store.moving.judging import Judgement
from broker.store.server import EmbeddedServer
from tests.doors.actors import CONFIG, Broker, accepted, find, new_order, only, send, until
from tests.store.writing import everything, order, patient, write

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
RIS = (
    "timezone: Europe/Berlin\nris: [{{name: ris, to: '127.0.0.1:9'}}, {{name: strict, to: '{}'}}]\n"
)
AWAY = RIS.format("127.0.0.1:9")
OF_PROCESSES = (
    "activations|aes.*|archive.*|asked:.*|bundle.*|dirty:.*|guard:import:.*|indexed|lease:.*"
    "|metrics|probe|refused.*|revision|rq:.*|sent:.*|sightings:.*|unreachable|wake|writable"
)
"""What a broker makes anew; the refused ones name their place in the archive."""


@pytest.fixture(scope="module")
def full() -> Iterator[Broker]:
    """A broker that has seen a bit of everything; one RIS is away, the other takes nothing."""
    strict = Sink()
    strict.answer = Answer.AE
    strict.start()
    broker = Broker(CONFIG.replace("timezone: Europe/Berlin\n", "") + RIS.format(strict.address))
    try:
        fill(broker.start())
        until(lambda: broker.store.run(dead.count()) == 3, "three refusals")
        strict.stop()
        broker.store.run(destinations.pause("ris", Pause(1.0, "eve", "upgrade")))
        yield broker
    finally:
        broker.end()


def fill(broker: Broker) -> Broker:
    first, second, running, done = (new_order() for _ in range(4))
    accepted(broker.hl7, *(orm_o01(each) for each in (first, second, running, done)))
    accepted(broker.hl7, merge(second.patient, first.patient))
    scanner = broker.scanner
    for each in (running, done):
        uid = new_uid()
        assert scanner.mpps_start(only(broker, each), uid=uid, now=NOW) == 0
        if each is done:
            assert scanner.mpps_complete(uid, now=NOW) == 0
    stray = {**only(broker, first), "AccessionNumber": "NOBODYS1", "StudyInstanceUID": new_uid()}
    assert scanner.mpps_start(stray, uid=new_uid(), now=NOW) == 0
    refused = orm_o01(new_order()).replace(b"|CT^", b"|NONE^").replace(b"|CT|", b"|NONE|")
    assert send(broker.hl7, refused).code in ("AE", "AR")
    for example in ("referral-orm-24", "referral-orm-unknown-code"):
        accepted(broker.hl7, Path(f"mappings/examples/{example}.hl7").read_bytes())
    accepted(broker.hl7, orm_o01(new_order()).replace(b"ORC|NW", b"ORC|CA"))
    return broker


def merge(into: Patient, former: Patient) -> bytes:
    return (
        "MSH|^~\\&|PROBERIS|NORTH|||20260316090000||ADT^A40|MERGE1|P|2.3.1\r"
        f"PID|1||{into.patient_id}^^^{into.issuer}||{into.name}\r"
        f"MRG|{former.patient_id}^^^{former.issuer}\r"
    ).encode()


@pytest.fixture(scope="module")
def file(full: Broker) -> Path:
    """What that broker has exported while it ran, its whole archive as well."""
    target = full.folder / "all.jsonl"
    assert run_command(["export", str(target), "--archive", *config_of(full.folder)]) == 0
    return target


def config_of(folder: Path) -> list[str]:
    return ["--config", str(folder / "broker.yaml")]


@pytest.fixture
def here(server: EmbeddedServer, store: Store, tmp_path: Path) -> list[str]:
    """The configuration of a broker with an empty store: that of the fixture `store`."""
    (tmp_path / "broker.yaml").write_text(f"redis: {{url: '{server.url}'}}\n{AWAY}")
    return config_of(tmp_path)


def work(store: Store) -> dict[str, Any]:
    """Every record and index of a store, without the revisions that each store counts itself."""

    def bare(value: Any) -> Any:
        if isinstance(value, (list, set)):
            return sorted((bare(each) for each in value), key=repr)
        if isinstance(value, tuple):
            return tuple(map(bare, value))
        if isinstance(value, dict):
            return {bare(k): bare(v) for k, v in value.items()}
        if isinstance(value, bytes):
            return re.sub(rb"^\d{12}|@\d+\.\d+$", b"", value)
        return value

    found = everything(store).items()
    prefix = re.escape(keys.PREFIX)
    return {
        key: bare(value)
        for key, value in found
        if not re.fullmatch(f"{prefix}({OF_PROCESSES})", key)
    }


def imported(file: Path, here: list[str], *options: str, code: int = 0) -> None:
    assert run_command(["import", str(file), *options, *here]) == code


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def rewritten(file: Path, target: Path, *lines: dict[str, Any]) -> Path:
    """A whole file of these lines, as `broker export` would have written it."""
    raw = [f"{json.dumps(each)}\n".encode() for each in lines]
    digest = hashlib.sha256(b"".join(raw)).hexdigest()
    end = {"kind": "end", "lines": len(raw), "sha256": digest, "counts": {}}
    target.write_bytes(b"".join(raw) + f"{json.dumps(end)}\n".encode())
    return target


def changed(file: Path, target: Path, kind: str, change: Callable[[dict[str, Any]], None]) -> str:
    """A file of which the first record of a kind differs; gives its key."""
    lines = lines_of(file)[:-1]
    line = next(each for each in lines if each.get("kind") == kind)
    change(line)
    rewritten(file, target, *lines)
    return str(line["key"])


def test_another_broker_goes_on_where_the_exported_one_was(full, file, capsys):
    successor = Broker(CONFIG.replace("timezone: Europe/Berlin\n", "") + AWAY)
    try:
        imported(file, config_of(successor.folder))
        said = capsys.readouterr().out
        for kind in (*exporting.KINDS,):
            assert f"{kind.name}: " in said
        assert "conflict" not in said
        successor.start()
        mine = work(full.store)
        assert work(successor.store) == mine
        for name in ("order:", "mpps-received:", "outbox:ris:", "by-study:", "open-station:"):
            assert any(key.startswith(f"{keys.PREFIX}{name}") for key in mine)
        assert find(successor) == find(full)
        assert len(find(full)) >= 3
        assert [each.raw for each in successor.archived()] == [each.raw for each in full.archived()]
    finally:
        successor.end()


def test_what_could_not_be_applied_is_there_without_the_archive(
    full, here, store, tmp_path, capsys
):
    target = tmp_path / "without.jsonl"
    assert run_command(["export", str(target), *config_of(full.folder)]) == 0
    imported(target, here)
    assert store.redis.xlen(keys.ARCHIVE) == 1
    capsys.readouterr()
    assert run_command(["dead", "--json", *here]) == 1
    mine = json.loads(capsys.readouterr().out)
    assert run_command(["dead", "--json", *config_of(full.folder)]) == 1
    assert mine == json.loads(capsys.readouterr().out)


def test_only_its_owner_can_read_the_file(file):
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_second_import_changes_nothing(file, here, store, capsys):
    imported(file, here)
    before = everything(store)
    imported(file, here)
    assert everything(store) == before
    assert "new" not in capsys.readouterr().out.split("dead letter")[-1].splitlines()[-1]


def test_a_rehearsal_writes_nothing(file, here, store, capsys):
    imported(file, here, "--dry-run")
    assert everything(store) == {}
    assert "nothing was written; it would be:" in capsys.readouterr().out


def test_an_import_that_was_broken_off_is_carried_on(file, here, store, monkeypatch, capsys):
    run_all, left = Store.run_all, [12]

    def until_it_breaks(self: Store, calls: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return run_all(self, calls)
        run_all(self, calls[:1])  # and of those that were sent only the first arrives
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "run_all", until_it_breaks)
        patch.setattr(importing, "SLICE", 3)
        imported(file, here, code=os.EX_UNAVAILABLE)
    half = work(store)
    imported(file, here)
    whole = work(store)
    assert len(half) < len(whole)
    store.redis.flushall()
    imported(file, here)
    assert work(store) == whole


def test_what_differs_is_named_and_stays_unless_the_file_shall_win(
    file, here, store, tmp_path, capsys
):
    imported(file, here)
    other = tmp_path / "other.jsonl"
    key = changed(file, other, "order", lambda line: line["record"].update(flags=["seen by us"]))
    before = work(store)
    capsys.readouterr()
    imported(other, here, code=1)
    assert f"conflict: order {key}: another version of it is here" in capsys.readouterr().out
    assert work(store) == before
    imported(other, here, "--overwrite")
    assert store.run(reads.orders([key])).known.orders[key].flags == ("seen by us",)


def test_orders_of_another_person_with_the_same_id_are_not_taken(
    file, here, store, tmp_path, capsys
):
    line = next(each for each in lines_of(file) if each.get("kind") == "order")
    key = line["record"]["patient"]
    issuer, _, number = key.partition("|")
    stranger = patient(number, PatientName="ELSE^SOMEBODY").model_copy(update={"issuer": issuer})
    write(store, Change("", None, stranger))
    imported(file, here, code=1)
    said = capsys.readouterr().out
    assert f"conflict: patient {key}: another name, birth date or sex is here" in said
    assert f"conflict: order {line['key']}: its patient is another person here" in said
    assert line["key"] not in store.run(reads.orders([line["key"]])).known.orders


def test_a_number_of_another_patients_order_is_not_given_twice(file, here, store, capsys):
    line = next(each for each in lines_of(file) if each.get("kind") == "order")
    study = line["record"]["procedures"][0]["facts"]["attributes"]["StudyInstanceUID"]
    procedure = {"id": "X", "facts": {"attributes": {"StudyInstanceUID": study}}}
    mine = order("OURS", procedures=[procedure])
    write(store, Change("", None, patient()), Change("", None, mine))
    imported(file, here, code=1)
    said = capsys.readouterr().out
    assert f"conflict: order {line['key']}: its study number is of order H|OURS here" in said


def test_two_orders_of_the_file_that_share_a_number_are_not_both_taken(
    file, here, store, tmp_path, capsys
):
    """Though they are judged together, before either is written."""
    lines = lines_of(file)[:-1]
    orders = [each for each in lines if each.get("kind") == "order"]
    first = orders[0]
    other = next(o for o in orders if o["record"]["patient"] != first["record"]["patient"])
    ours, theirs = (o["record"]["procedures"][0]["facts"]["attributes"] for o in (first, other))
    theirs["StudyInstanceUID"] = ours["StudyInstanceUID"]
    imported(rewritten(file, tmp_path / "rivals.jsonl", *lines), here, code=1)
    said = capsys.readouterr().out
    assert said.count("conflict: order") == 1
    assert "its study number is of order" in said
    read = store.run(reads.orders([first["key"], other["key"]]))
    assert len(read.known.orders) == 1


def test_records_are_read_and_written_a_hundred_at_a_time(here, store, tmp_path):
    """So that the disk is asked to sync for a hundred at once, and not for each."""
    many = [order(f"M{number}") for number in range(250)]
    write(store, Change("", None, patient()), *(Change("", None, each) for each in many))
    target = tmp_path / "many.jsonl"
    assert run_command(["export", str(target), *here]) == 0
    store.redis.flushall()
    before = store.redis.info("stats")["total_reads_processed"]
    imported(target, here)
    assert store.redis.info("stats")["total_reads_processed"] - before < 60
    assert len(store.run(reads.orders([f"H|M{n}" for n in range(250)])).known.orders) == 250


def test_a_destination_that_was_paused_is_paused_here_too(file, here, store, capsys):
    imported(file, here)
    assert "pause: 1 new" in capsys.readouterr().out
    assert store.run(destinations.paused()) == {"ris": Pause(1.0, "eve", "upgrade")}
    store.redis.delete(keys.PAUSED)
    store.run(destinations.pause("ris", Pause(9.0, "nina")))
    imported(file, here)
    assert "pause: 1 already there" in capsys.readouterr().out
    assert store.run(destinations.paused())["ris"].by == "nina"


def test_status_messages_for_a_ris_that_is_not_configured_are_named(file, here, store, capsys):
    Path(here[1]).write_text(Path(here[1]).read_text().replace(AWAY, ""))
    imported(file, here, code=1)
    assert "`ris` has none of the name ris" in capsys.readouterr().out
    assert not store.redis.keys(keys.outbox("*", "*"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: b"", "the file is empty"),
        (lambda raw: raw[: len(raw) // 2], "cut or damaged here"),
        (lambda raw: raw[: raw.rindex(b"\n", 0, -1) + 1], "the end is missing: the file is cut"),
        (lambda raw: raw.replace(b"MIRJAM", b"MARIAM", 1), "its checksum differs"),
        (lambda raw: raw + b"{}\n", "something follows the end"),
        (
            lambda raw: raw.replace(b'"version":1', b'"version":9', 1),
            "version 9 of the file's form",
        ),
        (lambda raw: b"MSH|^~\\&\r" + raw, ":1: no file of `broker export`"),
    ],
)
def test_of_a_file_that_is_not_whole_nothing_is_taken(
    file, here, store, tmp_path, capsys, damage, said
):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(damage(file.read_bytes()))
    imported(bad, here, code=1)
    assert said in capsys.readouterr().err
    assert everything(store) == {}


def test_a_record_of_a_newer_version_is_told_with_its_line_and_nothing_is_taken(
    file, here, store, tmp_path, capsys
):
    bad = tmp_path / "newer.jsonl"
    changed(file, bad, "order", lambda line: line["record"].update(invented_later=1))
    imported(bad, here, code=1)
    said = capsys.readouterr().err
    assert re.search(r"newer\.jsonl:\d+: this order is none that this version knows", said)
    assert "MUSTER" not in said
    assert everything(store) == {}


def test_an_export_that_was_broken_off_is_carried_on(full, file, here, store, tmp_path):
    target = tmp_path / "resumed.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    gone = json.dumps({"kind": "alias", "key": "order:GONE", "to": "X", "until": 1}) + "\n"
    old = json.loads(next(each for each in lines if b'"kind":"order"' in each))
    old["record"]["flags"] = ["as it was then"]
    part = b"".join([*lines[:4], gone.encode(), f"{json.dumps(old)}\n".encode(), lines[5][:40]])
    (tmp_path / "resumed.jsonl.part").write_bytes(part)
    assert run_command(["export", str(target), "--archive", *config_of(full.folder)]) == 0
    assert target.read_bytes().startswith(b"".join(lines[:4]))
    assert target.stat().st_mode & 0o777 == 0o600
    imported(target, here)
    resumed = work(store)
    store.redis.flushall()
    imported(file, here)
    assert resumed == work(store)


def test_orders_that_come_while_it_is_exported_have_their_patients(
    here, store, tmp_path, monkeypatch
):
    target = tmp_path / "busy.jsonl"
    look, late, busy = exporting._look, [], Broker()

    def meanwhile(*arguments: Any) -> int:
        written = look(*arguments)
        if len(late) < 2:
            late.append(new_order())
            accepted(busy.hl7, orm_o01(late[-1]))
        return written

    monkeypatch.setattr(exporting, "_look", meanwhile)
    try:
        accepted(busy.start().hl7, orm_o01(new_order()))
        assert run_command(["export", str(target), *config_of(busy.folder)]) == 0
    finally:
        busy.end()
    imported(target, here)
    assert len(late) == 2
    assert all(store.redis.keys(f"*order:*{each.accession}") for each in late)


def test_a_file_that_is_there_is_not_replaced_by_accident(file, full, capsys):
    before = file.read_bytes()
    assert run_command(["export", str(file), *config_of(full.folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_without_a_store_there_is_nothing_to_export(tmp_path, capsys):
    (tmp_path / "broker.yaml").write_text("data: data\n")
    assert run_command(["export", str(tmp_path / "x"), *config_of(tmp_path)]) == os.EX_UNAVAILABLE
    assert "no broker runs on" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_folder_of_data_that_cannot_be_had_is_named(file, tmp_path, capsys):
    (tmp_path / "data").write_text("no folder")
    (tmp_path / "broker.yaml").write_text("data: data\n")
    imported(file, config_of(tmp_path), code=os.EX_CONFIG)
    assert f"data: {tmp_path / 'data'}: " in capsys.readouterr().err


def test_a_broker_that_is_stopped_can_be_exported(full, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(full.folder, folder, ignore=shutil.ignore_patterns("*.sock", "LOCK", "out"))
    target = tmp_path / "stopped.jsonl"
    assert run_command(["export", str(target), *config_of(folder)]) == 0
    assert any(each.get("kind") == "order" for each in lines_of(target))
    until(lambda: not (folder / "data" / "redis" / "redis.sock").exists(), "its end")


def test_what_a_running_broker_archives_meanwhile_takes_no_place_from_what_is_imported(
    file, here, store, monkeypatch
):
    store.redis.xadd(keys.ARCHIVE, {"size": 0}, id="9999999999999-0")
    monkeypatch.setattr(Judgement, "_place_of", lambda _self, name, _newest: name)
    imported(file, here)
    lines = lines_of(file)
    messages = sum(each.get("kind") == "message" for each in lines)
    assert store.redis.xlen(keys.ARCHIVE) == 1 + messages
    before = store.redis.xlen(keys.ARCHIVE)
    imported(file, here)
    assert store.redis.xlen(keys.ARCHIVE) == before
