"""An order goes in as HL7, scanners of three makes see it: names, steps, keys, changes."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE

from broker.probe.orders import Envelope, Order, Patient, Step, adt_a08, omi_o23, orm_o01
from broker.probe.scanner import STEP, WORKLIST, to_dataset, worklist_keys
from broker.worklist.attributes import ROWS, Kept
from tests.dicom.requestor import associate_rq, cancel_rq, find_rq, implicit
from tests.doors.actors import (
    Broker,
    accepted,
    find,
    new_order,
    of_accession,
    only,
    send,
    step_of,
)

pytestmark = [
    pytest.mark.peer("redis-server"),
    # pydicom counts the padding of a text of 64 characters, as the corpus has, as its 65th.
    pytest.mark.filterwarnings("ignore:The value length"),
]


# --- other people's programs


@pytest.mark.peer("dcmtk")
def test_findscu_of_dcmtk_sees_an_order_that_ten_lines_of_script_sent(
    broker: Broker, dcmtk_program: Callable[[str], Path]
) -> None:
    order = new_order()
    with socket.create_connection(broker.hl7, timeout=30) as sender:
        sender.sendall(b"\x0b" + orm_o01(order) + b"\x1c\x0d")
        assert b"MSA|AA|" in sender.recv(65536)
    host, port = broker.dicom
    keys = ["AccessionNumber=" + order.accession, "PatientName", "PatientID", "StudyInstanceUID"]
    step = f"{STEP}[0]."
    keys += [step + "Modality=CT", step + "ScheduledProcedureStepID"]
    told = subprocess.run(
        [dcmtk_program("findscu"), "-W", "-aet", "CT1", "-aec", "BROKER"]
        + [word for key in keys for word in ("-k", key)]
        + [host, str(port)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    said = told.stdout + told.stderr
    for value in (
        order.accession,
        order.patient.name,
        order.patient.patient_id,
        order.study_uid,
        order.steps[0].step_id,
    ):
        assert f"[{value}" in said
    assert said.count("(0008,0050)") == 1


@pytest.mark.peer("dcmtk")
def test_echoscu_of_dcmtk_is_answered(broker: Broker, dcmtk_program: Callable[[str], Path]) -> None:
    host, port = broker.dicom
    subprocess.run([dcmtk_program("echoscu"), host, str(port)], check=True, timeout=20)


def test_the_client_of_python_hl7_sends_an_order_and_reads_the_acknowledgement(
    broker: Broker,
) -> None:
    order = new_order()
    with MLLPClient(*broker.hl7) as client:
        raw = client.send_message(orm_o01(order, envelope=Envelope(control_id="PYHL7")))
    said = hl7.parse(raw.strip(b"\x0b\x1c\r").decode())
    assert str(said.segment("MSA")[1]) == "AA"
    assert str(said.segment("MSA")[2]) == "PYHL7"
    assert str(said.segment("MSH")[5]) == "PROBERIS"
    assert only(broker, order)["AccessionNumber"] == order.accession


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_pynetdicom_finds_in_the_transfer_syntax_it_asked_for(broker: Broker, syntax: str) -> None:
    order = new_order(patient=Patient(f"X{syntax[-1]}", "GRÖßLER^ÄNNE"))
    accepted(broker.hl7, orm_o01(order))
    asked = to_dataset(worklist_keys(accession=order.accession))
    (answer,) = ask(broker, asked, syntax)
    assert str(answer.PatientName) == "GRÖßLER^ÄNNE"
    assert answer.ScheduledProcedureStepSequence[0].Modality == "CT"


# --- names


@pytest.mark.parametrize(
    ("label", "codec", "name"),
    [
        ("UNICODE UTF-8", "utf-8", "Åkerström^Märta"),
        ("8859/1", "latin-1", "von der Aue^Jürgen"),
        ("UNICODE UTF-8", "utf-8", "Šťastná^Růžena"),
        ("8859/2", "iso8859-2", "Šťastná^Růžena"),
        ("", "utf-8", "Brontë^Zoë"),
        ("UNICODE UTF-8", "cp1252", "Größler^Änne"),
    ],
)
@pytest.mark.parametrize("asked", ["", "ISO_IR 100", "ISO_IR 192"])
def test_a_name_comes_out_as_it_was_written(
    broker: Broker, label: str, codec: str, name: str, asked: str
) -> None:
    order = new_order()
    person = replace(order.patient, name=name)
    message = orm_o01(replace(order, patient=person), envelope=Envelope(charset=label, codec=codec))
    accepted(broker.hl7, message)
    keys = worklist_keys(accession=order.accession)
    if asked:
        keys["SpecificCharacterSet"] = asked
    (answer,) = ask(broker, to_dataset(keys))
    assert str(answer.PatientName) == name
    carried = asked or "ISO_IR 100"  # the smallest that holds it, where none is asked for
    if "Š" in name:
        carried = "ISO_IR 192"
    assert answer.SpecificCharacterSet == carried


# --- steps and changes


def test_two_ipc_are_two_answers_of_one_study(broker: Broker) -> None:
    first, second = Step(step_id="ONE", station_ae="CT1"), Step(step_id="TWO", station_ae="CT2")
    order = new_order(first, second)
    accepted(broker.hl7, omi_o23(order))
    items = of_accession(broker, order)
    assert [step_of(i)["ScheduledProcedureStepID"] for i in items] == ["ONE", "TWO"]
    assert {i["StudyInstanceUID"] for i in items} == {order.study_uid}
    (at_two,) = find(broker, accession=order.accession, station_ae="CT2")
    assert step_of(at_two)["ScheduledProcedureStepID"] == "TWO"


def test_an_xo_moves_the_step(broker: Broker) -> None:
    order = new_order()
    moved = replace(
        order,
        start=order.start.replace(day=17, hour=14, minute=0),
        steps=(replace(order.steps[0], station_ae="CT7"),),
    )
    accepted(broker.hl7, orm_o01(order), orm_o01(moved, control="XO"))
    step = step_of(only(broker, order))
    assert step["ScheduledStationAETitle"] == "CT7"
    assert step["ScheduledProcedureStepStartDate"] == "20260317"
    assert step["ScheduledProcedureStepStartTime"] == "140000"
    assert not find(broker, accession=order.accession, station_ae="CT1")
    assert not find(broker, accession=order.accession, date="20260316")


@pytest.mark.parametrize("control", ["CA", "DC"])
def test_what_is_cancelled_is_hidden(broker: Broker, control: str) -> None:
    order, other = new_order(), new_order()
    accepted(broker.hl7, orm_o01(order), orm_o01(other))
    accepted(broker.hl7, orm_o01(order, control=control, status=control))
    assert of_accession(broker, order) == []
    assert find(broker, patient_id=order.patient.patient_id) == []
    assert len(of_accession(broker, other)) == 1


def test_an_a08_renames_a_patient_everywhere_and_nobody_else(broker: Broker) -> None:
    person = new_order().patient
    mine = [new_order(patient=person) for _ in range(3)]
    # The same ID of another issuer, and the same name of another ID, are other people.
    namesake = new_order(patient=replace(person, patient_id=person.patient_id + "B"))
    elsewhere = new_order(patient=replace(person, issuer="SOUTH"))
    accepted(broker.hl7, *(orm_o01(order) for order in (*mine, namesake, elsewhere)))
    renamed = replace(person, name="NEU^NAME", sex="M", birth_date="19810101")
    accepted(broker.hl7, adt_a08(renamed))
    for order in mine:
        item = only(broker, order)
        assert item["PatientName"] == "NEU^NAME"
        assert (item["PatientSex"], item["PatientBirthDate"]) == ("M", "19810101")
    assert only(broker, namesake)["PatientName"] == person.name
    assert only(broker, elsewhere)["PatientName"] == person.name
    by_name = find(broker, patient_name="NEU^NAME")
    assert {i["AccessionNumber"] for i in by_name} == {order.accession for order in mine}


def test_an_acknowledged_order_is_in_the_next_answer(broker: Broker) -> None:
    """Whichever of the two orders processes took it."""
    for _ in range(25):
        order = new_order()
        accepted(broker.hl7, orm_o01(order))
        only(broker, order)


# --- what comes back


def test_only_requested_attributes_come_back(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    asked = Dataset()
    asked.AccessionNumber = order.accession
    asked.PatientID = ""
    (answer,) = ask(broker, asked)
    assert {element.keyword for element in answer} == {"AccessionNumber", "PatientID"}
    step = Dataset()
    step.Modality = ""
    asked.ScheduledProcedureStepSequence = [step]
    (answer,) = ask(broker, asked)
    assert {element.keyword for element in answer} == {"AccessionNumber", "PatientID", STEP}
    assert {e.keyword for e in answer.ScheduledProcedureStepSequence[0]} == {"Modality"}


def test_type_2_is_zero_length_and_type_1_never_is(broker: Broker) -> None:
    """The order says as little as the mapping lets it."""
    order = new_order()
    lean = b"\r".join(
        [
            rb"MSH|^~\&|LEAN|NORTH|BROKER|NORTH|20260316080000||ORM^O01|LEAN1|P|2.3.1",
            f"PID|1||{order.patient.patient_id}||LEAN^MAN".encode(),
            f"ORC|NW|{order.placer}".encode(),
            f"OBR|1|{order.placer}||X1^Chest{'|' * 14}{order.accession}||||||CT".encode(),
        ]
    )
    accepted(broker.hl7, lean + b"\r")
    (answer,) = ask(broker, everything(order))
    step = answer.ScheduledProcedureStepSequence[0]
    for keyword, row in ROWS.items():
        holder = step if row.kept is Kept.STEP else answer
        if row.returned == "1":
            assert holder.get(keyword), keyword
        if row.returned == "2":
            assert keyword in holder, keyword
    assert answer["PatientBirthDate"].is_empty
    assert answer["PatientWeight"].is_empty
    assert answer["ReferringPhysicianName"].is_empty


def test_an_order_without_a_name_never_gives_an_empty_one(broker: Broker) -> None:
    order = new_order()
    nameless = replace(order, patient=replace(order.patient, name=""))
    answer = send(broker.hl7, orm_o01(nameless))
    if answer.code == "AA":
        (item,) = ask(broker, everything(order))
        assert item.PatientName
    else:
        assert "PID^1^5" in answer.error


def everything(order: Order) -> Dataset:
    """Every key of Table K.6-1."""
    asked, step = Dataset(), Dataset()
    for keyword, row in ROWS.items():
        if keyword != STEP:
            setattr(step if row.kept is Kept.STEP else asked, keyword, None)
    asked.ScheduledProcedureStepSequence = [step]
    asked.AccessionNumber = order.accession
    return asked


# --- what restricts


@pytest.fixture(scope="session")
def two_orders(whole: Broker) -> tuple[dict[str, str], dict[str, str]]:
    """Two orders that differ in everything, as what a scanner sees of them."""
    seen = []
    for modality, station, start, physician in (
        ("CT", "CTROOM", "20260401083000", "11&FRANKE&FELIX"),
        ("MR", "MRROOM", "20260402173000", "12&GROTE&GRETA"),
    ):
        order = new_order(Step(step_id=f"ST{modality}", modality=modality, station_ae=station))
        text = orm_o01(order).decode().replace("20260316093000", start)
        lines = text.split("\r")
        at = next(n for n, line in enumerate(lines) if line.startswith("OBR"))
        fields = lines[at].split("|")
        fields[34] = physician
        lines[at] = "|".join(fields)
        accepted(whole.hl7, "\r".join(lines).encode())
        item = only(whole, order)
        seen.append({**item, **step_of(item)})
    return seen[0], seen[1]


RESTRICTING = [
    ("ScheduledStationAETitle", True),
    ("ScheduledProcedureStepStartDate", True),
    ("ScheduledProcedureStepStartTime", True),
    ("Modality", True),
    ("ScheduledPerformingPhysicianName", True),
    ("PatientName", False),
    ("PatientID", False),
    ("AccessionNumber", False),
    ("StudyInstanceUID", False),
    ("RequestedProcedureID", False),
    ("ScheduledProcedureStepID", True),
]


@pytest.mark.parametrize(("keyword", "of_step"), RESTRICTING)
def test_each_matching_key_restricts(
    broker: Broker, two_orders: tuple[dict[str, str], dict[str, str]], keyword: str, of_step: bool
) -> None:
    for mine, other in (two_orders, two_orders[::-1]):
        assert mine[keyword]
        assert mine[keyword] != other[keyword]
        keys = worklist_keys()
        (keys[STEP][0] if of_step else keys)[keyword] = mine[keyword]
        seen = {item["AccessionNumber"] for item in broker.scanner.find(keys)}
        assert mine["AccessionNumber"] in seen
        assert other["AccessionNumber"] not in seen


def test_a_time_range_over_midnight_counts_from_the_first_day_to_the_last(
    broker: Broker, two_orders: tuple[dict[str, str], dict[str, str]]
) -> None:
    """Date and time together are one range (K.6.1.2 note): 1 April 17:00 to 2 April 08:00."""
    keys = worklist_keys(date="20260401-20260402")
    keys[STEP][0]["ScheduledProcedureStepStartTime"] = "1700-0800"
    assert broker.scanner.find(keys) == []
    keys[STEP][0]["ScheduledProcedureStepStartTime"] = "0800-1800"
    seen = [item["AccessionNumber"] for item in broker.scanner.find(keys)]
    assert seen == [order["AccessionNumber"] for order in two_orders]


def test_wildcards_and_case_of_a_name(broker: Broker) -> None:
    order = new_order()
    name = f"Mc{order.accession}^Séan"
    accepted(broker.hl7, orm_o01(replace(order, patient=replace(order.patient, name=name))))
    number = order.accession
    for pattern in (f"MC{number}*", f"mc{number}^se?n", f"*{number}*", f"Mc{number}^Séan"):
        seen = find(broker, patient_name=pattern)
        assert [item["AccessionNumber"] for item in seen] == [number], pattern
    assert find(broker, patient_name=f"Mc{number}") == []


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
def test_a_name_is_asked_for_in_the_character_set_of_the_query(
    broker: Broker, charset: str
) -> None:
    order = new_order()
    name = f"MÜLLER{order.accession}^JÖRG"
    accepted(broker.hl7, orm_o01(replace(order, patient=replace(order.patient, name=name))))
    keys = worklist_keys(patient_name=f"Mü*{order.accession}^jö*")
    keys["SpecificCharacterSet"] = charset
    assert [str(each.PatientName) for each in ask(broker, to_dataset(keys))] == [name]


# --- cancel


def test_a_c_cancel_ends_a_long_list(broker: Broker) -> None:
    people = [new_order(Step(modality="NM", station_ae="NM1")) for _ in range(60)]
    accepted(broker.hl7, *(orm_o01(order) for order in people))
    keys = worklist_keys(modality="NM")
    query = implicit(to_dataset(keys))
    with socket.create_connection(broker.dicom, timeout=30) as scanner:
        stream = scanner.makefile("rb")
        scanner.sendall(associate_rq())
        assert next_pdu(stream)[0] == 2
        scanner.sendall(find_rq(1, identifier=query) + cancel_rq(1))
        statuses = list(until_final(stream))
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 60
        scanner.sendall(find_rq(2, identifier=query))
        statuses = list(until_final(stream))
        assert statuses[-1] == 0x0000
        assert len(statuses) >= 61
        stream.close()


def next_pdu(stream: Any) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxI", stream.read(6))
    return kind, stream.read(length)


def until_final(stream: Any) -> Iterator[int]:
    """The statuses of the C-FIND-RSPs up to the one that is not pending."""
    status = 0xFF00
    while status in (0xFF00, 0xFF01):
        _, body = next_pdu(stream)
        while body:
            (length,) = struct.unpack(">I", body[:4])
            if body[5] & 1:
                rsp = dcmread(BytesIO(body[6 : 4 + length]), force=True)
                status = int(rsp[0x0000, 0x0900].value)
                yield status
            body = body[4 + length :]


def ask(broker: Broker, identifier: Dataset, syntax: str = ExplicitVRLittleEndian) -> list[Dataset]:
    """Ask with pynetdicom, in one transfer syntax."""
    ae = AE("CT1")
    ae.add_requested_context(WORKLIST, syntax)
    association = ae.associate(*broker.dicom, ae_title="BROKER")
    assert association.is_established
    assert association.accepted_contexts[0].transfer_syntax == [syntax]
    answers = list(association.send_c_find(identifier, WORKLIST))
    association.release()
    assert answers[-1][0].Status == 0x0000
    return [found for _, found in answers if found is not None]
