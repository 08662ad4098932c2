"""What a cancel names, and cannot be used, never makes it about more than was meant."""

from __future__ import annotations

import pytest

from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

LONG = "X" * 17
LATER = "20260316120100"


@pytest.fixture
def two_steps(ris: Ris) -> Ris:
    steps = (orc(), obr(procedure="RP1", step="S1"), orc(), obr(procedure="RP1", step="S2"))
    assert ris.send(hl7("ORM^O01", PID, *steps)) == ["AA"]
    assert ris.lines("ScheduledProcedureStepID") == [("S1",), ("S2",)]
    return ris


@pytest.mark.parametrize(
    ("named", "place"),
    [
        (obr(procedure="RP1", step=LONG), b"OBR^1^20"),
        (obr(procedure=LONG), b"OBR^1^19"),
        (obr(LONG), b"OBR^1^18"),
    ],
)
@pytest.mark.parametrize("control", ["CA", "DC", "HD"])
def test_a_cancel_by_an_identifier_that_is_too_long_is_refused_with_its_place(
    two_steps: Ris, control: str, named: str, place: bytes
) -> None:
    (answer,) = two_steps.answers(hl7("ORM^O01", PID, orc(control), named, sent=LATER))
    assert b"MSA|AE|" in answer
    assert place in answer
    assert two_steps.lines("ScheduledProcedureStepID") == [("S1",), ("S2",)]


def test_a_cancel_by_a_study_uid_that_is_none_is_refused(two_steps: Ris) -> None:
    zds = "ZDS|1.2.03.4^^Application^DICOM"
    assert two_steps.send(hl7("ORM^O01", PID, orc("CA"), obr(), zds, sent=LATER)) == ["AE"]
    assert len(two_steps.lines()) == 2


def test_a_cancel_by_one_step_ends_that_one(two_steps: Ris) -> None:
    cancel = hl7("ORM^O01", PID, orc("CA"), obr(procedure="RP1", step="S2"), sent=LATER)
    assert two_steps.send(cancel) == ["AA"]
    assert two_steps.lines("ScheduledProcedureStepID") == [("S1",)]
