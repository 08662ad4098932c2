"""Which RIS is told what, how much of an exam, in which letters; and what comes back to us."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.mapping.standards.judging import judged
from broker.probe.orders import Envelope, Patient, orm_o01
from broker.store import archive, outbox
from broker.store.outbox import Event
from broker.store.server import EmbeddedServer
from broker.worklist.mpps import ENDS_BEFORE_START
from tests.houses import few_mappings
from tests.modality.hospital import Hospital, Modality, hl7, new_order, new_uid

pytestmark = pytest.mark.peer("redis-server")
LATIN = """\
mapping: status-latin
extends: status-orm
direction: out
message: ORM^O01
version: 2.3.1
fields:
  MSH-18: {const: 8859/1}
"""
RIS: list[dict[str, Any]] = [
    {"name": "all"},
    {"name": "ct2", "aes": ["CT2"]},
    {"name": "ends", "states": ["COMPLETED", "DISCONTINUED"]},
    {"name": "west", "issuers": ["WEST"]},
    {"name": "progress", "progress": True},
    {"name": "latin", "mapping": "status-latin"},
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few mappings, and one that writes 8859/1."""
    folder = few_mappings(tmp_path_factory.mktemp("told") / "mappings")
    (folder / "status-latin.yaml").write_text(LATIN)
    return folder


@pytest.fixture(scope="module")
def hospital(redis: EmbeddedServer, told: Path) -> Iterator[Hospital]:
    ris = [{"to": "127.0.0.1:1", **each} for each in RIS]
    with Hospital.open(redis.url, told, ris=ris) as opened:
        yield opened


def waiting(hospital: Hospital, order: Any, ris: str = "all") -> list[Event]:
    box = f"{order.patient.issuer}|{order.accession}"
    return hospital.store.run(outbox.events(ris, box))


def states(hospital: Hospital, order: Any, ris: str) -> list[str]:
    return [hl7(event, "ORC", 5) for event in waiting(hospital, order, ris)]


def examined(hospital: Hospital, scanner: Modality, **patient: Any) -> Any:
    """An order of which the exam has begun and ended."""
    order = hospital.ordered(**patient)
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    return order


def test_each_ris_is_told_of_the_aes_states_and_issuers_that_it_wants(
    hospital: Hospital, scanner: Modality
) -> None:
    order = examined(hospital, scanner)
    found = {each["name"]: states(hospital, order, each["name"]) for each in RIS}
    assert found == {
        "all": ["IP", "CM"],
        "ct2": [],
        "ends": ["CM"],
        "west": [],
        "progress": ["IP", "CM"],
        "latin": ["IP", "CM"],
    }


def test_an_ae_and_an_issuer_that_are_wanted_are_told_of(hospital: Hospital) -> None:
    order = new_order(patient=Patient("W1", "DOE^WEST", issuer="WEST"))
    hospital.says(orm_o01(order, envelope=Envelope(facility="WEST")))
    with hospital.scanner("CT2") as scanner:
        uid = hospital.begins(scanner, order)
        assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert states(hospital, order, "ct2") == ["IP", "CM"]
    assert states(hospital, order, "west") == ["IP", "CM"]


