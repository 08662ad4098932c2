"""Merges: one alias and one move of the orders; repeated, reversed, chained, of nobody known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.worklist.changes import Action, Attributes
from broker.worklist.finding import Known, separated_of, wanted
from broker.worklist.merging import separated
from broker.worklist.performing import advanced
from broker.worklist.persons import MERGED_ID
from broker.worklist.refusals import Reason, Refused
from broker.worklist.staleness import OURS
from tests.worklist.scanning import created, references
from tests.worklist.speaking import group, listed, only_order, said, say, sender

NW, XO, A08, A40 = Action.SCHEDULE, Action.UPDATE, Action.PATIENT, Action.MERGE
T1, T2, T3 = "20260101120000", "20260101120001", "20260101120002"


def pair(survivor: str, *priors: str | tuple[str, str], **said: Any) -> Attributes:
    """One PID with its MRG; a prior may come with its issuer."""
    items = [
        {"PatientID": prior}
        if isinstance(prior, str)
        else {"PatientID": prior[0], "IssuerOfPatientID": prior[1]}
        for prior in priors
    ]
    return {"PatientID": survivor, "PriorPatientIDsSequence": items, **said}


def two_patients() -> Known:
    """Patient 123 with an order, patient 7 with two."""
    known = said(NW, group(PatientName="OLD^NAME"), group(AccessionNumber="A2", PatientName="-"))
    return say(known, NW, group(PatientID="7", PatientName="ROE^ANN", AccessionNumber="A3"))[0]


def owners(known: Known) -> dict[str, str]:
    return {order.accession: order.patient for order in known.orders.values()}


def test_every_order_of_the_prior_patient_moves_and_shows_the_survivor() -> None:
    known, applied = say(two_patients(), A40, pair("7", "123"))
    assert applied.notes == ("merged",)
    assert set(known.patients) == {"HOSP|7"}
    assert {(i.attributes["PatientID"], i.attributes["PatientName"]) for i in listed(known)} == {
        ("7", "ROE^ANN")
    }
    assert applied.merged == {"HOSP|123": "HOSP|7"}


def test_a_merge_corrects_no_demographics_of_a_known_survivor() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123", PatientName="OTHER", PatientSex="M"))
    held = listed(known)[0].attributes
    assert held["PatientName"] == "ROE^ANN"
    assert "PatientSex" not in held


def test_a_survivor_nobody_knew_is_who_the_merge_says_and_keeps_what_the_prior_had() -> None:
    known = said(NW, group(PatientSex="F", PatientAddress="FERN LANE 4"))
    known, _ = say(known, A40, pair("9", "123", PatientName="ROE^ANN"))
    held = listed(known)[0].attributes
    assert (held["PatientID"], held["PatientName"]) == ("9", "ROE^ANN")
    assert (held["PatientSex"], held["PatientAddress"]) == ("F", "FERN LANE 4")


def test_a_late_order_under_the_old_id_lands_at_the_survivor() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    known, _ = say(known, NW, group(AccessionNumber="A9"), by=sender(T2))
    assert set(owners(known).values()) == {"HOSP|7"}
    assert {i.attributes["PatientID"] for i in listed(known)} == {"7"}


def test_a_late_order_lands_even_where_nobody_was_known_at_the_merge() -> None:
    known = said(A40, pair("7", "123", PatientName="ROE^ANN"))
    known, _ = say(known, NW, group(PatientName="OLD"), by=sender("20260101110000"))
    (item,) = listed(known)
    assert (item.attributes["PatientID"], item.attributes["PatientName"]) == ("7", "ROE^ANN")


@pytest.mark.parametrize("by_accession", [True, False])
def test_a_late_mpps_with_the_old_id_lands_at_the_survivors_order(by_accession: bool) -> None:
    known = said(NW, group(StudyInstanceUID="1.2.3"))
    known, _ = say(known, A40, pair("7", "123"))
    item = {"AccessionNumber": "A1", "StudyInstanceUID": "9.9" if by_accession else "1.2.3"}
    performed = created(
        None,
        "1.1",
        {
            "PatientID": "123",
            "PerformedProcedureStepStatus": "IN PROGRESS",
            "ScheduledStepAttributesSequence": [item],
        },
    )
    found = references(performed.attributes, known.orders.values(), known.patients)
    assert [reference.order for reference in found] == ["HOSP|A1"]
    performed = performed.model_copy(update={"references": found})
    after = advanced(only_order(known), performed, known.patients)
    assert after.flags == ()
    assert [step.status for _, step in after.steps()] == ["STARTED"]


@pytest.mark.parametrize("again", [1, 2])
def test_a_merge_that_is_repeated_changes_nothing(again: int) -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    after, applied = say(known, A40, *[pair("7", "123")] * again, by=sender(T3))
    assert set(applied.notes) == {"merged before"}
    assert (after.patients, after.orders) == (known.patients, known.orders)


def test_a_merge_of_a_patient_with_itself_changes_nothing() -> None:
    known = two_patients()
    after, applied = say(known, A40, pair("7", "7"))
    assert applied.notes == ("merge of a patient with itself",)
    assert (after.patients, after.orders) == (known.patients, known.orders)


def test_a_reversed_merge_is_circular() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    with pytest.raises(Refused) as refused:
        say(known, A40, pair("123", "7"))
    assert refused.value.reason is Reason.CIRCULAR
    assert "123" not in str(refused.value)


def test_a_circle_within_one_message_is_refused_whole() -> None:
    with pytest.raises(Refused) as refused:
        say(two_patients(), A40, pair("7", "123"), pair("123", "7"))
    assert refused.value.reason is Reason.CIRCULAR


def test_a_circle_of_three_is_refused() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"), pair("8", "7"))
    with pytest.raises(Refused):
        say(known, A40, pair("123", "8"))


def test_a_chain_leads_to_its_end_in_one_step() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    known, applied = say(known, A40, pair("8", "7", PatientName="END"))
    assert applied.merged == {"HOSP|123": "HOSP|8", "HOSP|7": "HOSP|8"}
    assert set(owners(known).values()) == {"HOSP|8"}
    known, _ = say(known, NW, group(AccessionNumber="A9"), by=sender(T2))
    assert set(owners(known).values()) == {"HOSP|8"}


def test_several_pairs_of_one_message_are_all_merged() -> None:
    known = said(NW, group())
    known, _ = say(known, NW, group(PatientID="5", AccessionNumber="A5"))
    known, _ = say(known, A40, pair("1", "123"), pair("2", "5"))
    assert owners(known) == {"A1": "HOSP|1", "A5": "HOSP|2"}


def test_several_priors_of_one_patient_are_all_merged() -> None:
    known, _ = say(two_patients(), A40, pair("1", "123", "7"))
    assert set(owners(known).values()) == {"HOSP|1"}


def test_a_prior_without_an_issuer_is_of_the_survivors() -> None:
    known = said(NW, group(IssuerOfPatientID="MPI"))
    known, _ = say(known, A40, pair("7", "123", IssuerOfPatientID="MPI"))
    assert owners(known) == {"A1": "MPI|7"}


def test_a_prior_of_another_issuer_is_another_patient() -> None:
    known = said(NW, group())
    known, _ = say(known, A40, pair("7", ("123", "OTHER")))
    assert owners(known) == {"A1": "HOSP|123"}


@pytest.mark.parametrize("lacking", [{"PatientID": ""}, {"PriorPatientIDsSequence": []}])
def test_a_merge_names_both_patients(lacking: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        said(A40, {**pair("7", "123"), **lacking})
    assert refused.value.location in ("PID-3", "MRG-1")


def test_a_merge_is_never_late() -> None:
    known, _ = say(two_patients(), A08, {"PatientID": "7", "PatientName": "NEW"}, by=sender(T3))
    known, _ = say(known, A40, pair("7", "123"), by=sender(T1))
    assert set(owners(known).values()) == {"HOSP|7"}
    assert listed(known)[0].attributes["PatientName"] == "NEW"


@pytest.mark.parametrize("at", ["20260101110000", T3])
@pytest.mark.parametrize(("action", "accession"), [(NW, "A9"), (XO, "A1"), (A08, "-")])
def test_what_is_said_of_an_old_id_renames_nobody(at: str, action: Action, accession: str) -> None:
    """Whether it is older than the merge or newer; what nobody has said is taken."""
    known, _ = say(two_patients(), A40, pair("7", "123"))
    told = group(AccessionNumber=accession, PatientName="OLD^NAME", PatientSex="F")
    known, applied = say(known, action, told, by=sender(at, name="OTHER|HOSP"))
    assert MERGED_ID in applied.notes
    held = [item.attributes for item in listed(known)]
    assert {(h["PatientID"], h["PatientName"]) for h in held} == {("7", "ROE^ANN")}
    assert {h["PatientSex"] for h in held} == {"F"}


def test_what_is_said_of_an_old_id_makes_nothing_late_that_is_said_of_the_new_one() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    known, _ = say(known, NW, group(AccessionNumber="A9", PatientName="OLD"), by=sender(T3))
    known, _ = say(known, A08, {"PatientID": "7", "PatientName": "NEW"}, by=sender(T2))
    assert listed(known)[0].attributes["PatientName"] == "NEW"


def test_a_merge_that_is_undone_lets_the_id_be_somebodys_own() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123", "5"))
    done = separated("HOSP|123", known)
    assert done is not None
    assert [order.accession for order in done.orders] == ["A1", "A2", "A3"]
    assert (done.before.key, done.after.former) == ("HOSP|7", ("HOSP|5",))
    aliases = {k: v for k, v in known.aliases.items() if k != "patient:HOSP|123"}
    known = replace(known.with_patient(done.after), aliases=aliases)
    known, _ = say(known, NW, group(AccessionNumber="A9"), by=sender(T2))
    assert owners(known) == {"A1": "HOSP|7", "A2": "HOSP|7", "A3": "HOSP|7", "A9": "HOSP|123"}
    assert separated("HOSP|123", known) is None


@pytest.mark.parametrize("key", ["HOSP|7", "HOSP|123", "HOSP|NOBODY"])
def test_what_was_not_merged_cannot_be_undone(key: str) -> None:
    assert separated(key, two_patients()) is None


@pytest.mark.parametrize(("replayed", "force"), [(True, False), (True, True), (False, False)])
def test_a_replay_does_not_merge_again_what_a_person_has_undone(
    replayed: bool, force: bool
) -> None:
    known = replace(two_patients(), tombstones={separated_of("HOSP|123"): {OURS: "2026"}})
    by = sender(T2, received="20260101115900", replayed=replayed, force=force)
    after, applied = say(known, A40, pair("7", "123"), by=by)
    undone = replayed and not force
    assert (set(after.patients) == {"HOSP|7"}) is not undone
    assert applied.notes == (("separated since",) if undone else ("merged",))


def test_nobody_is_told_of_an_order_as_a_wrong_patients_after_the_merge() -> None:
    known, _ = say(two_patients(), A40, pair("7", "123"))
    known, applied = say(known, XO, group(MedicalAlerts="LATEX"), by=sender(T2))
    assert applied.notes == (MERGED_ID,)
    assert listed(known)[0].attributes["MedicalAlerts"] == "LATEX"


def test_all_that_a_merge_may_touch_is_asked_for() -> None:
    asked = wanted([pair("7", "123", ("5", "MPI"))], "HOSP", orders_of_patients=True)
    assert {separated_of("HOSP|123"), separated_of("MPI|5")} <= set(asked.tombstones)
    assert asked.patients == ("HOSP|123", "HOSP|7", "MPI|5")
