"""Bad input, sentence by sentence: said what and where, archived, counted, nothing half-stored."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO

from broker.probe.orders import Envelope, Order, omi_o23, orm_o01
from broker.probe.scanner import to_dataset, worklist_keys
from broker.store import reads
from broker.worklist.finding import Identifier
from tests.dicom.requestor import associate_rq, echo_rq, find_rq, implicit
from tests.doors.actors import (
    CONFIG,
    Broker,
    Closed,
    Line,
    accepted,
    new_order,
    of_accession,
    only,
    send,
    until,
)
from tests.houses import few_mappings

pytestmark = pytest.mark.peer("redis-server")


def edited(message: bytes, *fields: tuple[str, int, bytes]) -> bytes:
    """A message in which these fields of the first segment of that name say something else."""
    lines = message.split(b"\r")
    for name, number, text in fields:
        at = next(n for n, line in enumerate(lines) if line.startswith(name.encode()))
        parts = lines[at].split(b"|")
        number -= name == "MSH"
        parts += [b""] * (number + 1 - len(parts))
        parts[number] = text
        lines[at] = b"|".join(parts)
    return b"\r".join(lines)


# --- orders that are refused


@dataclass(frozen=True)
class Bad:
    """What makes a good order bad, and the answer that it deserves."""

    change: Callable[[bytes], bytes]
    code: str
    condition: str
    place: str


BAD: dict[str, Bad] = {
    "unknown message type": Bad(
        lambda m: edited(m, ("MSH", 9, b"MDM^T02")), "AR", "200", "MSH^1^9"
    ),
    "no PID-3": Bad(lambda m: edited(m, ("PID", 3, b"")), "AE", "101", "PID^1^3"),
    "no accession number": Bad(
        lambda m: edited(m, ("OBR", 18, b""), ("OBR", 3, b""), ("ORC", 3, b"")),
        "AE",
        "101",
        "OBR^1^18",
    ),
    "a byte of no character set": Bad(
        lambda m: edited(m, ("PID", 5, b"M\x81LLER^\xffX")), "AE", "102", ""
    ),
    "an unknown character set": Bad(
        lambda m: edited(m, ("MSH", 18, b"KLINGON")), "AE", "103", "MSH^1^18"
    ),
    "no modality that DICOM has": Bad(
        lambda m: edited(m, ("OBR", 24, b"RAD")), "AE", "103", "OBR^1^24"
    ),
    "an accession number too long": Bad(
        lambda m: edited(m, ("OBR", 18, b"ABCDEFGHIJKLMNOPQ")), "AE", "102", "OBR^1^18"
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("version", ["2.3.1", "2.5.1"])
def test_a_bad_order_is_told_what_and_where_and_leaves_nothing(
    broker: Broker, name: str, version: str
) -> None:
    bad, order = BAD[name], new_order()
    message = bad.change(orm_o01(order, envelope=Envelope(version=version)))
    answer = send(broker.hl7, message)
    assert answer.code == bad.code, answer.raw
    assert bad.condition in answer.error
    assert bad.place in answer.error
    assert order.patient.patient_id not in answer.raw.decode()
    refused = broker.archived(1)[0]
    assert refused.outcome == "refused"
    assert refused.raw == message
    assert bad.place in refused.cause
    nothing_of(broker, order)


def nothing_of(broker: Broker, order: Order) -> None:
    """Neither the order nor its patient is in the store."""
    named = [
        Identifier("accession", order.accession),
        Identifier("study", order.study_uid),
        Identifier("filler", f"NORTH|{order.filler}"),
        Identifier("placer", f"NORTH|{order.placer}"),
    ]
    read = broker.store.run(reads.orders_by(named))
    assert not read.known.orders
    asked = worklist_keys(patient_id=order.patient.patient_id)
    assert broker.scanner.find(asked) == []
    leftovers = list(broker.store.redis.scan_iter(f"*{order.patient.patient_id}*", 1000))
    assert leftovers == []


@pytest.mark.parametrize("garbage", [b"this is not HL7", b"\x00\xff\x16\x03\x01", b"MSH", b"MSH|^"])
def test_what_is_not_hl7_is_answered_archived_and_does_no_harm(
    broker: Broker, garbage: bytes
) -> None:
    order = new_order()
    with Line(broker.hl7) as line:
        answer = line.send(garbage)
        assert answer.code == "AR"
        assert line.send(orm_o01(order)).code == "AA"
    (found,) = [each for each in broker.archived() if each.raw == garbage][:1]
    assert found.outcome == "refused"
    only(broker, order)


def test_refusals_are_counted_by_reason(broker: Broker) -> None:
    name = "broker_orders_refused_total"
    before = broker.metric(name, reason="103")
    answered = broker.metric("broker_orders_messages_total", ack="AE")
    for _ in range(3):
        change = BAD["no modality that DICOM has"].change
        assert send(broker.hl7, change(orm_o01(new_order()))).code == "AE"
    until(lambda: broker.metric(name, reason="103") >= before + 3, "counted")
    assert broker.metric("broker_orders_messages_total", ack="AE") >= answered + 3


@pytest.mark.parametrize("bad_one", [0, 1])
def test_of_two_groups_of_which_one_is_bad_nothing_is_stored(broker: Broker, bad_one: int) -> None:
    one = new_order()
    two = new_order(patient=one.patient)
    message = orm_o01(one, two)
    groups = message.split(b"\rORC")
    groups[bad_one + 1] = groups[bad_one + 1].replace(b"|CT|", b"|RAD|")
    answer = send(broker.hl7, b"\rORC".join(groups))
    assert answer.code == "AE"
    assert f"OBR^{bad_one + 1}^24" in answer.error
    nothing_of(broker, one)
    nothing_of(broker, two)
    assert send(broker.hl7, message).code == "AA"
    assert len(of_accession(broker, one)) == len(of_accession(broker, two)) == 1


@pytest.mark.parametrize("control", ["NW", "XO", "CA"])
def test_an_order_of_another_patient_is_refused_and_the_patient_stays(
    broker: Broker, control: str
) -> None:
    order, stranger = new_order(), new_order()
    accepted(broker.hl7, orm_o01(order))
    before = only(broker, order)
    wrong = replace(order, patient=stranger.patient, description="other")
    answer = send(broker.hl7, orm_o01(wrong, control=control))
    assert answer.code == "AR"
    assert "205" in answer.error
    assert "PID^1^3" in answer.error
    assert only(broker, order) == before
    nothing_of(broker, replace(stranger))
    assert "refused" in {each.outcome for each in broker.archived(3)}


def test_another_patient_is_refused_by_study_and_order_number_too(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    for number in ("study_uid", "filler"):
        wrong = new_order(**{number: getattr(order, number)})
        answer = send(broker.hl7, omi_o23(wrong))
        assert (answer.code, "205" in answer.error) == ("AR", True), number
        assert of_accession(broker, wrong) == []


def test_half_a_message_then_silence_is_closed_at_the_deadline(broker: Broker) -> None:
    order = new_order()
    with Line(broker.hl7) as line:
        line.write(b"\x0b" + orm_o01(order)[:-20])
        began = time.monotonic()
        try:
            answer = line.answer()
            assert answer.code in ("AE", "AR")
        except (Closed, ConnectionError):
            pass
        assert 0.5 < time.monotonic() - began < 20
    nothing_of(broker, order)


def test_the_repeat_of_a_refused_message_is_judged_afresh(broker: Broker) -> None:
    order = new_order()
    bad = BAD["no PID-3"].change(orm_o01(order))
    assert send(broker.hl7, bad).code == send(broker.hl7, bad).code == "AE"
    accepted(broker.hl7, orm_o01(order))
    only(broker, order)


# --- scanners


def test_an_unreadable_identifier_fails_and_the_association_goes_on(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    good = implicit(to_dataset(worklist_keys(accession=order.accession)))
    with socket.create_connection(broker.dicom, timeout=30) as scanner:
        scanner.sendall(associate_rq())
        assert scanner.recv(65536)[0] == 2
        for broken in (good[:-3], b"\x08\x00\x50\x00\xff\xff\xff\x7fA", b"\xff" * 40):
            scanner.sendall(find_rq(1, identifier=broken))
            final = response(scanner)
            assert final.Status >> 12 in (0xA, 0xC)  # the failures of Table CC.2.8-2
            assert final.ErrorComment
            assert len(final.ErrorComment) <= 64
        scanner.sendall(echo_rq(2))
        assert response(scanner).Status == 0x0000
        scanner.sendall(find_rq(3, identifier=good))
        assert response(scanner).Status == 0xFF00


def response(scanner: socket.socket) -> Dataset:
    """The command set of the next response."""
    data = b""
    while len(data) < 12:
        data += scanner.recv(65536)
    assert data[0] == 4, data
    length = int.from_bytes(data[6:10], "big")
    while len(data) < 10 + length:
        data += scanner.recv(65536)
    return dcmread(DicomBytesIO(data[12 : 10 + length]), force=True)


def test_half_a_pdu_then_silence_is_closed_at_the_deadline(broker: Broker) -> None:
    with socket.create_connection(broker.dicom, timeout=30) as scanner:
        scanner.sendall(associate_rq())
        assert scanner.recv(65536)[0] == 2
        scanner.sendall(find_rq(1, identifier=b"x" * 100)[:30])
        began = time.monotonic()
        while scanner.recv(65536):
            pass
        assert 0.5 < time.monotonic() - began < 20
    assert broker.scanner.echo() == 0x0000


# --- mappings and configuration


def test_a_refused_message_is_taken_once_the_mapping_is_mended(
    new_broker: Callable[..., Broker],
) -> None:
    broker = new_broker(f"{CONFIG}mappings: rules\n".replace("processes: 2", "processes: 1"))
    rules = few_mappings(broker.folder / "rules")
    order = new_order()
    bad = edited(orm_o01(order), ("OBR", 24, b"HOUSECT"))
    broker.start()
    assert send(broker.hl7, bad).code == "AE"
    assert broker.stop() == 0
    with (rules / "tables" / "modalities.csv").open("a") as table:
        table.write("HOUSECT,CT\n")
    broker.start()
    assert send(broker.hl7, bad).code == "AA"
    only(broker, order)
    assert send(broker.hl7, bad).code == "AA"
    assert [each.outcome for each in broker.archived(3)].count("applied") == 1


def ran(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "broker.yaml").write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", folder / "broker.yaml"],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("BROKER_")},
    )


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ("hl7: {listen: '127.0.0.1:99999'}\n", "broker.yaml:1:"),
        ("data: data\nhl7: {lisen: '127.0.0.1:0'}\n", "broker.yaml:2:"),
        ("data: data\ntimezone: Mars/Olympus\n", "broker.yaml:2:"),
        ("data: [\n", "broker.yaml:"),
    ],
)
def test_a_bad_configuration_ends_with_78_and_the_place(
    tmp_path: Path, config: str, place: str
) -> None:
    ended = ran(tmp_path, config)
    assert ended.returncode == os.EX_CONFIG
    assert re.search(rf"{re.escape(place)}\d+", ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert not (tmp_path / "data").exists()


def test_a_bad_mapping_ends_with_78_and_the_place(tmp_path: Path) -> None:
    rules = few_mappings(tmp_path / "rules")
    text = (rules / "ihe-orders.yaml").read_text()
    line = next(n for n, each in enumerate(text.split("\n"), 1) if "PatientSex:" in each)
    (rules / "ihe-orders.yaml").write_text(text.replace("PatientSex:", "PatientSecks:", 1))
    ended = ran(tmp_path, f"{CONFIG}mappings: rules\n")
    assert ended.returncode == os.EX_CONFIG
    assert re.search(rf"ihe-orders\.yaml:{line}:\d+: ", ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
