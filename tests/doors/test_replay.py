"""Messages that were refused, or that a mended mapping would read otherwise, are judged again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.hl7.acknowledgement import read_acknowledgement
from broker.probe.orders import Order, orm_o01
from broker.store import recall, refused
from broker.store.recall import Selection
from tests.doors.actors import CONFIG, Broker, new_order, of_accession, only, send, step_of
from tests.doors.commands import Command, command_of
from tests.doors.test_refusals import edited
from tests.houses import free_mappings

pytestmark = pytest.mark.peer("redis-server")

DESCRIPTION = "RequestedProcedureDescription:"


@pytest.fixture(scope="module")
def running() -> Iterator[Broker]:
    """A broker whose mapping and tables a test may mend."""
    broker = Broker(f"{CONFIG}mappings: rules\nwatch_mappings: false\n")
    free_mappings(broker.folder / "rules")
    with broker.started():
        yield broker


@pytest.fixture
def command(running: Broker, capsys: pytest.CaptureFixture[str]) -> Command:
    """`broker …` on that broker."""
    return command_of(running, capsys)


@pytest.fixture(autouse=True)
def nothing_dead(running: Broker) -> Iterator[None]:
    """Nothing is dead before a test or after it, and the mappings are as they were."""
    rules = running.folder / "rules"
    kept = {path: path.read_bytes() for path in rules.rglob("*") if path.is_file()}
    yield
    for each in running.store.run(refused.listed()):
        running.store.run(refused.forget(each.digest))
    for path, data in kept.items():
        path.write_bytes(data)


def house_order(order: Order, code: str, sent: str = "20260316080000") -> bytes:
    return edited(orm_o01(order), ("OBR", 24, code.encode()), ("MSH", 7, sent.encode()))


def id_of(running: Broker, accession: str) -> str:
    """The ID of the newest message about an order that came over the wire."""
    meant = Selection(accession=accession)
    found = recall.newest_first(running.store, meant)
    return next(each.id for each in found if each.message and not each.message.replay_of)


def id_of_first(running: Broker, accession: str) -> str:
    """The ID of the oldest message about an order."""
    return list(recall.newest_first(running.store, Selection(accession=accession)))[-1].id


def listed(command: Command, *words: str) -> list[dict[str, Any]]:
    _, said, wrong = command(*words, "--json")
    assert said, wrong
    found: list[dict[str, Any]] = json.loads(said)
    return found


def knows(running: Broker, code: str, modality: str, command: Command) -> None:
    """Give the table a row for a code, and put it in force."""
    table: Path = running.folder / "rules" / "tables" / "modalities.csv"
    with table.open("a") as rows:
        rows.write(f"{code},{modality}\n")
    assert command("map", "reload")[0] == 0


def test_dead_messages_are_grouped_by_cause_and_replayed_once_the_mapping_is_mended(
    running: Broker, command: Command
) -> None:
    first, second, other = new_order(), new_order(), new_order()
    messages = [house_order(first, "GAMMA"), house_order(second, "GAMMA")]
    for message in (*messages, house_order(other, "DELTA")):
        assert send(running.hl7, message).code == "AE"
    assert send(running.hl7, messages[0]).code == "AE"  # the same again: still one message

    code, said, _ = command("dead")
    assert code == 1
    (row,) = [line.split("\t") for line in said.splitlines()]
    assert row[1:5] == ["refused", "3", "AE 103", "OBR-24"]
    assert "ihe-orders.yaml:" in row[5]
    for order in (first, second, other):
        assert order.patient.patient_id not in said
    code, said, _ = command("dead", "show", row[0])
    assert [line.split("\t")[5:7] for line in said.splitlines()] == [["refused", "AE"]] * 3
    code, said, _ = command("dead", "show", row[9])
    assert code == 0
    assert "refused: AE 103" in said

    knows(running, "GAMMA", "NM", command)
    code, said, wrong = command("dead", "replay")
    assert code == 1, wrong
    assert [line.split()[1] for line in said.splitlines()] == ["applied", "applied", "refused"]
    assert first.accession in said.splitlines()[0]
    assert step_of(only(running, first))["Modality"] == "NM"
    (left,) = listed(command, "dead")
    assert (left["messages"], left["code"]) == (1, "AE 103")

    replays = [each for each in listed(command, "log") if each["replay_of"]]
    assert [each["outcome"] for each in replays[:3]] == ["refused", "applied", "applied"]
    assert all(each["ack"] == [] for each in replays)
    item = only(running, first)
    assert send(running.hl7, messages[0]).code == "AA"  # remembered: its sender may ask again
    assert only(running, first) == item
    assert listed(command, "log", "--limit", "1")[0]["outcome"] == "repeat"

    knows(running, "DELTA", "PT", command)
    assert command("replay", "--dead")[0] == 0
    assert step_of(only(running, other))["Modality"] == "PT"
    assert command("dead") == (0, "", "nothing is dead\n")


def test_a_refused_message_that_its_sender_sends_again_with_success_is_dead_no_more(
    running: Broker, command: Command
) -> None:
    message = house_order(new_order(), "EPSILON")
    assert send(running.hl7, message).code == "AE"
    knows(running, "EPSILON", "US", command)
    assert send(running.hl7, message).code == "AA"
    assert command("dead")[0] == 0


def test_dropped_messages_are_dead_no_more_but_stay_in_the_log(
    running: Broker, command: Command
) -> None:
    order, other = new_order(), new_order()
    assert send(running.hl7, house_order(order, "ZETA")).code == "AE"
    assert send(running.hl7, edited(house_order(other, "CT"), ("PID", 3, b""))).code == "AE"
    assert command("dead", "drop")[0] == 2
    assert command("dead", "drop", "nobody")[0] == 1
    dead = id_of(running, order.accession)
    assert command("dead", "drop", dead, "--dry-run")[1] == "1 would be dropped\n"
    assert command("dead", "drop", dead)[1] == "1 dropped\n"
    (left,) = listed(command, "dead")
    assert left["code"] == "AE 101"
    assert command("dead", "drop", left["group"])[1] == "1 dropped\n"
    assert command("dead")[0] == 0
    assert listed(command, "log", "--accession", order.accession)[0]["outcome"] == "refused"


def test_a_dry_run_shows_what_a_mended_mapping_changes_and_a_replay_changes_it_once(
    running: Broker, command: Command
) -> None:
    order = new_order()
    message = house_order(order, "CT")
    assert send(running.hl7, message).code == "AA"
    before = only(running, order)
    mapping = running.folder / "rules" / "ihe-orders.yaml"
    lines = mapping.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.strip().startswith(DESCRIPTION))
    indent = lines[at][: lines[at].index(DESCRIPTION)]
    lines[at] = f"{indent}{DESCRIPTION} \"'CHECKED'\"\n"
    mapping.write_text("".join(lines))
    assert command("map", "reload")[0] == 0

    words = ("replay", "--accession", order.accession)
    (shown,) = listed(command, *words, "--dry-run")
    (difference,) = shown["differences"]
    assert difference["record"].endswith(order.accession)
    assert difference["what"].endswith(DESCRIPTION[:-1])
    assert difference["after"] == "CHECKED"
    assert only(running, order) == before
    assert f"{difference['before']} → CHECKED" in command(*words, "--dry-run")[1]

    assert command(*words)[0] == 0
    after = only(running, order)
    assert after["RequestedProcedureDescription"] == "CHECKED"
    assert after["StudyInstanceUID"] == before["StudyInstanceUID"]
    assert command(*words)[0] == 0
    assert only(running, order) == after
    assert listed(command, *words, "--dry-run")[0]["differences"] == []
    answer = send(running.hl7, message)  # its sender gets what it got the first time
    first = next(
        each
        for each in recall.newest_first(running.store, Selection(accession=order.accession))
        if each.message and each.message.outcome == "applied" and not each.message.replay_of
    )
    assert first.message is not None
    assert (answer.raw,) == first.message.answers


def test_a_dry_run_of_several_messages_shows_each_on_top_of_those_before(
    running: Broker, command: Command
) -> None:
    order = new_order()
    for message in (
        house_order(order, "ETA"),
        edited(house_order(order, "ETA", "20260316090000"), ("ORC", 1, b"CA"), ("ORC", 5, b"CA")),
    ):
        send(running.hl7, message)
    knows(running, "ETA", "CT", command)
    refused_one, cancelled = listed(command, "replay", "--grep", order.accession, "--dry-run")
    assert refused_one["outcome"] == cancelled["outcome"] == "applied"
    assert of_accession(running, order) == []


def test_what_is_older_than_what_is_known_changes_nothing(
    running: Broker, command: Command
) -> None:
    order = new_order()
    old = house_order(order, "CT", "20260316080000")
    new = edited(house_order(order, "MR", "20260316090000"), ("ORC", 1, b"XO"))
    assert [send(running.hl7, each).code for each in (old, new)] == ["AA", "AA"]
    item = only(running, order)
    found = listed(command, "replay", "--accession", order.accession)
    assert [each["cause"] for each in found] == ["stale", ""]
    assert only(running, order) == item
    named = [found[0]["id"], found[1]["id"]]
    assert [each["id"] for each in listed(command, "replay", *reversed(named))] == named
    assert [each["cause"] for each in listed(command, "replay", named[0], "--force")] == [""]
    assert step_of(only(running, order))["Modality"] == "CT"
    assert command("replay", "--accession", order.accession, "--force")[0] == 0
    assert only(running, order) == item
    rest = listed(command, "replay", "--accession", order.accession, "--after", named[0])
    assert [each["id"] for each in rest] == named[1:]


def test_without_a_clock_what_came_later_stays_also_when_a_replay_is_replayed(
    running: Broker, command: Command
) -> None:
    order, refused_one = new_order(), new_order()
    for each, code in ((order, "CT"), (refused_one, "KAPPA")):
        for control in (b"NW", b"CA"):
            message = edited(house_order(each, code), ("ORC", 1, control), ("MSH", 7, b""))
            send(running.hl7, message)
    knows(running, "KAPPA", "CT", command)
    for each in (order, refused_one):
        listed(command, "replay", id_of_first(running, each.accession))
        assert of_accession(running, each) == []
        newest = listed(command, "log", "--limit", "1")[0]
        assert newest["replay_of"]
        listed(command, "replay", newest["id"])
        assert of_accession(running, each) == []


def test_large_payloads_that_nobody_reads_are_no_obstacle_but_half_a_message_is(
    running: Broker, command: Command
) -> None:
    order = new_order()
    document = b"OBX|1|ED|1^PDF||" + b"QUJD" * 3000 + b"\r"
    message = house_order(order, "THETA") + document
    assert send(running.hl7, message).code == "AE"
    knows(running, "THETA", "CT", command)
    (done,) = listed(command, "dead", "replay")
    assert done["outcome"] == "applied"
    assert command("dead")[0] == 0
    assert len(of_accession(running, order)) == 1
    answer = send(running.hl7, message)
    assert read_acknowledgement(answer.raw).code == "AA"
    assert listed(command, "log", "--limit", "1")[0]["outcome"] == "repeat"

    long = house_order(new_order(), "CT") + b"NTE|1||" + b"x" * 300_000 + b"\r"
    assert send(running.hl7, long).code == "AA"
    newest = listed(command, "log", "--limit", "1")[0]["id"]
    code, said, _ = command("replay", newest, "--dry-run")
    assert code == 1
    assert "unsound" in said
    assert "only its beginning" in said


def test_a_replay_that_means_nothing_in_particular_or_nothing_at_all_does_nothing(
    command: Command,
) -> None:
    assert command("replay")[0] == 2
    code, _, wrong = command("replay", "1abc")
    assert (code, wrong) == (1, "no message 1abc is in the archive\n")
    code, said, wrong = command("replay", "--accession", "NOBODY'S")
    assert (code, said, wrong.strip()) == (1, "", "no such message")
