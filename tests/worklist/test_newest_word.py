"""What a newer message does to what is stored: ranks, defaults that follow, what moves together."""

from __future__ import annotations

from typing import Any

import pytest

from broker.worklist.applied import NO_START
from broker.worklist.changes import FILLS_GAPS, Action, Attributes, Ranked
from broker.worklist.finding import Known
from broker.worklist.records import Facts
from tests.worklist.speaking import FILLER, group, listed, only_order, said, say, step

NW, XO, MOVE = Action.SCHEDULE, Action.UPDATE, Action.MOVE
DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
STATION = "ScheduledStationAETitle"
DESCRIPTION, CODE = "RequestedProcedureDescription", "RequestedProcedureCodeSequence"


def of(modality: Any, station: str, **more: Any) -> Attributes:
    """A step whose station is the table's for its modality."""
    return step(Modality=modality, **{STATION: Ranked(station, FILLS_GAPS, ("Modality",))}, **more)


def worked_out(value: str) -> Ranked:
    return Ranked(value, FILLS_GAPS, ())


def first_step(known: Any) -> Facts:
    return only_order(known).procedures[0].steps[0].facts


def where(known: Any) -> tuple[str, str]:
    facts = first_step(known)
    return facts.text("Modality"), facts.text(STATION)


@pytest.mark.parametrize("action", [NW, XO])
def test_a_station_by_default_follows_the_modality(action: Action) -> None:
    known, _ = say(said(NW, group(of("CT", "CT1"))), action, group(of("MR", "MR1")))
    assert where(known) == ("MR", "MR1")


def test_a_start_that_nobody_said_is_noted_unless_one_is_known() -> None:
    unsaid = {DATE: Ranked("20260316", FILLS_GAPS), TIME: Ranked("0815", FILLS_GAPS)}
    known, applied = say(Known(), NW, group(step(**unsaid)))
    assert applied.notes == (NO_START,)
    assert say(known, XO, group(step(**unsaid)))[1].notes == (NO_START,)

    known, applied = say(known, XO, group(step()))
    assert applied.notes == ()
    assert say(known, XO, group(step(**unsaid)))[1].notes == ()


def test_a_station_that_was_said_stays_whatever_the_modality() -> None:
    known, _ = say(said(NW, group(step())), XO, group(of("MR", "MR1")))
    assert where(known) == ("MR", "CT1")


def test_a_station_does_not_follow_a_modality_that_is_not_taken() -> None:
    known = said(NW, group(of("MR", "MR1")))
    for action in (XO, MOVE):
        known, _ = say(known, action, group(of(worked_out("CT"), "CT1")))
        assert where(known) == ("MR", "MR1")


def test_a_station_of_another_modality_is_no_station() -> None:
    with pytest.raises(Exception, match="ScheduledStationAETitle is in no message"):
        say(
            said(NW, group(of("CT", "CT1"))),
            XO,
            group({k: v for k, v in of("MR", "").items() if k != STATION}),
        )


def test_a_modality_by_the_procedure_follows_the_procedure_and_the_station_with_it() -> None:
    known = said(NW, group(of(worked_out("CT"), "CT1")))
    known, _ = say(known, XO, group(of(worked_out("MR"), "MR1")))
    assert where(known) == ("MR", "MR1")
    known, _ = say(known, XO, group(of("US", "US1")))
    known, _ = say(known, XO, group(of(worked_out("CT"), "CT1")))
    assert where(known) == ("US", "US1")


def test_a_default_of_the_clock_only_fills_a_gap() -> None:
    clock = {DATE: Ranked("20260301", FILLS_GAPS), TIME: Ranked("0801", FILLS_GAPS)}
    known, _ = say(
        said(NW, group(step(**clock))),
        XO,
        group(step(**{**clock, DATE: Ranked("20260302", FILLS_GAPS)})),
    )
    assert first_step(known).text(DATE) == "20260301"


@pytest.mark.parametrize("time", [worked_out("000000"), "1500"])
def test_another_day_takes_its_time_along(time: Any) -> None:
    """A day without a time is no appointment at the time of another day."""
    known, _ = say(said(NW, group(step())), XO, group(step(**{DATE: "20260109", TIME: time})))
    assert first_step(known).text(TIME) == ("000000" if time != "1500" else "1500")


def test_the_same_day_without_a_time_keeps_the_time() -> None:
    same = step(**{DATE: "20260101", TIME: worked_out("000000")})
    known, _ = say(said(NW, group(step())), XO, group(same))
    assert first_step(known).text(TIME) == "1930"


def test_a_day_that_is_not_taken_keeps_its_time() -> None:
    """Where a site ranks times, date and time of two messages make no appointment either."""
    stored = step(**{DATE: "20260101", TIME: worked_out("000000")})
    later = step(**{DATE: Ranked("20260109", 1), TIME: Ranked("1500", 1)})
    known, _ = say(said(NW, group(stored)), XO, group(later))
    facts = first_step(known)
    assert (facts.text(DATE), facts.text(TIME)) == ("20260101", "000000")


CT_HEAD = [{"CodeValue": "CTH", "CodeMeaning": "CT head"}]


def test_a_new_description_does_not_stand_beside_the_code_of_another_exam() -> None:
    known = said(NW, group(**{DESCRIPTION: "CT head", CODE: CT_HEAD}))
    known, _ = say(known, XO, group(**{DESCRIPTION: "MR knee"}))
    assert CODE not in listed(known)[0].attributes
    known, _ = say(known, XO, group(**{CODE: CT_HEAD}))
    assert listed(known)[0].attributes[DESCRIPTION] == "CT head"


def test_a_description_that_is_said_again_leaves_the_code() -> None:
    known = said(NW, group(**{DESCRIPTION: "CT head", CODE: CT_HEAD}))
    for message in ({DESCRIPTION: "CT head"}, {DESCRIPTION: worked_out("follow-up")}, {}):
        known, _ = say(known, XO, group(**message))
    assert listed(known)[0].attributes[CODE] == CT_HEAD
    assert listed(known)[0].attributes[DESCRIPTION] == "CT head"


def test_what_is_ignored_since_it_is_from_a_poorer_place_is_noted() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    known, applied = say(known, XO, group(**{FILLER: Ranked("F9", 1)}))
    assert applied.notes == (f"weaker source ignored: {FILLER}",)
    known, applied = say(known, XO, group(**{FILLER: Ranked("F1", 1)}))
    assert applied.notes == ()
