"""A plain first order takes a short way, which makes of it what the long one would have made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.worklist.applied import Applied, Sender
from broker.worklist.apply import apply_all, apply_at_length
from broker.worklist.attributes import ROWS, STATUS, Kept
from broker.worklist.changes import FILLS_GAPS, Action, Attributes, Change, Ranked
from broker.worklist.finding import FILLER, PLACER, REPLACED, Known
from broker.worklist.refusals import Refused
from broker.worklist.unheard import first_word
from tests.worklist.speaking import STEPS, group, said, sender, step

NW = Action.SCHEDULE
OF_STEPS = [k for k, row in ROWS.items() if row.kept is Kept.STEP and k != STATUS]
OTHERS = [keyword for keyword, row in ROWS.items() if row.kept is not Kept.STEP]
NUMBERS = ["AccessionNumber", "RequestedProcedureID", "StudyInstanceUID", PLACER, FILLER]
NAMES = ["PatientID", "IssuerOfPatientID", "PatientName", "AdmissionID", "Unheard"]
WORDS = ["", " ", "A1", "123", "HOSP", "a|b", "1.2.3", "DOE^JOHN", "X" * 20, "20260101"]
STATUSES = ["", "SCHEDULED", "ARRIVED", "HELD", "STARTED", "COMPLETED", "CANCELLED", "RELEASED"]

plain_values = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), max_size=2) | st.none()
bases = st.none() | st.lists(st.sampled_from([*NUMBERS, *OF_STEPS]), max_size=2).map(tuple)
ranks = st.sampled_from([0, 1, 2, FILLS_GAPS])
leaves = plain_values | st.builds(Ranked, plain_values, ranks, bases)
statuses = st.sampled_from(STATUSES) | st.builds(Ranked, st.sampled_from(STATUSES), ranks)
issuers = st.builds(
    lambda *said: [dict(zip(("LocalNamespaceEntityID", "UniversalEntityID"), said, strict=True))],
    st.sampled_from(WORDS),
    st.sampled_from(WORDS),
)


@st.composite
def step_items(draw: st.DrawFn) -> Attributes:
    """A step with some attributes added, changed, or taken away."""
    item = {**step(), **draw(st.dictionaries(st.sampled_from(OF_STEPS), leaves, max_size=3))}
    item |= draw(st.dictionaries(st.just(STATUS), statuses, max_size=1))
    return _without(draw, item)


@st.composite
def orders(draw: st.DrawFn) -> Attributes:
    """An order of a step or two, likewise."""
    usual = st.sampled_from([*NUMBERS, *NAMES])
    order = group(**{PLACER: "P1", FILLER: "F1"})
    order |= draw(st.dictionaries(usual | st.sampled_from(OTHERS), leaves, max_size=3))
    sequences = ["IssuerOfAccessionNumberSequence", "IssuerOfPatientIDQualifiersSequence"]
    order = {k: v for k, v in order.items() if not k.endswith("Sequence") or k == STEPS}
    order |= draw(st.dictionaries(st.sampled_from(sequences), issuers, max_size=1))
    order[STEPS] = draw(st.lists(step_items(), min_size=1, max_size=2))
    order = _without(draw, order)
    return dict(draw(st.permutations(list(order.items()))))


def _without(draw: st.DrawFn, attributes: Attributes) -> Attributes:
    gone = draw(st.sets(st.sampled_from(sorted(attributes)), max_size=1))
    return {keyword: leaf for keyword, leaf in attributes.items() if keyword not in gone}


SENDERS = [
    sender(received="20260101120001.000000"),
    sender(""),
    sender("20260101120001", replayed=True),
    sender(missing_steps="cancel"),
]
PEOPLE = [
    Known(),
    Known(patients=said(NW, group(PatientName="ROE^J", AccessionNumber="B")).patients),
    Known(patients=said(Action.PATIENT, {"PatientID": "123", "PatientSex": "F"}).patients),
]


def written(applied: Applied) -> list[str]:
    """Everything that is stored, byte for byte, by key."""
    records = {**applied.known.orders, **applied.known.patients}
    return [f"{key} {record.model_dump_json()}" for key, record in records.items()]


def outcome(changes: Sequence[Change], known: Known, by: Sender, how: Any) -> Any:
    try:
        applied = how(changes, known, by)
    except Refused as refused:
        return str(refused)
    return applied, written(applied)


@given(orders(), st.sampled_from(SENDERS), st.sampled_from(PEOPLE))
@settings(max_examples=150, deadline=None)
def test_the_short_way_leads_where_the_long_one_does(
    attributes: Attributes, by: Sender, known: Known
) -> None:
    changes = [Change(NW, attributes, "ORC[1]")]
    short = outcome(changes, known, by, apply_all)
    assert short == outcome(changes, known, by, apply_at_length)


def test_a_plain_order_takes_it() -> None:
    plain = Change(NW, group(), "ORC[1]")
    assert first_word(plain, Known(), sender()) == apply_at_length([plain], Known(), sender()).known


def test_so_does_one_of_a_patient_who_is_known() -> None:
    assert first_word(Change(NW, group(AccessionNumber="A2"), "ORC[1]"), PEOPLE[1], sender())


@pytest.mark.parametrize(
    "said_otherwise",
    [
        pytest.param({"AccessionNumber": "-"}, id="no number"),
        pytest.param({"PatientID": "-"}, id="no patient"),
        pytest.param({REPLACED: [{FILLER: "F0"}]}, id="it replaces another one"),
        pytest.param({"Modality": "CT"}, id="an attribute of a step beside it"),
        pytest.param({STEPS: [step(), step(Modality="MR")]}, id="two steps"),
        pytest.param({PLACER: Ranked("", 0, (PLACER,))}, id="a value that stands on others"),
        pytest.param({STEPS: [step(Modality="")]}, id="a type 1 attribute is empty"),
        pytest.param({STEPS: [step(**{STATUS: "COMPLETED"})]}, id="it is over"),
    ],
)
def test_what_has_to_be_weighed_takes_the_long_one(said_otherwise: Attributes) -> None:
    attributes = {k: v for k, v in {**group(), **said_otherwise}.items() if v != "-"}
    assert first_word(Change(NW, attributes, "ORC[1]"), Known(), sender()) is None


def test_so_does_what_is_about_an_order_that_is_known() -> None:
    assert first_word(Change(NW, group(), "ORC[1]"), said(NW, group()), sender()) is None
