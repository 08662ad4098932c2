"""What scanners do in odd ways, and what becomes of the steps: the cases of hazards P1 to P22."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.dicom.dimse import AFFECTED_SOP_INSTANCE
from broker.dicom.dimse import STATUS as STATUS_ELEMENT
from broker.modality.assumed import Assumed
from broker.probe.datasets import to_dataset
from broker.probe.orders import Patient, Step, orm_o01
from broker.store import keys
from broker.store.commit import ABSENT, MppsChange
from broker.worklist.ending import DONE_BY_AGE
from broker.worklist.mpps import ENDS_BEFORE_START, NEVER_ENDED, Performed
from broker.worklist.performing import (
    AFTER_CANCEL,
    OTHER_PATIENT,
    WRONGLY_SELECTED,
    ExamRules,
    NeverEnded,
)
from broker.worklist.reconciling import NOT_FOUND, OF_ANOTHER, Level, Matching
from tests.modality.hospital import (
    ITEMS,
    SERIES,
    STATUS,
    Hospital,
    Modality,
    bare_create,
    hl7,
    new_order,
    new_uid,
    number,
    without,
)


def test_p01_an_exam_without_uid_gets_one_the_same_when_it_is_told_again(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    begun = hospital.start(scanner, order)
    told = [bare_create(hospital.ports[0], "CT1", "", begun) for _ in range(2)]
    assert [number(each, STATUS_ELEMENT) for each in told] == [0x0000, 0x0000]
    first, second = (each[AFFECTED_SOP_INSTANCE].decode().strip("\0") for each in told)
    assert first == second
    assert first.startswith("2.25.")
    assert scanner.set(first, hospital.ended(first)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]


def test_p02_an_n_create_of_nothing_is_no_exam(hospital: Hospital) -> None:
    uid = new_uid()
    answer = bare_create(hospital.ports[0], "CT1", uid, {})
    assert number(answer, STATUS_ELEMENT) == 0x0106
    assert hospital.performed(uid) is None


def test_p03_an_exam_that_lacks_what_scanners_forget_is_taken_and_told(
    hospital: Hospital, scanner: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = hospital.start(scanner, order)
    forgotten = ("ProcedureCodeSequence", "ReferencedPatientSequence", "PerformedProcedureStepID")
    assert scanner.create(uid, without(begun, *forgotten)).status == 0x0000
    ended = hospital.ended(uid)
    [series] = ended[SERIES]
    ended[SERIES] = [without(series, "ProtocolName", "RetrieveAETitle")]
    assert scanner.set(uid, ended).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]
    performed = hospital.performed(uid)
    assert performed
    assert {f"{keyword} is missing" for keyword in forgotten} <= set(performed.tolerated)
    assert f"{SERIES}.ProtocolName is missing" in performed.tolerated


def test_p05_the_same_n_create_once_more_is_a_repeat_until_more_is_said(
    hospital: Hospital, scanner: Modality, strict: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = hospital.start(scanner, order)
    assert scanner.create(uid, begun).status == 0x0000
    assert scanner.create(uid, begun).status == 0x0000
    assert strict.create(uid, begun).status == 0x0111
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert scanner.create(uid, begun).status == 0x0111
    assert hospital.states(order) == ["IP", "CM"]


@pytest.mark.parametrize("typed", [" {} ", "{}  ", "small"])
def test_p11_an_accession_number_typed_by_hand_finds_its_order(
    hospital: Hospital, scanner: Modality, typed: str
) -> None:
    order = hospital.ordered()
    begun = hospital.start(scanner, order)
    accession = order.accession.lower() if typed == "small" else typed.format(order.accession)
    begun[ITEMS][0] |= {"AccessionNumber": accession, "StudyInstanceUID": new_uid()}
    assert scanner.create(new_uid(), begun).status == 0x0000
    assert hospital.statuses(order) == ["STARTED"]


def test_p10_a_study_of_the_scanners_own_does_not_change_that_of_the_order(
    hospital: Hospital, scanner: Modality
) -> None:
    order, own = hospital.ordered(), new_uid()
    begun = hospital.start(scanner, order)
    begun[ITEMS][0]["StudyInstanceUID"] = own
    uid = new_uid()
    assert scanner.create(uid, begun).status == 0x0000
    assert hl7(hospital.queued(order)[0], "ZDS", 1).startswith(f"{order.study_uid}^")
    performed = hospital.performed(uid)
    assert performed
    assert performed.attributes[ITEMS][0]["StudyInstanceUID"] == own
    assert performed.references[0].evidence == "accession number, procedure ID, step ID"


def test_p13_after_a_wrong_selection_the_step_can_be_begun_and_ended(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    wrong = hospital.begins(scanner, order)
    scanner.set(wrong, hospital.ended(wrong, "DISCONTINUED", "110514"))
    right = hospital.begins(scanner, order)
    scanner.set(right, hospital.ended(right))
    assert hospital.states(order) == ["IP", "DC", "IP", "CM"]
    assert hospital.statuses(order) == ["COMPLETED"]
    assert exceptions(hospital, wrong) == (WRONGLY_SELECTED,)
    assert exceptions(hospital, right) == ()


def test_p15_an_exam_without_series_ends(hospital: Hospital, scanner: Modality) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, without(hospital.ended(uid), SERIES)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]
    begun, ended = hospital.queued(order)
    assert b"|SERIES^" not in begun.payload
    assert b"|NM|SERIES^Number of series^99BROKER|1|0|" in ended.payload


def test_p16_an_exam_ends_on_another_day_on_another_association_at_another_door(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    before = hospital.now
    hospital.now += timedelta(hours=30)
    try:
        with hospital.scanner("CT2", door=1) as other:
            assert other.set(uid, hospital.ended(uid)).status == 0x0000
    finally:
        hospital.now = before
    assert hospital.states(order) == ["IP", "CM"]
    assert hospital.statuses(order) == ["COMPLETED"]


def test_what_another_door_has_said_of_an_exam_meanwhile_is_not_lost(
    hospital: Hospital, scanner: Modality
) -> None:
    """The door that began it remembers it as it was then."""
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    said = {"CommentsOnThePerformedProcedureStep": "contrast late"}
    with hospital.scanner("CT2", door=1) as other:
        assert other.set(uid, said).status == 0x0000
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    exam = hospital.performed(uid)
    assert exam is not None
    assert exam.attributes["CommentsOnThePerformedProcedureStep"] == "contrast late"
    assert (exam.status, hospital.states(order)) == ("COMPLETED", ["IP", "CM"])


def test_an_exam_that_was_removed_meanwhile_is_not_there_for_the_door_that_began_it(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    hospital.forget(uid)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0112


def test_an_exam_is_not_read_again_by_the_door_that_wrote_it(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    said = {"CommentsOnThePerformedProcedureStep": "contrast late"}
    for more in (said, said, {**said, "PerformedProcedureStepDescription": "CT"}):
        assert scanner.set(uid, more).status == 0x0000
    asked = []
    with hospital.store.redis.monitor() as heard:
        assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
        hospital.store.redis.echo("that was all")
        while "that was all" not in (each := heard.next_command())["command"]:
            asked.append(each)
    assert asked
    read = f"GET {keys.mpps(uid)}"
    assert not [each for each in asked if each["command"] == read and each["client_type"] != "lua"]
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000, "a repeat, byte for byte"
    exam = hospital.performed(uid)
    assert exam is not None
    assert exam.status == "COMPLETED"


@pytest.mark.parametrize(
    ("then", "status", "states"),
    [
        ("flag", "STARTED", ["IP"]),
        ("discontinue", "DISCONTINUED", ["IP", "DC"]),
        ("complete", "COMPLETED", ["IP", "CM"]),
    ],
)
def test_p14_an_exam_that_does_not_end_is_said_once_and_may_still_end(
    hospital: Hospital, scanner: Modality, then: str, status: str, states: list[str]
) -> None:
    order, other = new_order(), new_order()
    hospital.orders(order, other)
    uid, ended = hospital.begins(scanner, order), hospital.begins(scanner, other)
    scanner.set(ended, hospital.ended(ended))
    overdue = replace(hospital.overdue, then=NeverEnded(then))
    assert NEVER_ENDED not in exceptions(hospital, uid)
    hospital.run(overdue.slice())
    assert NEVER_ENDED not in exceptions(hospital, uid)  # its time has not come
    before = hospital.now
    hospital.now += timedelta(hours=25)
    try:
        for _ in range(2):
            hospital.run(overdue.slice())
        assert exceptions(hospital, uid).count(NEVER_ENDED) == 1
        assert NEVER_ENDED not in exceptions(hospital, ended)
        assert (hospital.statuses(order), hospital.states(order)) == ([status], states)
        assert hospital.run(overdue.slice()) == 0
        assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    finally:
        hospital.now = before
    assert exceptions(hospital, uid) == ()
    assert hospital.statuses(order) == ["COMPLETED"]
    assert hospital.states(order) == (states if then == "complete" else [*states, "CM"])


def test_each_modality_has_its_own_time_to_end_an_exam(
    hospital: Hospital, scanner: Modality
) -> None:
    order, other = new_order(), new_order(Step(step_id="PT1", modality="PT"))
    hospital.orders(order, other)
    quick, slow = hospital.begins(scanner, order), hospital.begins(scanner, other)
    after = {"CT": timedelta(hours=2), "PT": timedelta(hours=40)}
    overdue = replace(hospital.overdue, after_of=after)
    before = hospital.now
    try:
        for hours, flagged in ((1, (False, False)), (3, (True, False)), (41, (True, True))):
            hospital.now = before + timedelta(hours=hours)
            hospital.run(overdue.slice())
            assert tuple(NEVER_ENDED in exceptions(hospital, u) for u in (quick, slow)) == flagged
    finally:
        hospital.now = before


def test_steps_of_a_modality_without_mpps_count_as_done_after_a_while(
    hospital: Hospital, scanner: Modality
) -> None:
    start = hospital.now.replace(tzinfo=None) - timedelta(hours=5)
    steps = (Step(step_id="US1", modality="US"), Step(step_id="CT1", modality="CT"))
    mixed, new = new_order(*steps, start=start), new_order(steps[0], start=start.replace(hour=9))
    running = new_order(steps[0], start=start)
    hospital.orders(mixed, new, running)
    hospital.begins(scanner, running)
    hospital.run(Assumed(hospital.recording.store, lambda: hospital.now, AFTER).look("US"))
    assert hospital.statuses(mixed) == ["COMPLETED", "SCHEDULED"]
    assert (hospital.statuses(new), hospital.statuses(running)) == (["SCHEDULED"], ["STARTED"])
    assert hospital.states(mixed) == []
    assert DONE_BY_AGE in hospital.stored(mixed).flags
    assert len(scanner.list(mixed.accession)) == 1
    hospital.orders(mixed, at=timedelta(minutes=1))
    assert hospital.statuses(mixed) == ["COMPLETED", "SCHEDULED"]


AFTER = {"US": timedelta(hours=4)}


def exceptions(hospital: Hospital, uid: str) -> tuple[str, ...]:
    performed = hospital.performed(uid)
    assert performed
    return performed.exceptions


@pytest.mark.parametrize(
    ("date", "time", "told"),
    [
        ("2026.03.16", "09:35:12", "20260316093512"),
        ("2026-03-16", "0935", "202603160935"),
        ("19800101", "000000", "19800101000000"),
        ("16.03.2026", "093512", ""),
    ],
)
def test_p17_dates_of_scanners_reach_the_ris_as_hl7_writes_them(
    hospital: Hospital, scanner: Modality, date: str, time: str, told: str
) -> None:
    """What nobody can read is left out, never passed on."""
    order = hospital.ordered()
    start = "PerformedProcedureStepStart"
    said = {**hospital.start(scanner, order), f"{start}Date": date, f"{start}Time": time}
    answer = bare_create(hospital.ports[0], "CT1", new_uid(), said)
    assert number(answer, STATUS_ELEMENT) == 0x0000
    assert hl7(hospital.queued(order)[0], "OBR", 7) == told


def test_p17_an_exam_that_ends_before_it_began_is_told_and_noted(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    ended = {**hospital.ended(uid), "PerformedProcedureStepEndTime": "080000"}
    assert scanner.set(uid, ended).status == 0x0000
    assert hl7(hospital.queued(order)[-1], "OBR", 8) == "20260316080000"
    performed = hospital.performed(uid)
    assert performed
    assert ENDS_BEFORE_START in performed.tolerated


def test_p19_an_exam_of_an_order_that_was_cancelled_is_taken_told_and_flagged(
    hospital: Hospital, scanner: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = hospital.start(scanner, order)
    hospital.orders(order, control="CA", at=timedelta(minutes=1))
    assert hospital.statuses(order) == ["CANCELLED"]
    assert scanner.create(uid, begun).status == 0x0000
    assert hospital.statuses(order) == ["STARTED"]
    assert AFTER_CANCEL in hospital.stored(order).flags
    assert exceptions(hospital, uid) == (AFTER_CANCEL,)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM"]


def test_p22_a_thousand_series_make_no_longer_message(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    ended = hospital.ended(uid)
    [series] = ended[SERIES]
    ended[SERIES] = [{**series, "SeriesInstanceUID": f"1.2.3.{n}"} for n in range(1000)]
    assert scanner.set(uid, ended).status == 0x0000
    first, last = hospital.queued(order)
    assert len(last.payload) < len(first.payload) + 300
    performed = hospital.performed(uid)
    assert performed
    assert len(performed.attributes[SERIES]) == 1000


def test_the_name_that_a_scanner_has_cut_does_not_reach_the_ris(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered(patient=Patient("CUT1", "LONGNAME^JANE^MARIA"))
    said = {"PatientName": "LONGN^J", "PatientBirthDate": "19000101", "PatientSex": "O"}
    assert scanner.create(new_uid(), {**hospital.start(scanner, order), **said}).status == 0x0000
    [event] = hospital.queued(order)
    assert hl7(event, "PID", 5) == "LONGNAME^JANE^MARIA"
    assert hl7(event, "PID", 7) == order.patient.birth_date
    assert hl7(event, "PID", 8) == order.patient.sex


def test_an_exam_of_another_patient_id_is_taken_by_its_study_and_flagged(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order, PatientID="TYPED")
    assert hospital.statuses(order) == ["STARTED"]
    assert OTHER_PATIENT in hospital.stored(order).flags
    assert exceptions(hospital, uid) == (OTHER_PATIENT,)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert exceptions(hospital, uid) == (OTHER_PATIENT,)


def test_a_step_that_began_elsewhere_stays_on_the_list_of_whom_the_site_says_so(
    hospital: Hospital, scanner: Modality
) -> None:
    order = new_order(Step(step_id="CO", station_ae="CT1~PET1"))
    hospital.says(orm_o01(order))
    hospital.begins(scanner, order)
    assert scanner.list(order.accession) == []
    with hospital.scanner("PET1") as other, hospital.scanner("CT9") as stranger:
        assert len(other.list(order.accession)) == 1
        assert stranger.list(order.accession) == []
        uid = hospital.begins(other, order)
        assert other.list(order.accession) == []
        other.set(uid, hospital.ended(uid))
        assert other.list(order.accession) == []
        assert scanner.list(order.accession) == []
    assert hospital.statuses(order) == ["STARTED"]


def test_an_exam_that_names_no_order_is_of_the_step_that_waits_here_if_the_site_says_so(
    hospital: Hospital, scanner: Modality
) -> None:
    """Level patient: patient ID, station and time."""
    start = hospital.now.replace(tzinfo=None) + timedelta(hours=2)
    order = new_order(Step(step_id="HERE", station_ae="CT7"), start=start)
    later = new_order(
        Step(step_id="LATER", station_ae="CT7"),
        patient=order.patient,
        start=start + timedelta(days=2),
    )
    hospital.orders(order, later)
    said = {
        STATUS: "IN PROGRESS",
        "PatientID": order.patient.patient_id,
        "PerformedStationAETitle": "CT7",
        ITEMS: [{"StudyInstanceUID": new_uid(), "AccessionNumber": ""}],
    }
    levels = (Level.STUDY, Level.ACCESSION, Level.PATIENT)
    guessing = replace(hospital.recording, rules=ExamRules(Matching(levels)))
    for recording, references in ((hospital.recording, 0), (guessing, 1)):
        exam = Performed(sop_instance_uid=new_uid(), status="IN PROGRESS", attributes=said)
        written = hospital.run(recording.write(MppsChange(ABSENT, None, exam), exam))
        assert written
        assert len(written.performed.references) == references
    assert (hospital.statuses(order), hospital.statuses(later)) == (["STARTED"], ["SCHEDULED"])
    assert hospital.states(order) == ["IP"]


def test_an_exam_under_the_number_of_another_patient_is_taken_and_looked_at_also_by_a_guess(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    said = {
        STATUS: "IN PROGRESS",
        "PatientID": "SOMEBODY-ELSE",
        "PerformedStationAETitle": "CT7",
        ITEMS: [{"StudyInstanceUID": new_uid(), "AccessionNumber": order.accession}],
    }
    guessing = ExamRules(Matching((Level.STUDY, Level.ACCESSION, Level.PATIENT)))
    for recording in (hospital.recording, replace(hospital.recording, rules=guessing)):
        exam = Performed(sop_instance_uid=new_uid(), status="IN PROGRESS", attributes=said)
        written = hospital.run(recording.write(MppsChange(ABSENT, None, exam), exam))
        assert written
        assert written.performed.exceptions == (NOT_FOUND, OF_ANOTHER)
    assert hospital.statuses(order) == ["SCHEDULED"]


def test_a_strict_ae_hears_of_what_is_too_long_and_of_what_was_not_created(
    hospital: Hospital, strict: Modality
) -> None:
    """0116 is a warning, and stored; 0105 is a refusal with the attribute's name."""
    order = hospital.ordered()
    begun = without(hospital.start(strict, order), "CommentsOnThePerformedProcedureStep")
    uid = new_uid()
    answer = bare_create(hospital.ports[0], "CT1-S", uid, {**begun, "StudyID": "x" * 17})
    assert number(answer, STATUS_ELEMENT) == 0x0116
    assert hospital.statuses(order) == ["STARTED"]
    told = strict.set(uid, {"CommentsOnThePerformedProcedureStep": "arm lifted"})
    assert (told.status, told.attributes) == (0x0105, ("CommentsOnThePerformedProcedureStep",))
    wrong = bare_create(hospital.ports[0], "CT1-S", new_uid(), {**begun, "Modality": "ct"})
    assert number(wrong, STATUS_ELEMENT) == 0x0106


def test_p18_cyrillic_text_of_a_scanner_comes_back_as_it_was(
    hospital: Hospital, scanner: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = to_dataset({**hospital.start(scanner, order), "PatientName": "Люкceмбypг"})
    begun.SpecificCharacterSet = "ISO_IR 144"
    assert scanner.create(uid, begun).status == 0x0000
    got = scanner.get(uid, 0x00100010)
    assert (got.status, got.data["PatientName"]) == (0x0000, "Люкceмбypг")
