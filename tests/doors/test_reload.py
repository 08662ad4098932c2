"""Mappings change while the broker runs: put in force when they are right, kept out when not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.probe.orders import orm_o01
from broker.probe.scanner import new_uid
from broker.store import bundles, outbox
from tests.doors.actors import CONFIG, Broker, Line, new_order, only, send, until
from tests.doors.commands import command_of
from tests.doors.test_refusals import edited, ran
from tests.houses import few_mappings

pytestmark = pytest.mark.peer("redis-server")

RIS = "ris: [{name: ris, to: '127.0.0.1:9', mapping: status-omi}]\n"
HOUSE_CODE = "HOUSECT,CT\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Broker]:
    """A broker with two orders processes on a folder of mappings of its own."""
    broker = Broker(f"{CONFIG}mappings: rules\n{RIS}")
    few_mappings(broker.folder / "rules")
    few_mappings(broker.folder / "former")
    with broker.started():
        yield broker


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(running: Broker, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs a command on that broker and gives its exit code and what it says."""
    run = command_of(running, capsys)

    def both(*words: str) -> tuple[int, str]:
        code, out, err = run(*words)
        return code, out + err

    return both


@pytest.fixture
def rules(running: Broker, command: Command) -> Path:
    """The folder of mappings, as it was and in force."""
    folder, former = running.folder / "rules", running.folder / "former"
    for path in former.rglob("*"):
        ours = folder / path.relative_to(former)
        if path.is_file() and not (ours.exists() and ours.read_bytes() == path.read_bytes()):
            ours.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, ours)
    code, said = command("map", "reload")
    assert code == 0, said
    settled(running)
    return folder


def settled(broker: Broker) -> None:
    """Wait till the watcher has had its say about what was written: nothing changes for a while."""
    seen, since = in_force(broker), time.monotonic()
    while time.monotonic() - since < 1.5:
        if in_force(broker) != seen:
            seen, since = in_force(broker), time.monotonic()
        time.sleep(0.1)


def house_order() -> bytes:
    """An order whose modality is known to nobody but this house."""
    return edited(orm_o01(new_order()), ("OBR", 24, b"HOUSECT"))


def learn(rules: Path) -> None:
    with (rules / "tables" / "modalities.csv").open("a") as table:
        table.write(HOUSE_CODE)


def spoil(rules: Path) -> None:
    mapping = rules / "ihe-orders.yaml"
    mapping.write_text(mapping.read_text().replace("PatientSex:", "PatientSecks:", 1))


def in_force(broker: Broker) -> str:
    active = broker.store.run(bundles.active())
    assert active is not None
    return active.short


def answers(broker: Broker, message: Callable[[], bytes], lines: int = 12) -> set[str]:
    """What a message gets on many connections at once, which all the processes share."""
    opened = [Line(broker.hl7) for _ in range(lines)]
    codes = {line.send(message()).code for line in opened}
    for line in opened:
        line.close()
    return codes


def test_a_mended_mapping_takes_a_refused_message_without_a_restart(
    running: Broker, rules: Path
) -> None:
    order = new_order()
    message = edited(orm_o01(order), ("OBR", 24, b"HOUSECT"))
    assert send(running.hl7, message).code == "AE"
    refused, before = running.archived(1)[0], in_force(running)
    learn(rules)
    until(lambda: send(running.hl7, message).code == "AA", "an AA after the mending")
    only(running, order)
    taken = next(each for each in running.archived() if each.outcome == "applied")
    assert refused.mapping == f"ihe-orders@{before}"
    assert taken.mapping == f"ihe-orders@{in_force(running)}" != refused.mapping


def test_a_broken_mapping_keeps_the_former_one_and_says_why(
    running: Broker, rules: Path, command: Command
) -> None:
    before = in_force(running)
    spoil(rules)
    until(lambda: running.metric("broker_store_mapping_reload_ok") == 0, "a failed reload")
    until(
        lambda: '"mappings refused, the former ones stay in force"' in running.log(), "a log line"
    )
    code, said = command("map", "reload")
    assert code == 1
    assert "did you mean 'PatientSex'?" in said
    assert "nothing changed" in said
    code, said = command("status")
    assert code == 0
    assert "PatientSecks" in said
    assert f"version {before}" in said
    assert in_force(running) == before
    assert send(running.hl7, orm_o01(new_order())).code == "AA"
    assert running.archived(1)[0].mapping == f"ihe-orders@{before}"


def test_after_a_reload_every_process_works_with_the_new_mappings(
    running: Broker, rules: Path, command: Command
) -> None:
    assert answers(running, house_order) == {"AE"}
    learn(rules)
    code, said = command("map", "reload", "--json")
    assert code == 0
    doors = json.loads(said)["doors"]
    assert sum(name.startswith("orders:") for name in doors) == 2
    assert all(doors.values())
    assert answers(running, house_order) == {"AA"}
    handled = {each.mapping for each in running.archived(12)}
    assert handled == {f"ihe-orders@{in_force(running)}"}


def test_a_rollback_lasts_till_the_folder_is_put_in_force_again(
    running: Broker, rules: Path, command: Command
) -> None:
    former = in_force(running)
    learn(rules)
    assert command("map", "reload")[0] == 0
    newer = in_force(running)
    assert answers(running, house_order) == {"AA"}
    assert command("map", "rollback")[0] == 0
    assert in_force(running) == former
    assert answers(running, house_order) == {"AE"}
    os.utime(rules / "ihe-orders.yaml")  # touched, not changed
    code, said = command("map", "versions")
    assert code == 0
    assert said.split("\n")[0].startswith(former)
    assert "rollback" in said.split("\n")[0]
    assert newer in said
    assert in_force(running) == former
    assert running.process is not None
    running.process.send_signal(signal.SIGHUP)
    until(lambda: in_force(running) == newer, "the folder in force again")


def test_a_version_that_is_not_kept_is_refused(running: Broker, rules: Path, command) -> None:
    code, said = command("map", "rollback", "0123456789ab")
    assert code == 1
    assert f"is not kept; there are: {in_force(running)}" in said


def test_a_status_message_knows_the_mapping_that_made_it(running: Broker, rules: Path) -> None:
    order = new_order()
    assert send(running.hl7, orm_o01(order)).code == "AA"
    now = datetime.now(UTC)
    assert running.scanner.mpps_start(only(running, order), uid=new_uid(), now=now) == 0x0000
    (waiting,) = running.store.run(outbox.dirty("ris", now_ms=2**53, limit=9))
    (event,) = running.store.run(outbox.events("ris", waiting))
    assert event.mapping == f"status-omi@{in_force(running)}"
    assert b"|OMI^O23^OMI_O23|" in event.payload


def test_a_ris_with_a_mapping_that_does_not_exist_keeps_the_broker_from_starting(
    tmp_path: Path,
) -> None:
    ended = ran(tmp_path, CONFIG + RIS.replace("status-omi", "status-omy"))
    assert ended.returncode == os.EX_CONFIG
    assert "ris 'ris': there is no mapping 'status-omy' that goes out" in ended.stderr
    assert "did you mean 'status-o" in ended.stderr
    assert "Traceback" not in ended.stderr
