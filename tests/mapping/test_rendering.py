"""Status messages: an event by DICOM keyword becomes an ORM^O01 that hl7apy accepts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.hl7.message import parse
from broker.mapping.checking import check
from broker.mapping.loading import Bundle
from broker.mapping.standards.judging import judged
from tests.houses import GOES_OUT

NOW = datetime(2026, 3, 16, 9, 35, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "AccessionNumber": "A1",
    "PlacerOrderNumberImagingServiceRequest": "P1",
    "OrderPlacerIdentifierSequence": [{"LocalNamespaceEntityID": "HIS"}],
    "FillerOrderNumberImagingServiceRequest": "F1",
    "RequestedProcedureID": "RP1",
    "ScheduledProcedureStepID": "S1",
    "StudyInstanceUID": "1.2.3",
    "Modality": "CT",
    "PerformedStationAETitle": "CT1",
    "PerformedProcedureStepStartDate": "20260316",
    "PerformedProcedureStepStartTime": "093512",
    "PatientName": "Größler & Co^Änne^Maria^Frau^Jr.=グ",
    "PatientID": "4711",
    "IssuerOfPatientID": "NORTH",
    "PatientBirthDate": "19800101",
    "PatientSex": "F",
    "RequestedProcedureDescription": "CT | head\r\nplain",
    "RequestedProcedureCodeSequence": [
        {"CodeValue": "X1", "CodingSchemeDesignator": "L", "CodeMeaning": "CT head"}
    ],
}


def rendered(bundle: Bundle, **changed: Any) -> str:
    return bundle.outbound["status-orm"].render(EVENT | changed, control_id="B1", now=NOW)


@pytest.mark.parametrize(
    ("status", "code"), [("IN PROGRESS", "IP"), ("COMPLETED", "CM"), ("DISCONTINUED", "DC")]
)
def test_each_status_is_an_orm_that_hl7apy_accepts(bundle: Bundle, status: str, code: str) -> None:
    text = rendered(bundle, PerformedProcedureStepStatus=status)
    order = parse(text).first("ORC")
    assert order is not None
    assert [order.field(number) for number in (1, 2, 3, 5)] == ["SC", "P1^HIS", "F1", code]
    assert judged(text) == ()


def test_the_message_is_the_same_for_the_same_event(bundle: Bundle) -> None:
    assert rendered(bundle) == rendered(bundle)


def test_names_and_texts_are_escaped_and_reordered(bundle: Bundle) -> None:
    message = parse(rendered(bundle))
    patient, request = message.first("PID"), message.first("OBR")
    assert patient is not None
    assert request is not None
    assert patient.field(5) == "Größler \\T\\ Co^Änne^Maria^Jr.^Frau"
    assert request.field(4) == "X1^CT \\F\\ head\\.br\\plain^L"


def test_an_attribute_with_several_values_is_a_field_with_repetitions(bundle: Bundle) -> None:
    text = rendered(bundle, PerformedStationName=["CT", "ROOM^1"])
    assert fields(text, "OBX-5") == ["CT~ROOM\\S\\1"]
    text = rendered(bundle, PerformedStationAETitle=["CT1", "CT2"])
    assert fields(text, "OBR-21") == ["CT1~CT2"]


def test_every_group_of_a_name_is_a_repetition_from_2_5_1_on(bundle: Bundle) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    for mapping in ("status-omg", "status-omi", "status-oru"):
        text = bundle.outbound[mapping].render(
            EVENT | {"PatientName": name}, control_id="B1", now=NOW
        )
        assert fields(text, "PID-5") == [
            "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"
        ]
        assert judged(text) == ()
    assert fields(rendered(bundle, PatientName=name), "PID-5") == ["Yamada^Tarou"]


def test_the_header_says_what_and_when(bundle: Bundle) -> None:
    header = parse(rendered(bundle)).first("MSH")
    assert header is not None
    found = [header.field(number) for number in (7, 9, 10, 11, 12, 18)]
    assert found == ["20260316093512", "ORM^O01", "B1", "P", "2.3.1", "UNICODE UTF-8"]


def test_a_segment_of_which_the_event_says_nothing_is_left_out(bundle: Bundle) -> None:
    text = bundle.outbound["status-orm"].render(
        {"PerformedProcedureStepStatus": "COMPLETED", "RequestedProcedureID": "RP1"},
        control_id="B2",
        now=NOW,
    )
    assert [line[:3] for line in text.split("\r") if line] == ["MSH", "ORC", "OBR"]
    assert judged(text) == ()


def test_the_reason_for_stopping_goes_with_it(bundle: Bundle) -> None:
    reason = {"CodeValue": "110500", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Cancelled"}
    text = rendered(
        bundle,
        PerformedProcedureStepStatus="DISCONTINUED",
        PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason],
    )
    order = parse(text).first("ORC")
    assert order is not None
    assert order.field(16) == "110500^Cancelled^DCM"


WHOLE = EVENT | {
    "PerformedProcedureStepEndDate": "20260316",
    "PerformedProcedureStepEndTime": "100000",
    "IssuerOfAccessionNumberSequence": [{"LocalNamespaceEntityID": "RIS"}],
}


def fields(text: str, *names: str) -> list[str]:
    """Fields as ORC-5 or OBX[2]-5, '-' where there is no such segment."""
    found = []
    for name in names:
        segment, number = name.split("-")
        each = parse(text).all(segment[:3])[int(segment[4:-1] or 1) - 1 :]
        found.append(each[0].field(int(number)) if each else "-")
    return found


@pytest.mark.parametrize("mapping", ["status-orm", "status-omg", "status-omi", "status-oru"])
@pytest.mark.parametrize(
    ("status", "code", "result"),
    [("IN PROGRESS", "IP", "I"), ("COMPLETED", "CM", "R"), ("DISCONTINUED", "DC", "X")],
)
def test_every_shipped_message_says_each_status_and_hl7apy_accepts_it(
    bundle: Bundle, mapping: str, status: str, code: str, result: str
) -> None:
    event = WHOLE | {"PerformedProcedureStepStatus": status}
    text = bundle.outbound[mapping].render(event, control_id="B1", now=NOW)
    assert fields(text, "ORC-5", "OBR-25", "OBR-18") == [code, result, "A1"]
    assert fields(text, "ORC-2", "ORC-3", "OBR-2", "OBR-3") == ["P1^HIS", "F1", "P1^HIS", "F1"]
    assert judged(text) == ()


@pytest.mark.parametrize(
    ("mapping", "header", "segments"),
    [
        ("status-orm", ["ORM^O01", "2.3.1"], "MSH PID ORC OBR ZDS"),
        ("status-omg", ["OMG^O19^OMG_O19", "2.5.1"], "MSH PID ORC TQ1 OBR OBX OBX"),
        ("status-omi", ["OMI^O23^OMI_O23", "2.5.1"], "MSH PID ORC TQ1 OBR IPC"),
        ("status-oru", ["ORU^R01^ORU_R01", "2.5.1"], "MSH PID ORC OBR OBX OBX"),
    ],
)
def test_each_message_has_the_structure_of_its_kind(
    bundle: Bundle, mapping: str, header: list[str], segments: str
) -> None:
    text = bundle.outbound[mapping].render(WHOLE, control_id="B1", now=NOW)
    assert fields(text, "MSH-9", "MSH-12") == header
    assert [line[:3] for line in text.split("\r") if line] == segments.split()


def test_begin_and_end_and_the_study_are_where_the_newer_messages_have_them(bundle: Bundle) -> None:
    begin, end, study = "20260316093512", "20260316100000", "1.2.3"
    omi = bundle.outbound["status-omi"].render(WHOLE, control_id="B1", now=NOW)
    assert fields(omi, "TQ1-7", "TQ1-8", "ORC-7") == [begin, end, ""]
    found = fields(omi, "IPC-1", "IPC-2", "IPC-3", "IPC-4", "IPC-5", "IPC-9")
    assert found == ["A1^RIS", "RP1", study, "S1", "CT^^DCM", "CT1"]
    omg = bundle.outbound["status-omg"].render(WHOLE, control_id="B1", now=NOW)
    assert fields(omg, "TQ1-7", "TQ1-8") == [begin, end]
    oru = bundle.outbound["status-oru"].render(WHOLE, control_id="B1", now=NOW)
    assert fields(oru, "OBR-7", "OBR-8") == [begin, end]
    for text in (omg, oru):
        found = fields(text, "OBX[1]-3", "OBX[1]-5", "OBX[1]-11", "OBX[2]-5")
        assert found == ["113014^DICOM Study^DCM", study, "O", "CT1"]


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("  ORC-5:", "  ORC-99:", "ORC-99 does not exist in HL7 2.3.1"),
        ("  ORC-5:", "  ORC5:", "'ORC5' is not a field"),
        ("  ORC-5:", "  ORC[0]-5:", "'ORC[0]-5' is not a field"),
        ("  ORC-5:", "  ORC[2]-99:", "ORC-99 does not exist in HL7 2.3.1"),
        ("ORM^O01", "ORM", "is not a message type"),
        ("ORM^O01", "ORM^O01^ORM_O01^X", "is not a message type"),
        ("StepStatus", "StepState", "did you mean 'PerformedProcedureStepStatus'?"),
        ("{const: SC}", "{const: SC, from: Modality}", "needs one source"),
        ("2.3.1", "2.3.9", "version: '2.3.9' is none — did you mean"),
    ],
)
def test_mistakes_in_what_goes_out_have_a_place(
    written: Callable[..., Path], old: str, new: str, fact: str
) -> None:
    assert any(fact in str(each) for each in check(written(GOES_OUT.replace(old, new))))


def test_an_example_that_hl7apy_refuses_keeps_the_mapping_out(
    written: Callable[..., Path],
) -> None:
    example = "examples:\n  - event: {Modality: CT}\n    expect: {ORC-1: SC}\n"
    text = GOES_OUT + "  OBR-24: Modality\n" + example
    assert any("hl7apy does not accept" in str(each) for each in check(written(text)))
