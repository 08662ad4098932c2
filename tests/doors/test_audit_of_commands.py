"""What is done by a command is in the audit trail too, by the name of whoever has done it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from getpass import getuser
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from broker.cli import run_command
from broker.probe.orders import orm_o01
from broker.probe.scanner import new_uid
from broker.settings.whole import shipped_mappings
from broker.store import keys, recall
from tests.audit.reading import event, kind, objects, participants, read, said
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, send, until
from tests.doors.test_refusals import edited

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 30)  # noqa: DTZ001 - a scanner writes local time
ORDER, PATIENT, EXAM = "110109", "110110", "110111"
EXPORT, IMPORT, ALERT = "110106", "110107", "110113"
Told = Callable[..., list[Xml.Element]]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(f"{CONFIG}audit: {{to: file, path: trail}}\n").started() as running:
        yield running


@pytest.fixture
def told(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a command and give what it has told the trail: messages whose process is a command."""

    def messages() -> list[Xml.Element]:
        lines = (broker.folder / "trail").read_bytes().splitlines()
        return [each for each in map(read, lines) if b"command:" in Xml.tostring(each)]

    def run(*words: str, code: int = 0) -> list[Xml.Element]:
        before = len(messages())
        got = run_command([*words, "--config", str(broker.folder / "broker.yaml")])
        assert got == code, "".join(capsys.readouterr())
        return messages()[before:]

    return run


def who(message: Xml.Element) -> str:
    """The one who asked for it."""
    (asked,) = [each for each in participants(message) if each["UserIsRequestor"] == "true"]
    return asked["UserID"]


def described(message: Xml.Element) -> str:
    return message.findtext("EventIdentification/EventOutcomeDescription") or ""


def numbers(message: Xml.Element) -> list[str]:
    return [each.attrib["Number"] for each in message.iter("Accession")]


def test_each_verb_for_orders_is_one_order_record_of_the_operator(broker: Broker, told: Told):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    number, deed = order.accession, ("--reason", "the RIS is away", "--operator", "eve")
    for verb, action, words in (
        ("edit", "U", ("--description", "CT neck")),
        ("cancel", "D", ()),
        ("reopen", "U", ()),
        ("complete", "U", ()),
    ):
        (message,) = told(verb, number, *words, *deed)
        assert (event(message), said(message)["EventActionCode"]) == (ORDER, action), verb
        assert who(message) == "eve"
        assert described(message) == f"{verb}: the RIS is away"
        assert numbers(message) == [number]
        patient = objects(message)["Patient Number"].attrib["ParticipantObjectID"]
        assert patient == order.patient.patient_id
    assert not told("reopen", number, *deed, "--dry-run")


def test_an_order_that_is_typed_is_created(broker: Broker, told: Told):
    accepted(broker.hl7, orm_o01(new_order()))  # whose issuer is that of the RIS
    words = ("--unidentified", "--modality", "CT", "--description", "CT head", "--station", "CT1")
    (message,) = told("add", *words, "--reason", "trauma", "--operator", "eve")
    assert (event(message), said(message)["EventActionCode"]) == (ORDER, "C")
    assert len(numbers(message)) == 1


def test_an_exam_put_right_is_a_procedure_record(broker: Broker, told: Told):
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0
    deed = ("--reason", "wrong entry", "--operator", "eve")
    over = ("close", uid, "--as", "COMPLETED")
    for words in (("unlink", uid), ("link", uid, order.accession), over):
        (message,) = told("mpps", *words, *deed)
        assert (event(message), who(message)) == (EXAM, "eve")
        assert described(message) == f"mpps {words[0]}: wrong entry"
        assert [each.attrib["UID"] for each in message.iter("MPPS")] == [uid]


def test_what_is_purged_is_deleted_by_number(broker: Broker, told: Told):
    gone, stays = new_order(), new_order()
    accepted(broker.hl7, orm_o01(gone), orm_o01(stays))
    uid = new_uid()
    assert broker.scanner.mpps_start(only(broker, stays), uid=new_uid(), now=NOW) == 0
    assert broker.scanner.mpps_start(only(broker, gone), uid=uid, now=NOW) == 0
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0
    days = ("--before", "2026-03-17", "--performed-before", "2100-01-01")
    assert not told("purge", *days, "--dry-run")
    found = told("purge", *days, "--yes")
    assert {event(each) for each in found} == {ORDER, EXAM}
    assert {said(each)["EventActionCode"] for each in found} == {"D"}
    assert gone.accession in [number for each in found for number in numbers(each)]
    assert stays.accession not in [number for each in found for number in numbers(each)]
    assert uid in [each.attrib["UID"] for message in found for each in message.iter("MPPS")]


