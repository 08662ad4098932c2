"""A replayed message counts as of when it came, unless its sender's clock says that it is newer."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.applied import Sender
from broker.worklist.changes import Action
from broker.worklist.finding import Known
from tests.worklist.speaking import group, listed, said, say, sender, statuses

NW, XO, CA, A08, A40 = (
    Action.SCHEDULE,
    Action.UPDATE,
    Action.CANCEL,
    Action.PATIENT,
    Action.MERGE,
)
R0, R1, R2 = (f"202601011200{second:02d}.000000" for second in range(3))
CLOCKS = ["", "20260101120000"]


def came(received: str, sent: str = "", **more: Any) -> Sender:
    return sender(sent, received=received, **more)


def again(received: str, sent: str = "", **more: Any) -> Sender:
    return came(received, sent, replayed=True, **more)


def name(known: Known) -> str:
    return str(listed(known)[0].attributes["PatientName"])


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("who", ["RIS|HOSP", "ADT|HOSP"])
def test_a_corrected_name_stays(clock: str, who: str) -> None:
    known = said(NW, group(PatientName="FIRST"), by=came(R0, clock))
    second = {"PatientID": "123", "PatientName": "SECOND"}
    known, _ = say(known, A08, second, by=came(R1, clock, name=who))
    known, _ = say(known, NW, group(PatientName="FIRST"), by=again(R0, clock))
    assert name(known) == "SECOND"


def test_a_correction_that_said_nothing_new_counts_as_well() -> None:
    known = said(NW, group(PatientName="FIRST"), by=came(R0))
    for received in (R1, R2):
        known, _ = say(known, A08, {"PatientID": "123", "PatientName": "SECOND"}, by=came(received))
    known, _ = say(known, NW, group(PatientName="BETWEEN"), by=again("20260101120001.500000"))
    assert name(known) == "SECOND"


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("clock_of_cancel", CLOCKS)
@pytest.mark.parametrize("who", ["RIS|HOSP", "HIS|HOSP"])
def test_a_cancelled_order_stays_cancelled(clock: str, clock_of_cancel: str, who: str) -> None:
    known = said(NW, group(), by=came(R0, clock))
    known, _ = say(known, CA, group(), by=came(R1, clock_of_cancel, name=who))
    known, applied = say(known, NW, group(), by=again(R0, clock))
    assert statuses(known) == ["CANCELLED"]
    assert "stale" in applied.notes


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_refused_order_that_was_cancelled_meanwhile_comes_cancelled(clock: str) -> None:
    known = said(CA, group(), by=came(R1))
    known, applied = say(known, NW, group(), by=again(R0, clock))
    assert statuses(known) == ["CANCELLED"]
    assert "cancelled before" in applied.notes
    known, _ = say(known, NW, group(), by=again(R0, clock))
    assert statuses(known) == ["CANCELLED"]


def test_a_refused_change_that_is_the_newest_by_its_clock_applies() -> None:
    known = said(NW, group(), by=came(R0, "20260101115900"))
    known, _ = say(known, XO, group(), by=came(R2, "20260101115901"))
    known, _ = say(known, XO, group(MedicalAlerts="LATEX"), by=again(R1, "20260101115902"))
    assert listed(known)[0].attributes["MedicalAlerts"] == "LATEX"


@pytest.mark.parametrize("clock", CLOCKS)
def test_with_nothing_in_between_a_replay_applies(clock: str) -> None:
    known = said(NW, group(), by=came(R0, clock))
    known, applied = say(known, NW, group(MedicalAlerts="LATEX"), by=again(R0, clock))
    assert applied.notes == ()
    assert listed(known)[0].attributes["MedicalAlerts"] == "LATEX"


def test_a_replay_hides_nothing_that_comes_after_it() -> None:
    known = said(NW, group(), by=came(R1))
    known, _ = say(known, NW, group(), by=again(R1))
    known, applied = say(known, CA, group(), by=came(R2))
    assert statuses(known) == ["CANCELLED"]
    assert applied.notes == ()


def test_a_person_may_force_it() -> None:
    known = said(NW, group(PatientName="FIRST"), by=came(R0))
    known, _ = say(known, CA, group(), by=came(R1))
    known, _ = say(known, A08, {"PatientID": "123", "PatientName": "SECOND"}, by=came(R1))
    known, _ = say(known, NW, group(PatientName="FIRST"), by=again(R0, force=True))
    assert (name(known), statuses(known)) == ("FIRST", ["SCHEDULED"])


def test_after_a_merge_the_survivor_keeps_the_name() -> None:
    known = said(NW, group(PatientName="OLD"), by=came(R0))
    prior = {
        "PatientID": "7",
        "PatientName": "NEW",
        "PriorPatientIDsSequence": [{"PatientID": "123"}],
    }
    known, _ = say(known, A40, prior, by=came(R1))
    known, _ = say(known, NW, group(PatientName="OLD"), by=again(R0))
    assert name(known) == "NEW"