def test_a_cancel_that_comes_too_late_is_told_whatever_states_a_ris_wants(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    hospital.begins(scanner, order)
    hospital.orders(order, control="CA", at=timedelta(minutes=5))
    assert [hl7(event, "ORC", 1) for event in waiting(hospital, order, "ends")] == ["UC"]


def test_one_message_goes_per_order_and_transition_and_of_progress_only_where_it_is_wanted(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    more = {"PerformedProcedureStepDescription": "second run"}
    assert scanner.set(uid, more).status == 0x0000
    assert scanner.set(uid, more).status == 0x0000  # the very same bytes: a repeat
    assert scanner.set(uid, {"PerformedProcedureStepDescription": "third"}).status == 0x0000
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert states(hospital, order, "all") == ["IP", "CM"]
    assert states(hospital, order, "progress") == ["IP", "IP", "IP", "CM"]
    ids = [event.control_id for event in waiting(hospital, order, "progress")]
    assert len(set(ids)) == 4


def test_statement_96_text_is_escaped_and_written_in_the_character_set_of_msh_18(
    hospital: Hospital, scanner: Modality
) -> None:
    order = examined(hospital, scanner, patient=Patient("L1", "MÜLLER-ŁOŚ^ZOË"))
    for event in waiting(hospital, order, "latin"):
        text = event.payload.decode("latin-1")
        assert "|8859/1\r" in text or "|8859/1|" in text
        assert "MÜLLER-?OS^ZOË" in text
    [first, _] = waiting(hospital, order, "all")
    assert "MÜLLER-ŁOŚ^ZOË" in first.payload.decode("utf-8")


def test_p17_an_exam_that_ends_before_it_began_is_told_as_the_scanner_said_and_noted(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    early = {**hospital.ended(uid), "PerformedProcedureStepEndTime": "010000"}
    assert scanner.set(uid, early).status == 0x0000
    last = waiting(hospital, order)[-1]
    assert (hl7(last, "OBR", 7), hl7(last, "OBR", 8)) == ("20260316093512", "20260316010000")
    performed = hospital.performed(uid)
    assert performed is not None
    assert ENDS_BEFORE_START in performed.tolerated


def test_p22_an_exam_of_a_thousand_series_is_told_in_a_message_of_ordinary_length(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    ended = hospital.ended(uid)
    [one] = ended["PerformedSeriesSequence"]
    image = {"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    images = [{**image, "ReferencedSOPInstanceUID": new_uid()} for _ in range(10)]
    series = [
        {**one, "SeriesInstanceUID": new_uid(), "ReferencedImageSequence": images}
        for _ in range(1000)
    ]
    assert scanner.set(uid, {**ended, "PerformedSeriesSequence": series}).status == 0x0000
    [_, last] = waiting(hospital, order)
    assert len(last.payload) < 4096
    assert len(outbox.dumped(last)) < 64 * 1024
    numbers = {fields[3].split("^")[0]: fields[5] for fields in segments(last, "OBX")}
    assert (numbers["SERIES"], numbers["INSTANCES"]) == ("1000", "10000")


def segments(event: Event, name: str) -> list[list[str]]:
    lines = event.payload.decode().split("\r")
    return [line.split("|") for line in lines if line.startswith(f"{name}|")]


def test_a_status_message_that_an_engine_sends_back_is_not_applied(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    [begun] = waiting(hospital, order)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    before = hospital.stored(order)
    count = len(waiting(hospital, order))
    renamed = begun.payload.replace(b"|BROKER|", b"|ENGINE|", 1)
    renumbered = begun.payload.replace(begun.control_id.encode(), b"E-1", 1)
    for message in (begun.payload, renamed, renumbered):
        hospital.says(message)  # AA, so that the engine does not send it for ever
        [kept] = hospital.store.run(archive.newest(1))
        assert (kept.outcome, kept.cause) == (
            "ignored",
            "a status message of ours that was sent back to us",
        )
    assert hospital.stored(order) == before
    assert len(waiting(hospital, order)) == count


def test_a_message_of_a_ris_whose_control_id_looks_like_ours_is_applied(
    hospital: Hospital,
) -> None:
    order = new_order()
    hospital.says(orm_o01(order, envelope=Envelope(control_id="0123456789ABCDEF0123")))
    assert hospital.statuses(order) == ["SCHEDULED"]


def test_an_order_of_a_sender_that_is_called_as_we_are_is_applied(hospital: Hospital) -> None:
    hospital.says(orm_o01(new_order(), envelope=Envelope(application="BROKER", facility="")))
    [kept] = hospital.store.run(archive.newest(1))
    assert kept.outcome == "applied"


def test_all_that_a_ris_needs_is_in_the_message_and_hl7apy_has_nothing_against_it(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    codes = [
        {"CodeValue": code, "CodingSchemeDesignator": "99X", "CodeMeaning": code}
        for code in ("P1", "P2")
    ]
    uid = hospital.begins(
        scanner, order, PerformedProtocolCodeSequence=codes, PerformedStationName="CT room 1"
    )
    ended = hospital.ended(uid)
    [one] = ended["PerformedSeriesSequence"]
    series = [{**one, "OperatorsName": "NIGHT^OWEN"}]
    assert scanner.set(uid, {**ended, "PerformedSeriesSequence": series}).status == 0x0000
    [_, last] = waiting(hospital, order)
    text = "\r".join(s for s in last.payload.decode().split("\r") if not s.startswith("ZDS"))
    assert judged(text) == ()
    said = {fields[3].split("^")[0]: fields[5] for fields in segments(last, "OBX")}
    assert said["PROTOCOLS"] == "P1, P2"
    assert said["STATION"] == "CT room 1"
    assert said["121126"] == uid
    assert [fields[1] for fields in segments(last, "OBX")] == ["1", "2", "3", "4", "5", "6"]
    assert hl7(last, "OBR", 34).startswith("&NIGHT&OWEN")
    assert hl7(last, "ZDS", 1).startswith(order.study_uid)
