"""The orders of a message, or its patients, and which segments belong to each."""

from __future__ import annotations

import pytest

from broker.hl7.message import by_patient, groups, parse
from broker.hl7.refusal import Refusal

MSH = "MSH|^~\\&|RIS|H|MWL|R|20260316||ORM^O01|1|P|2.3.1\r"


def names(raw: str) -> list[list[str]]:
    return [
        [one.raw for one in group.segments[2:]] for group in groups(parse(MSH + "PID|1\r" + raw))
    ]


def test_each_order_has_the_header_and_its_own_segments() -> None:
    """ORC up to the next ORC."""
    found = groups(parse(MSH + "PID|1\rORC|NW|1\rOBR|1\rIPC|a|||1\rIPC|a|||2\rORC|NW|2\rOBR|2\r"))
    assert [group.index for group in found] == [1, 2]
    assert [[one.name for one in group.segments] for group in found] == [
        ["MSH", "PID", "ORC", "OBR", "IPC", "IPC"],
        ["MSH", "PID", "ORC", "OBR"],
    ]
    orc = found[1].first("ORC")
    assert orc is not None
    assert (orc.sequence, orc.field(2), len(found[0].all("IPC"))) == (2, "2", 2)


@pytest.mark.parametrize(
    ("tail", "place"),
    [
        ("PID|1||A\rORC|NW|1\rOBR|1\rPID|2||B\rORC|NW|2\rOBR|2\r", "AE 100 PID^2^3"),
        ("PID|1||A\rORC|NW\rOBR|1\rIPC|A1\rIPC|A2\r", "AE 102 IPC^2^1"),
        ("PID|1||A\rORC|NW\rOBR|1\rIPC|A1|R1|1.1\rIPC|A1|R1|1.2\r", "AE 102 IPC^2^3"),
        ("PID|1||A\rORC|NW\rOBR|1\rIPC|A1|||S1\rIPC|A1|||S1\r", "AE 205 IPC^2^4"),
    ],
)
def test_what_would_put_an_exam_in_the_wrong_place_is_refused(tail: str, place: str) -> None:
    """Two patients, two requested procedures under one OBR, two steps of one ID."""
    with pytest.raises(Refusal) as refused:
        groups(parse(MSH + tail))
    assert str(refused.value).startswith(place)


def test_the_same_patient_twice_is_one_patient() -> None:
    """Some engines repeat PID before each ORC, and some add an empty one."""
    tail = "PID|1||A\rORC|NW|1\rOBR|1\rPID|2||A\rPID\rORC|NW|2\rOBR|2\r"
    assert len(groups(parse(MSH + tail))) == 2


def test_z_segments_at_the_end_belong_to_all_that_have_none() -> None:
    """One ZDS for two orders, or one each."""
    assert names("ORC|1\rOBR|1\rORC|2\rOBR|2\rZDS|9\r") == [
        ["ORC|1", "OBR|1", "ZDS|9"],
        ["ORC|2", "OBR|2", "ZDS|9"],
    ]
    assert names("ORC|1\rOBR|1\rZDS|8\rORC|2\rOBR|2\rZDS|9\r") == [
        ["ORC|1", "OBR|1", "ZDS|8"],
        ["ORC|2", "OBR|2", "ZDS|9"],
    ]


def test_a_second_request_under_one_order_is_an_order_of_its_own() -> None:
    """It shares ORC and what stands before the first OBR; nothing is dropped."""
    assert names("ORC|1\rTQ1|1\rOBR|1\rNTE|1\rOBR|2\rNTE|2\r") == [
        ["ORC|1", "TQ1|1", "OBR|1", "NTE|1"],
        ["ORC|1", "TQ1|1", "OBR|2", "NTE|2"],
    ]


def test_requests_without_orders_are_grouped_too() -> None:
    """And a message without either has no groups."""
    assert names("OBR|1\rNTE|1\rOBR|2\r") == [["OBR|1", "NTE|1"], ["OBR|2"]]
    assert names("EVN|A08\r") == []


def test_each_pid_begins_a_patient_of_its_own() -> None:
    """A40 repeats PID and MRG; what stands before the first PID is everybody's."""
    text = "MSH|^~\\&|A\rEVN|A40\rPID|1||7\rMRG|8\rPV1|1|I\rPID|2||9\rMRG|10\r"
    patients = by_patient(parse(text))
    assert [patient.index for patient in patients] == [1, 2]
    assert [[segment.name for segment in patient.segments] for patient in patients] == [
        ["MSH", "EVN", "PID", "MRG", "PV1"],
        ["MSH", "EVN", "PID", "MRG"],
    ]
    assert by_patient(parse("MSH|^~\\&|A\rEVN|A40\r")) == []


def test_too_many_orders_or_patients_are_refused() -> None:
    """500 is the limit, since others wait meanwhile; less of them where they share much."""
    assert len(groups(parse(MSH + "ORC|NW\rOBR|1\r" * 500))) == 500
    assert len(by_patient(parse(MSH + "PID|1\r" * 500))) == 500
    for orders in (MSH + "ORC|NW\r" * 501, MSH + "NTE|1\r" * 100 + "ORC|NW\r" * 201):
        with pytest.raises(Refusal, match="more than") as refused:
            groups(parse(orders))
        assert refused.value.code == "100"
    with pytest.raises(Refusal, match="500 patients"):
        by_patient(parse(MSH + "PID|1\r" * 501))
