"""Several groups of which one is bad: none is applied, or the good ones are, as the site wants."""

from __future__ import annotations

import sys

import pytest

from broker.worklist.apply import apply_all
from broker.worklist.changes import Action, Change
from broker.worklist.finding import Known
from broker.worklist.policies import Groups, MissingSteps
from broker.worklist.refusals import Reason, Refused
from tests.worklist.speaking import FILLER, PLACER, STEP_ID, group, said, sender, statuses, step

NW, XO = Action.SCHEDULE, Action.UPDATE
GOOD = {"groups": Groups.APPLY_GOOD}
BAD = group(AccessionNumber="A2", PatientName="X") | {"AccessionNumber": ""}


def three(action: Action = NW) -> list[Change]:
    """A good group, a bad one without an accession number, a good one."""
    return [
        Change(action, group(), "ORC[1]"),
        Change(action, BAD, "ORC[2]"),
        Change(action, group(AccessionNumber="A3"), "ORC[3]"),
    ]


def test_by_default_nothing_is_applied_and_the_group_is_named() -> None:
    with pytest.raises(Refused) as refused:
        apply_all(three(), Known(), sender())
    assert refused.value.location == "ORC[2]"


@pytest.mark.parametrize("policies", [{}, GOOD], ids=["none", "the good"])
def test_of_several_orders_that_of_another_patient_is_named(policies: dict[str, Groups]) -> None:
    known = said(NW, group(AccessionNumber="A9", PatientID="9", PatientName="ROE^ANN"))
    groups = [Change(NW, group(AccessionNumber=a), f"ORC[{n}]") for n, a in enumerate("123", 1)]
    groups[1] = Change(NW, group(AccessionNumber="A9"), "ORC[2]")
    if policies:
        (refused,) = apply_all(groups, known, sender(**policies)).refused
    else:
        with pytest.raises(Refused) as raised:
            apply_all(groups, known, sender())
        refused = raised.value
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.location) == (Reason.WRONG_PATIENT, "ORC[2]")


def test_the_only_order_of_another_patient_is_refused_at_the_patient() -> None:
    known = said(NW, group(PatientID="9", PatientName="ROE^ANN"))
    with pytest.raises(Refused) as refused:
        apply_all([Change(NW, group(), "ORC[1]")], known, sender())
    assert refused.value.location == "PID-3"


@pytest.mark.parametrize(
    ("group_named", "place", "told"),
    [
        ("ORC[2]", "PID-3", "ORC[2]"),
        ("PID[2]", "PID-3", "PID[2]-3"),
        ("PID[2]", "MRG-1", "MRG[2]-1"),
        ("ORC[2]", "ORC[2]", "ORC[2]"),
        ("PID", "PID-3", "PID-3"),
    ],
)
def test_a_place_within_a_group_tells_which(group_named: str, place: str, told: str) -> None:
    assert Refused(Reason.CIRCULAR, place, "", "").within(group_named).location == told


def test_the_good_groups_are_applied_where_a_site_wants_it() -> None:
    applied = apply_all(three(), Known(), sender(**GOOD))
    assert [order.accession for order in applied.known.orders.values()] == ["A1", "A3"]
    assert [reason.location for reason in applied.refused] == ["ORC[2]"]  # type: ignore[attr-defined]


def test_what_the_mapping_could_not_read_is_a_bad_group_too() -> None:
    reason = ValueError("unreadable")
    unread = Change(Action.REFUSE, {}, "ORC[2]", refused=reason)
    groups = [three()[0], unread]
    assert apply_all(groups, Known(), sender(**GOOD)).refused == (reason,)
    with pytest.raises(ValueError, match="unreadable"):
        apply_all(groups, Known(), sender())


def test_a_message_without_a_good_group_is_refused() -> None:
    with pytest.raises(Refused):
        apply_all(three()[1:2], Known(), sender(**GOOD))


def test_in_a_message_of_which_a_part_is_bad_nothing_counts_as_left_out() -> None:
    steps = [step(**{STEP_ID: each}) for each in ("S1", "S2")]
    known = said(NW, group(*steps, **{FILLER: "F1"}))
    good = Change(XO, group(steps[0], **{FILLER: "F1"}), "ORC[1]")
    by = sender("20260101120001", missing_steps=MissingSteps.CANCEL, **GOOD)
    applied = apply_all([good, Change(XO, BAD, "ORC[2]")], known, by)
    assert statuses(applied.known) == ["SCHEDULED", "SCHEDULED"]


def test_a_replaced_order_stays_where_its_replacement_is_bad() -> None:
    known = said(NW, group(**{FILLER: "F1"}))
    old = Change(Action.REPLACE, group(**{FILLER: "F1"}), "ORC[1]")
    applied = apply_all([old, Change(NW, BAD, "ORC[2]")], known, sender("20260101120001", **GOOD))
    assert statuses(applied.known) == ["SCHEDULED"]


def work(count: int, action: Action, known: Known) -> tuple[Known, int]:
    """Apply a message of so many orders; gives the calls of functions that it takes."""
    calls = 0

    def counting(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    changes = [
        Change(
            action,
            group(AccessionNumber=f"A{n}", **{FILLER: f"F{n}", PLACER: f"P{n}"}),
            f"ORC[{n}]",
        )
        for n in range(count)
    ]
    sys.setprofile(counting)
    try:
        return apply_all(changes, known, sender()).known, calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("action", [NW, XO, Action.CANCEL])
def test_the_work_grows_with_the_orders_of_a_message_and_not_with_their_square(
    action: Action,
) -> None:
    of = {}
    for count in (50, 200):
        known = Known() if action is NW else work(count, NW, Known())[0]
        work(count, action, known)  # what is worked out once is not counted
        of[count] = work(count, action, known)[1]
    assert of[200] < 4.4 * of[50]


def test_no_order_has_more_than_two_hundred_steps() -> None:
    steps = [step(**{STEP_ID: f"S{n}"}) for n in range(201)]
    known = said(NW, group(*steps[:200]))
    for change in (group(*steps), group(steps[200])):
        with pytest.raises(Refused, match="200 steps") as refused:
            apply_all([Change(XO, change, "ORC[1]")], known, sender("20260101120001"))
        assert refused.value.reason is Reason.TOO_MANY
