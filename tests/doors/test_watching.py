"""docs/watching.md: its commands work on a broker that runs, and tell what happened."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from broker.probe.orders import orm_o01
from broker.probe.ris import Answer, Sink, listening
from broker.probe.scanner import new_uid
from broker.settings import Settings
from broker.store import keys, outbox, sent
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, send, until
from tests.doors.commands import Command, command_of, typed
from tests.store.sending import delivered, take

pytestmark = pytest.mark.peer("redis-server")

DOC = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time


@pytest.fixture(scope="module")
def ris() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def broker(ris: Sink) -> Iterator[Broker]:
    with Broker(f"{CONFIG}ris: [{{name: ris, to: '{ris.address}'}}]\n").started() as running:
        yield running


@pytest.fixture
def command(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Command:
    return command_of(broker, capsys)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind} watching\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


def moments(command: Command, accession: str) -> list[dict[str, Any]]:
    code, said, complaint = command("trace", accession, "--json")
    assert code == 0, complaint
    return list(json.loads(said)["moments"])


def test_the_commands_of_the_documentation_work(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted(broker.hl7, orm_o01(new_order(accession="A1001")))
    monkeypatch.setenv("BROKER_CONFIG", str(broker.folder / "broker.yaml"))
    where = {"hl7": broker.hl7, "dicom": broker.dicom, "console": broker.console}
    bound = {name: str(place) for name, place in where.items()}
    monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        program, *words = shlex.split(line)
        assert program == ".venv/bin/broker"
        code, _, complaint = typed(capsys, *words)
        assert code == 0, (line, complaint)


def test_the_configuration_of_the_documentation_is_valid(tmp_path: Path) -> None:
    of_the_log, of_the_selftest = blocks("yaml")
    path = tmp_path / "broker.yaml"
    path.write_text(of_the_log + of_the_selftest, encoding="utf-8")
    settings = Settings.load(path, {})
    assert [settings.log.level_of(door) for door in ("orders", "modality")] == ["info", "debug"]
    assert [each.name for each in settings.delivered] == ["ris", "selftest"]
    assert [each.name for each in settings.destinations] == ["ris"]


TIME = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The person who asks sits half a day from the site."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_every_command_tells_times_of_the_site_not_of_the_machine(
    broker: Broker, command: Command
) -> None:
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    refused = orm_o01(new_order()).replace(b"|NW|", b"|QQ|")
    assert send(broker.hl7, refused).code == "AE"
    item = only(broker, order)
    title = broker.scanner.calling
    assert broker.scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000
    until(lambda: "received by" in command("show", order.accession)[1], "the sighting")
    until(lambda: f"{title}: last" in command("status")[1], "the counts")
    for words in (
        ("status",),
        ("ae", "list"),
        ("why", order.accession, "--aet", title),
        ("show", order.accession),
        ("mpps", "show", uid),
        ("map", "versions"),
        ("log",),
        ("dead",),
    ):
        _, said, complaint = command(*words)
        times = TIME.findall(said)
        assert times, (words, said, complaint)
        now = datetime.now(ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
        for each in times:
            told = datetime.strptime(each, "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - of the site
            assert abs(now - told) < timedelta(hours=1), (words, said)


def test_an_exam_that_has_no_end_is_shown_until_a_person_says_how_it_ended(
    broker: Broker, command: Command
) -> None:
    """Its order was due long ago; `keep` does not touch it."""
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0x0000
    until(lambda: "have no end: see `broker list --unended`" in command("status")[1], "the count")
    assert "have no end: `broker list --unended`" in command("doctor")[1]
    assert order.accession in command("list", "--unended")[1]
    code, _, complaint = command("mpps", "close", uid, "--as", "COMPLETED", "--reason", "seen")
    assert code == 0, complaint
    assert order.accession not in command("list", "--unended")[1]
    assert command("list", "--unended", "--invisible")[0] == 2


def test_an_order_is_followed_through_all_doors_without_its_patient(
    broker: Broker, ris: Sink, command: Command
) -> None:
    ris.answer_next(Answer.AA, Answer.AE)
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    item = only(broker, order)
    assert broker.scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    code, _, complaint = command("mpps", "close", uid, "--reason", "seen to")
    assert code == 0, complaint
    until(
        lambda: (
            {"AA", "AE: waits in `broker dead`"}
            <= {m["outcome"] for m in moments(command, order.accession)}
        ),
        "both answers",
    )
    until(  # what AEs saw is written a little later
        lambda: any("C-FIND" in m["what"] for m in moments(command, order.accession)), "the query"
    )
    found = moments(command, order.accession)
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)
    told = {each["what"].split(",")[0]: each for each in found}
    assert [each["outcome"] for each in found].count("AE: waits in `broker dead`") == 1
    assert found[0]["door"] == "orders"
    assert found[0]["outcome"] == "applied, AA"
    assert found[0]["what"].startswith("ORM^O01 ")
    assert found[0]["ms"] >= 0
    assert told["C-FIND"]["peer"] == told["N-CREATE"]["peer"] == "CT1"
    assert (told["N-CREATE"]["id"], told["N-SET"]["id"]) == (uid, uid)
    assert told["N-SET"]["outcome"].startswith("0000, COMPLETED")
    assert (told["IN PROGRESS"]["peer"], told["IN PROGRESS"]["outcome"]) == ("ris", "AA")
    assert (told["mpps close"]["door"], told["mpps close"]["outcome"]) == ("by hand", "seen to")
    _, text, _ = command("trace", order.accession)
    assert len(text.splitlines()) == len(found)
    person = order.patient
    assert not [word for word in (person.patient_id, "MIRJAM") if word in text + json.dumps(found)]


def test_what_a_ris_did_not_take_at_once_is_told_with_its_tries(
    broker: Broker, ris: Sink, command: Command
) -> None:
    order, uid = new_order(), new_uid()
    accepted(broker.hl7, orm_o01(order))
    ris.answer_next(Answer.AR)
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0x0000
    until(
        lambda: [m for m in moments(command, order.accession) if m["outcome"] == "AA at try 2"],
        "the second try",
    )


def test_an_order_that_was_refused_is_traced_and_one_that_nobody_sent_is_not(
    broker: Broker, command: Command
) -> None:
    order = new_order()
    refused = orm_o01(order).replace(order.patient.patient_id.encode(), b"")
    assert send(broker.hl7, refused).code == "AE"
    [only_one] = moments(command, order.accession)
    assert only_one["outcome"].startswith("refused, AE: ")
    code, said, complaint = command("trace", "A-NEVER-SENT")
    assert (code, said) == (1, "")
    assert "nothing is known of the accession number A-NEVER-SENT" in complaint


def test_an_exam_of_which_no_order_is_known_is_traced_by_the_number_its_scanner_named(
    broker: Broker, command: Command
) -> None:
    order, stranger = new_order(), new_order()
    accepted(broker.hl7, orm_o01(order))
    begun = only(broker, order)
    uids = {accession: new_uid() for accession in ("TYPED-7", order.accession)}
    known = {order.accession: "; its accession number is of another patient"}
    for accession, uid in uids.items():
        told = {**begun, "AccessionNumber": accession, "StudyInstanceUID": new_uid()}
        told |= {"PatientID": stranger.patient.patient_id, "PatientName": "ELSE^SOMEBODY"}
        assert broker.scanner.mpps_start(told, uid=uid, now=NOW) == 0x0000
        exam = moments(command, accession)[-1]
        assert (exam["what"], exam["id"]) == ("N-CREATE", uid)
        why = "no scheduled step found" + known.get(accession, "")
        assert exam["outcome"] == f"0000, IN PROGRESS; {why}"
    code, listed, _ = command("mpps", "list", "--json")
    rows = {row["mpps"]: row for row in json.loads(listed)}
    assert code == 0
    assert {a: rows[uid]["accession"] for a, uid in uids.items()} == {a: a for a in uids}
    assert rows[uids[order.accession]]["to_look_at"].endswith(known[order.accession])
    assert "see `broker trace TYPED-7`" in command("show", "TYPED-7")[2]


def test_what_was_sent_is_bounded_and_expires(broker: Broker) -> None:
    box = f"T|{new_order().accession}"
    for number in range(sent.AT_MOST + 3):
        event = outbox.Event("none", box, f"S{number}", 1.0, "m", "IN PROGRESS", b"MSH|")
        for words in outbox.adding(event):
            broker.store.redis.execute_command(*words)
        assert take(broker.store, order=box, ris="none")
        one = sent.Sent("none", event.control_id, "IN PROGRESS", 1.0, 2.0, "done", "AA", 1, 0.1)
        assert delivered(broker.store, event.control_id, order=box, ris="none", told=one) == []
    kept = broker.store.run(sent.of(box))
    assert len(kept) == sent.AT_MOST
    assert kept[-1].control_id == f"S{sent.AT_MOST + 2}"
    assert 0 < broker.store.redis.ttl(keys.sent(box)) <= 3600


def test_the_settings_for_doors_apart_are_settings() -> None:
    [text] = re.findall(r"^```yaml apart\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    selftest = Settings.model_validate(yaml.safe_load(text)).selftest
    assert [f"{each}" for each in selftest.peers] == [f"{selftest.sink.host}/32"]
