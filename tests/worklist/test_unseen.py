"""Which steps no known AE can get, and what is said to be nearest."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from broker.worklist.attributes import STEPS
from broker.worklist.profile import Profile
from broker.worklist.query.explaining import BOTH, verdicts
from broker.worklist.query.matching import Query
from broker.worklist.rules import Rules
from broker.worklist.unseen import Watcher, habit, is_list, unseen

TODAY = date(2026, 3, 16)


def item(**step: Any) -> dict[str, Any]:
    scheduled = {
        "ScheduledStationAETitle": "CT1",
        "Modality": "CT",
        "ScheduledProcedureStepStartDate": "20260316",
        "ScheduledProcedureStepStartTime": "0930",
        "ScheduledProcedureStepStatus": "SCHEDULED",
    }
    return {"PatientName": "MUSTER^MIRJAM", "PatientID": "P1", STEPS: [{**scheduled, **step}]}


def asks(title: str, asked_on: date = TODAY, rules: Rules | None = None, **step: Any) -> Watcher:
    query = Query.of({STEPS: [{"Modality": "", **step}]})
    return Watcher(title, Profile(title, rules or Rules()), (habit(query, asked_on),))


def test_a_step_that_one_ae_asks_for_is_seen() -> None:
    watchers = (asks("MR1", Modality="MR"), asks("CT1", Modality="CT"))
    assert unseen(item(), watchers, TODAY) is None


def test_the_ae_that_misses_it_by_the_fewest_keys_is_the_nearest() -> None:
    watchers = (
        asks("MR1", Modality="MR", ScheduledStationAETitle="MR1"),
        asks("CT1", Modality="CT", ScheduledStationAETitle="CT1"),
    )
    found = unseen(item(ScheduledStationAETitle="MR7"), watchers, TODAY)
    assert found is not None
    assert (found.aet, found.reason) == ("CT1", "station")


def test_of_several_that_miss_it_by_one_the_title_most_alike_is_the_nearest() -> None:
    watchers = tuple(asks(t, ScheduledStationAETitle=t) for t in ("ANGIO", "CT_NORTH", "MR1"))
    found = unseen(item(ScheduledStationAETitle="CTNORTH"), watchers, TODAY)
    assert found is not None
    assert found.aet == "CT_NORTH"
    assert found.why == "its station is CTNORTH, and this AE asks for CT_NORTH"


def test_a_rule_of_the_directory_keeps_it_as_a_key_does() -> None:
    watcher = Watcher("US1", Profile("US1", Rules(modalities=("US",))), ())
    found = unseen(item(), (watcher,), TODAY)
    assert found is not None
    assert (found.aet, found.reason) == ("US1", "modality")


@pytest.mark.parametrize(
    ("start", "asked_on", "dates", "seen"),
    [
        ("20260316", TODAY, "20260316", True),
        ("20260316", date(2026, 3, 10), "20260310", True),  # it asks for today, every day
        ("20260315", TODAY, "20260316", False),
        ("20260315", TODAY, "20260315-20260317", True),
        ("20260315", date(2026, 3, 10), "20260309-", True),
        ("20260314", date(2026, 3, 10), "20260309-", False),
        ("20260320", TODAY, "20260316", True),  # its day will come
        ("20200101", TODAY, "-20260316", True),
        ("20200101", TODAY, "", True),
    ],
)
def test_the_days_an_ae_asks_for_move_with_the_day(
    start: str, asked_on: date, dates: str, seen: bool
) -> None:
    watcher = asks("CT1", asked_on, ScheduledProcedureStepStartDate=dates)
    found = unseen(item(ScheduledProcedureStepStartDate=start), (watcher,), TODAY)
    assert (found is None) == seen
    assert found is None or found.reason == "past"


def test_a_window_that_ends_too_early_hides_for_a_while_one_that_begins_too_late_for_good() -> None:
    watcher = Watcher("CT1", Profile("CT1", Rules(past_days=1, ahead_days=1)), ())
    assert unseen(item(ScheduledProcedureStepStartDate="20260401"), (watcher,), TODAY) is None
    found = unseen(item(ScheduledProcedureStepStartDate="20260314"), (watcher,), TODAY)
    assert found is not None
    assert found.reason == "past"


def test_what_is_said_tells_nothing_of_the_patient() -> None:
    found = unseen(item(), (asks("MR1", Modality="MR"),), TODAY)
    assert "MUSTER" not in str(found)
    assert "P1" not in str(found)


def test_without_a_known_ae_nothing_is_said() -> None:
    assert unseen(item(), (), TODAY) is None


def test_a_query_for_a_patient_is_no_list() -> None:
    assert is_list(Query.of({"PatientName": "*", STEPS: [{"Modality": "CT"}]}))
    assert not is_list(Query.of({"PatientName": "MUSTER*", STEPS: [{"Modality": "CT"}]}))


def test_keys_are_judged_one_by_one_and_a_period_as_one() -> None:
    query = Query.of(
        {
            "PatientID": "P2",
            "AccessionNumber": "",
            STEPS: [
                {
                    "Modality": ["MR", "CT"],
                    "ScheduledProcedureStepStartDate": "20260315-20260316",
                    "ScheduledProcedureStepStartTime": "2000-1000",
                }
            ],
        }
    )
    said = {v.keyword: (v.asked, v.held, v.matches) for v in verdicts(query, item())}
    assert said == {
        "PatientID": ("P2", "P1", False),
        "Modality": ("MR\\CT", "CT", True),
        BOTH: ("20260315-20260316 2000-1000", "20260316 0930", True),
    }
