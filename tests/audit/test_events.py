"""What an audit message says of each event, by the tables of PS3.15 A.5.3."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime

import pytest

from broker.audit.events import Activity, Alarm, Event, Exam, Order, Query, Us
from broker.audit.schema import written
from broker.probe.orders import Envelope, adt_a08, numbered, omi_o23, orm_o01
from tests.audit.reading import event, kind, objects, participants, read, said

AT = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
US = Us("BROKER", "broker.example", "orders:0:17")


def told(happened: Event):  # type: ignore[no-untyped-def]
    return read(written(happened.message(US), US.title, "North Hospital"))


@pytest.mark.parametrize(("started", "code"), [(True, "110120"), (False, "110121")])
def test_application_activity_names_the_process(started: bool, code: str) -> None:
    root = told(Activity(AT, started))
    assert (event(root), kind(root), said(root)["EventActionCode"]) == ("110100", code, "E")
    assert said(root)["EventDateTime"] == "2026-03-16T09:30:00.000+00:00"
    (us,) = participants(root)
    assert (us["UserID"], us["role"]) == ("orders:0:17", "110150")
    assert us["AlternativeUserID"] == "AETITLES=BROKER"
    source = root.find("AuditSourceIdentification")
    assert source is not None
    assert source.attrib == {"AuditSourceID": "BROKER", "AuditEnterpriseSiteID": "North Hospital"}


def test_a_query_has_source_destination_and_the_identifier_as_it_came() -> None:
    identifier = bytes(range(256))
    root = told(Query(AT, "CT1", "BROKER", "10.1.2.3", identifier, "1.2.840.10008.1.2", 0))
    assert (event(root), said(root)["EventOutcomeIndicator"]) == ("110112", "0")
    scanner, us = participants(root)
    assert (scanner["UserID"], scanner["role"], scanner["UserIsRequestor"]) == (
        "CT1",
        "110153",
        "true",
    )
    assert (scanner["NetworkAccessPointID"], scanner["NetworkAccessPointTypeCode"]) == (
        "10.1.2.3",
        "2",
    )
    assert (us["role"], us["UserIsRequestor"], us["NetworkAccessPointTypeCode"]) == (
        "110152",
        "false",
        "1",
    )
    what = objects(root)["SOP Class UID"]
    assert what.attrib["ParticipantObjectID"] == "1.2.840.10008.5.1.4.31"
    assert b64decode(what.findtext("ParticipantObjectQuery") or "") == identifier
    detail = what.find("ParticipantObjectDetail")
    assert detail is not None
    assert detail.attrib["type"] == "TransferSyntax"
    assert b64decode(detail.attrib["value"]) == b"1.2.840.10008.1.2"


def test_a_query_that_failed_is_a_minor_failure_with_its_status() -> None:
    root = told(Query(AT, "CT1", "BROKER", "::1", b"", "1.2.840.10008.1.2", 0xA700))
    assert said(root)["EventOutcomeIndicator"] == "4"
    assert root.findtext("EventIdentification/EventOutcomeDescription") == "status A700"


@pytest.mark.parametrize(
    ("request_kind", "status", "action", "outcome"),
    [("N-CREATE", 0, "C", "0"), ("N-SET", 0x0107, "U", "0"), ("N-SET", 0x0110, "U", "4")],
)
def test_an_exam_names_its_study_and_its_patient(
    request_kind: str, status: int, action: str, outcome: str
) -> None:
    steps = [{"StudyInstanceUID": "1.2.3", "AccessionNumber": number} for number in ("A1", "A2")]
    attributes = {"PatientID": "4711", "PatientName": "Doe^Jane"}
    attributes |= {"ScheduledStepAttributesSequence": steps}  # type: ignore[dict-item]
    root = told(Exam(AT, "CT1", "10.1.2.3", request_kind, "1.2.9", status, attributes))
    assert event(root) == "110111"
    assert said(root)["EventActionCode"] == action
    assert said(root)["EventOutcomeIndicator"] == outcome
    study, patient = objects(root)["Study Instance UID"], objects(root)["Patient Number"]
    assert study.attrib["ParticipantObjectID"] == "1.2.3"
    assert [each.attrib["UID"] for each in study.iter("MPPS")] == ["1.2.9"]
    assert [each.attrib["Number"] for each in study.iter("Accession")] == ["A1", "A2"]
    assert patient.attrib["ParticipantObjectID"] == "4711"
    assert patient.attrib["ParticipantObjectTypeCode"] == "1"
    assert patient.findtext("ParticipantObjectName") == "Doe^Jane"


def test_an_exam_of_which_nothing_is_known_is_told_all_the_same() -> None:
    root = told(Exam(AT, "CT1", "10.1.2.3", "N-SET", "1.2.9", 0x0112, {}))
    assert set(objects(root)) == {"Study Instance UID", "Patient Number"}


ORDER = numbered(7)


@pytest.mark.parametrize(
    ("raw", "message_type", "code", "action"),
    [
        (orm_o01(ORDER), "ORM^O01", "110109", "C"),
        (omi_o23(ORDER), "OMI^O23", "110109", "C"),
        (orm_o01(ORDER, control="XO"), "ORM^O01", "110109", "U"),
        (orm_o01(ORDER, control="CA"), "ORM^O01", "110109", "D"),
        (adt_a08(ORDER.patient), "ADT^A08", "110110", "U"),
        (adt_a08(ORDER.patient).replace(b"A08", b"A04"), "ADT^A04", "110110", "C"),
    ],
)
def test_a_message_of_a_ris_is_an_order_record_or_a_patient_record(
    raw: bytes, message_type: str, code: str, action: str
) -> None:
    numbers = () if code == "110110" else (ORDER.accession,)
    root = told(Order(AT, "RIS|NORTH", "10.1.1.1", message_type, False, raw, numbers))
    assert (event(root), said(root)["EventActionCode"]) == (code, action)
    assert said(root)["EventOutcomeIndicator"] == "0"
    ris, _us = participants(root)
    assert (ris["UserID"], ris["NetworkAccessPointID"]) == ("RIS|NORTH", "10.1.1.1")
    patient = objects(root)["Patient Number"]
    assert patient.attrib["ParticipantObjectID"] == ORDER.patient.patient_id
    assert patient.findtext("ParticipantObjectName") == ORDER.patient.name
    assert [each.attrib["Number"] for each in root.iter("Accession")] == list(numbers)


def test_a_refused_message_is_a_minor_failure() -> None:
    root = told(Order(AT, "RIS|NORTH", "10.1.1.1", "ORM^O01", True, orm_o01(ORDER), ()))
    assert said(root)["EventOutcomeIndicator"] == "4"
    assert root.findtext("EventIdentification/EventOutcomeDescription") == "refused"


def test_a_merge_names_every_patient_and_odd_separators_are_followed() -> None:
    raw = adt_a08(ORDER.patient, envelope=Envelope()).replace(b"ADT^A08", b"ADT^A40")
    two = raw + b"PID|1||OTHER^^^NORTH||LAST^FIRST\r"
    root = told(Order(AT, "RIS|NORTH", "10.1.1.1", "ADT^A40", False, two, ()))
    ids = [each.attrib["ParticipantObjectID"] for each in root.iter() if each.attrib.get(
        "ParticipantObjectTypeCode") == "1"]  # fmt: skip
    assert ids == [ORDER.patient.patient_id, "OTHER"]
    odd = Order(AT, "R", "h", "ADT^A08", False, raw.replace(b"|", b"#"), ())
    patient = objects(told(odd))["Patient Number"]
    assert patient.attrib["ParticipantObjectID"] == ORDER.patient.patient_id


def test_a_security_alert_says_who_and_why() -> None:
    root = told(Alarm(AT, "CT1", "10.9.9.9", "it offers no TLS 1.2 or 1.3"))
    assert (event(root), kind(root)) == ("110113", "110126")
    assert said(root)["EventOutcomeIndicator"] == "8"
    description = root.findtext("EventIdentification/EventOutcomeDescription")
    assert description == "it offers no TLS 1.2 or 1.3"
    assert [each["UserID"] for each in participants(root)] == ["orders:0:17", "CT1"]


def test_whatever_a_peer_says_is_one_line_of_xml() -> None:
    hostile = "\x00\x1b[31m<a b='\"'>&\r\n]]>\ufffe"
    steps = [{"StudyInstanceUID": hostile, "AccessionNumber": hostile}]
    attributes = {"PatientID": hostile, "PatientName": hostile}
    attributes |= {"ScheduledStepAttributesSequence": steps}  # type: ignore[dict-item]
    for happened in (
        Exam(AT, hostile, hostile, "N-SET", hostile, 0, attributes),
        Alarm(AT, hostile, hostile, hostile),
        Order(
            AT, hostile, hostile, "ORM^O01", False, hostile.encode("utf-8", "replace"), (hostile,)
        ),
        Order(AT, "", "", "", False, b"\xff\xfe\x00", ()),
    ):
        raw = written(happened.message(US), US.title, "")
        assert b"\n" not in raw
        read(raw)