def test_what_leaves_and_what_comes_by_file_is_export_and_import(
    broker: Broker, told: Told, tmp_path: Path
):
    accepted(broker.hl7, orm_o01(new_order()))
    lines, dump = str(tmp_path / "lines"), str(tmp_path / "dump")
    for words, code, file, role in (
        (("export", lines), EXPORT, lines, "110154"),
        (("backup", dump), EXPORT, dump, "110154"),
        (("import", lines), IMPORT, lines, "110155"),
    ):
        (message,) = told(*words)
        assert event(message) == code
        assert participants(message)[-1]["UserID"] == file
        assert participants(message)[-1]["role"] == role
        assert described(message).startswith(words[0])
    assert not told("import", lines, "--dry-run")


def test_what_is_dropped_or_replayed_is_told(broker: Broker, told: Told):
    assert send(broker.hl7, edited(orm_o01(new_order()), ("OBR", 24, b"NONE"))).code == "AE"
    (message,) = told("dead", "drop", "--all", "--reason", "tests")
    assert (event(message), said(message)["EventActionCode"]) == (ORDER, "D")
    assert described(message) == "dead drop of 1 messages: tests"
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    (newest,) = broker.archived(1)
    assert newest.orders
    (message,) = told("replay", "--accession", order.accession, "--force")
    assert (event(message), numbers(message)) == (ORDER, [order.accession])


def test_what_is_shown_of_patients_is_a_record_that_was_read(broker: Broker, told: Told):
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    newest = next(recall.newest_first(broker.store, recall.Selection()))
    number, person = order.accession, order.patient.patient_id
    identity = newest.id
    for words, description in (
        (("list",), "list"),
        (("list", "--json"), "list"),
        (("list", "--aet", "NEVERASKED"), "list"),
        (("show", number), "show"),
        (("why", number, "--aet", "NEVERASKED"), "why, for NEVERASKED"),
        (("log", "show", identity), f"log show {identity}"),
        (("log", "show", identity, "--raw"), f"log show {identity}"),
        (("dead", "show", identity), f"log show {identity}"),
    ):
        found = told(*words)
        assert {(event(each), said(each)["EventActionCode"]) for each in found} == {(ORDER, "R")}
        assert {described(each) for each in found} == {description}
        assert who(found[0]) == getuser()
        assert number in [each for message in found for each in numbers(message)], words
        assert person in {
            each.attrib["ParticipantObjectID"]
            for message in found
            for each in message.iter("ParticipantObjectIdentification")
        }, words
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0
    (message,) = told("mpps", "show", uid)
    assert (event(message), said(message)["EventActionCode"]) == (EXAM, "R")
    assert [each.attrib["UID"] for each in message.iter("MPPS")] == [uid]
    until(lambda: broker.store.redis.exists(keys.AES), "the scanner to be noted")
    for words in (("status",), ("log",), ("trace", number), ("ae", "list")):
        assert not told(*words), "no patient in it"


def test_other_mappings_are_a_security_alert_of_software_configuration(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "mappings"
    shutil.copytree(shipped_mappings(), folder)
    monkeypatch.setenv("BROKER_MAPPINGS", str(folder))
    mapping = folder / "minimal.yaml"
    mapping.write_text(f"{mapping.read_text()}# ours\n")
    for words in (("map", "reload"), ("map", "rollback")):
        (message,) = told(*words)
        assert (event(message), kind(message)) == (ALERT, "110131")
        assert described(message).startswith("mappings ")
    mapping.write_text("nonsense")
    assert not told("map", "reload", code=1)


def test_a_deed_is_done_though_the_trail_cannot_be_told(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    monkeypatch.setenv("BROKER_AUDIT__PATH", str(broker.folder / "broker.yaml" / "nowhere"))
    config = str(broker.folder / "broker.yaml")
    words = ["cancel", order.accession, "--reason", "away", "--config", config]
    assert run_command(words) == 0
    complaint = capsys.readouterr().err
    assert "done, but the audit trail could not be told: " in complaint
    assert kind(read((broker.folder / "trail").read_bytes().splitlines()[0])) == "110120"
