"""Acceptance statements 38 to 62: what scanners report by MPPS, over the wire."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

import pytest
from pydicom import Dataset
from pynetdicom import AE

from broker.dicom.dimse import STATUS as STATUS_ELEMENT
from broker.probe.datasets import Attributes, to_dataset
from broker.probe.orders import Order, Patient
from broker.probe.ris import Answer, Sink
from broker.store import keys
from broker.updates.door import way_to
from broker.updates.drain import Drain
from broker.worklist.performing import OTHER_ACCESSION, OTHER_PATIENT, WRONGLY_SELECTED
from broker.worklist.reconciling import NOT_FOUND
from tests.modality.hospital import (
    ITEMS,
    MPPS,
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
from tests.updates.actors import quick, ris

NOTIFICATION = "1.2.840.10008.3.1.2.3.5"
END_TIME = "PerformedProcedureStepEndTime"


def test_statement_38_a_step_that_begins_leaves_the_list_and_is_told_once(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    hospital.begins(scanner, order)
    assert hospital.statuses(order) == ["STARTED"]
    assert scanner.list(order.accession) == []
    [event] = hospital.queued(order)
    assert (hl7(event, "ORC", 1), hl7(event, "ORC", 5)) == ("SC", "IP")


@pytest.mark.parametrize("status", ["COMPLETED", "IN_PROGRESS", "DISCONTINUED", ""])
@pytest.mark.parametrize("mode", ["scanner", "strict"])
def test_statement_39_a_step_is_created_in_progress_or_not_at_all(
    hospital: Hospital, status: str, mode: str, request: pytest.FixtureRequest
) -> None:
    modality: Modality = request.getfixturevalue(mode)
    order, uid = hospital.ordered(), new_uid()
    told = modality.create(uid, {**hospital.start(modality, order), STATUS: status})
    assert told.status == 0x0106
    assert told.comment == "N-CREATE: status must be IN PROGRESS"
    assert told.attributes in ((), (STATUS,))  # pynetdicom reads no list of an N-CREATE
    assert hospital.performed(uid) is None
    assert hospital.queued(order) == []


def test_statement_40_a_uid_is_created_once(hospital: Hospital, scanner: Modality) -> None:
    order = hospital.ordered()
    begun = hospital.start(scanner, order)
    uid = hospital.begins(scanner, order)
    before = hospital.performed(uid)
    again = scanner.create(uid, {**begun, "PerformedProcedureStepDescription": "another"})
    assert again.status == 0x0111
    assert scanner.create(uid, {**begun, STATUS: "COMPLETED"}).status == 0x0111
    assert hospital.performed(uid) == before
    assert hospital.states(order) == ["IP"]


def test_statement_41_what_is_missing_is_refused_to_the_strict_and_noted_of_the_lenient(
    hospital: Hospital, scanner: Modality, strict: Modality
) -> None:
    order = hospital.ordered()
    begun = hospital.start(strict, order)
    assert strict.create(new_uid(), without(begun, ITEMS)).status == 0x0120
    empty = strict.create(new_uid(), {**begun, "PerformedStationAETitle": ""})
    assert (empty.status, empty.comment) == (0x0121, "PerformedStationAETitle is empty")
    uid = new_uid()
    lacking = {**without(begun, "ReferencedPatientSequence"), "PerformedStationAETitle": ""}
    assert scanner.create(uid, lacking).status == 0x0000
    performed = hospital.performed(uid)
    assert performed
    assert set(performed.tolerated) == {
        "ReferencedPatientSequence is missing",
        "PerformedStationAETitle is empty",
    }


@pytest.mark.parametrize(("uid", "lenient"), [("1.02.3", 0x0000), ("1." + "2" * 63, 0x0117)])
def test_statement_42_a_uid_that_is_none_is_refused_to_the_strict(
    hospital: Hospital, strict: Modality, uid: str, lenient: int
) -> None:
    """One that is too long for a UID is so to anybody."""
    order = hospital.ordered()
    begun = hospital.start(strict, order)
    answer = bare_create(hospital.ports[0], "CT1-S", uid, begun)
    assert number(answer, STATUS_ELEMENT) == 0x0117
    assert hospital.performed(uid) is None
    answer = bare_create(hospital.ports[0], "CT1", uid, begun)
    assert number(answer, STATUS_ELEMENT) == lenient
    assert bool(hospital.performed(uid)) == (lenient == 0x0000)


def test_statement_43_an_unknown_step_cannot_be_set(hospital: Hospital, scanner: Modality) -> None:
    uid = new_uid()
    told = scanner.set(uid, hospital.ended(uid))
    assert (told.status, told.comment) == (0x0112, "no such performed procedure step")


def test_statement_44_a_step_that_ends_is_told_with_its_start_and_end(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert hospital.statuses(order) == ["COMPLETED"]
    last = hospital.queued(order)[-1]
    told = [hl7(last, segment, field) for segment, field in (("ORC", 5), ("OBR", 7), ("OBR", 8))]
    assert told == ["CM", "20260316093512", "20260316094512"]


@pytest.mark.parametrize("lacking", [{END_TIME: ""}, {SERIES: []}])
def test_statement_45_a_step_does_not_end_without_end_time_and_series(
    hospital: Hospital, scanner: Modality, strict: Modality, lacking: dict[str, object]
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(strict, order)
    [keyword] = lacking
    told = strict.set(uid, {**hospital.ended(uid), **lacking})
    assert (told.status, told.attributes) == (0x0121, (keyword,))
    assert told.comment == f"{keyword} is empty"
    assert hospital.statuses(order) == ["STARTED"]
    assert hospital.states(order) == ["IP"]
    assert scanner.set(uid, {**hospital.ended(uid), **lacking}).status == 0x0000
    assert hospital.statuses(order) == ["COMPLETED"]
    performed = hospital.performed(uid)
    assert performed
    assert f"{keyword} is empty" in performed.tolerated


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_statement_46_a_final_step_takes_nothing_more(
    hospital: Hospital, scanner: Modality, strict: Modality, final: str
) -> None:
    """The very same bytes are a repeat whose answer was lost; a lenient AE is told so again."""
    order = hospital.ordered()
    uid = hospital.begins(strict, order)
    ended = hospital.ended(uid, final)
    assert strict.set(uid, ended).status == 0x0000
    states = hospital.states(order)
    for modality, said in (
        (strict, ended),
        (strict, {**ended, STATUS: "IN PROGRESS"}),
        (scanner, {**ended, "CommentsOnThePerformedProcedureStep": "late"}),
    ):
        told = modality.set(uid, said)
        assert (told.status, told.error_id) == (0x0110, 0xA710)
        assert told.comment == "Performed Procedure Step Object may no longer be updated"
    assert scanner.set(uid, ended).status == 0x0000
    assert hospital.states(order) == states


def test_statement_47_patient_and_scheduled_step_stay_as_they_were(
    hospital: Hospital, scanner: Modality, strict: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(strict, order)
    before = hospital.performed(uid)
    assert before
    changes = {"PatientID": "OTHER", ITEMS: [{"StudyInstanceUID": "1.2.3"}]}
    refused = strict.set(uid, changes)
    assert (refused.status, set(refused.attributes)) == (0x0105, {"PatientID", ITEMS})
    ignored = scanner.set(uid, {**changes, "CommentsOnThePerformedProcedureStep": "arm lifted"})
    assert (ignored.status, set(ignored.attributes)) == (0x0107, {"PatientID", ITEMS})
    after = hospital.performed(uid)
    assert after
    assert after.attributes["PatientID"] == before.attributes["PatientID"]
    assert after.attributes[ITEMS] == before.attributes[ITEMS]
    assert after.attributes["CommentsOnThePerformedProcedureStep"] == "arm lifted"


def test_statement_47_what_is_said_once_more_as_it_was_is_no_change(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    same = {"PatientID": order.patient.patient_id, "Modality": "CT"}
    assert scanner.set(uid, same).status == 0x0000


def test_statement_48_a_longer_series_list_takes_the_place_of_the_shorter(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    [first] = hospital.ended(uid)[SERIES]
    second = {**first, "SeriesInstanceUID": "1.2.3.4"}
    assert scanner.set(uid, {SERIES: [first]}).status == 0x0000
    assert scanner.set(uid, {SERIES: [second, first]}).status == 0x0000
    performed = hospital.performed(uid)
    assert performed
    uids = [series["SeriesInstanceUID"] for series in performed.attributes[SERIES]]
    assert uids == ["1.2.3.4", first["SeriesInstanceUID"]]
    assert hospital.states(order) == ["IP"]


def test_statement_49_a_wrongly_selected_entry_is_back_on_the_list(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    told = scanner.set(uid, hospital.ended(uid, "DISCONTINUED", "110514"))
    assert told.status == 0x0000
    assert hospital.statuses(order) == ["SCHEDULED"]
    assert len(scanner.list(order.accession)) == 1
    assert hospital.states(order) == ["IP", "DC"]
    reason = hl7(hospital.queued(order)[-1], "ORC", 16)
    assert reason == "110514^Incorrect worklist entry selected^DCM"
    assert WRONGLY_SELECTED in hospital.stored(order).flags


@pytest.mark.parametrize(
    ("reason", "status"),
    [("110513", "DISCONTINUED"), ("110507", "SCHEDULED"), ("110504", "CANCELLED")],
)
def test_statement_50_the_reason_says_what_becomes_of_the_step(
    hospital: Hospital, scanner: Modality, reason: str, status: str
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, hospital.ended(uid, "DISCONTINUED", reason)).status == 0x0000
    assert hospital.statuses(order) == [status]
    assert hospital.states(order) == ["IP", "DC"]
    assert hl7(hospital.queued(order)[-1], "ORC", 16).startswith(f"{reason}^")


def test_statement_51_a_group_tells_of_each_order_with_its_own_numbers(
    hospital: Hospital, scanner: Modality
) -> None:
    patient = Patient("GROUP", "DOE^GROUP")
    first, second = new_order(patient=patient), new_order(patient=patient)
    hospital.orders(first, second)
    begun = hospital.start(scanner, first)
    begun[ITEMS] += hospital.start(scanner, second)[ITEMS]
    uid = new_uid()
    assert scanner.create(uid, begun).status == 0x0000
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    for order in (first, second):
        assert hospital.statuses(order) == ["COMPLETED"]
        assert hospital.states(order) == ["IP", "CM"]
        last = hospital.queued(order)[-1]
        numbers = [hl7(last, s, f) for s, f in (("ORC", 2), ("ORC", 3), ("OBR", 18))]
        assert numbers == [order.placer, order.filler, order.accession]


def test_statement_51_a_group_may_have_a_study_of_the_scanners_own(
    hospital: Hospital, scanner: Modality
) -> None:
    """Those that were scheduled are in the Referenced Study Sequence then."""
    patient = Patient("GROUP2", "DOE^GROUP")
    both = new_order(patient=patient), new_order(patient=patient)
    hospital.orders(*both)
    items = []
    for order in both:
        [item] = hospital.start(scanner, order)[ITEMS]
        study = {"ReferencedSOPClassUID": "1.2.840.10008.3.1.2.3.1"}
        study["ReferencedSOPInstanceUID"] = order.study_uid
        own = {"StudyInstanceUID": "1.2.9.9", "AccessionNumber": "", "RequestedProcedureID": ""}
        items.append({**item, **own, "ReferencedStudySequence": [study]})
    told = scanner.create(new_uid(), {**hospital.start(scanner, both[0]), ITEMS: items})
    assert told.status == 0x0000
    assert [hospital.states(order) for order in both] == [["IP"], ["IP"]]


def test_statement_52_an_unscheduled_step_is_kept_as_an_exception(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    before, waiting = hospital.stored(order), hospital.waiting()
    uid = new_uid()
    assert scanner.create(uid, unscheduled(hospital, scanner, order, new_uid())).status == 0x0000
    performed = hospital.performed(uid)
    assert performed
    assert (performed.references, performed.exceptions) == ((), (NOT_FOUND,))
    assert hospital.stored(order) == before
    assert hospital.waiting() == waiting


def unscheduled(
    hospital: Hospital, scanner: Modality, order: Order, study: str, accession: str = ""
) -> Attributes:
    """The exam of somebody who is on no list."""
    [item] = (begun := hospital.start(scanner, order))[ITEMS]
    empty = dict.fromkeys(item, "") | {"ScheduledProtocolCodeSequence": []}
    own = {**empty, "ReferencedStudySequence": [], "StudyInstanceUID": study}
    return {**begun, ITEMS: [{**own, "AccessionNumber": accession}]}


@pytest.mark.parametrize("by", ["study", "accession"])
@pytest.mark.parametrize(
    ("ends", "status", "states"),
    [
        ("", "STARTED", ["IP"]),
        ("COMPLETED", "COMPLETED", ["IP", "CM"]),
        ("DISCONTINUED", "DISCONTINUED", ["IP", "DC"]),
    ],
)
def test_statement_53_an_order_that_comes_after_its_exam_is_linked_and_told(
    hospital: Hospital, scanner: Modality, by: str, ends: str, status: str, states: list[str]
) -> None:
    other, late, uid = new_order(), new_order(), new_uid()
    hospital.orders(other)
    study = late.study_uid if by == "study" else new_uid()
    accession = late.accession if by == "accession" else ""
    begun = unscheduled(hospital, scanner, other, study, accession)
    said = {**begun, "PatientID": late.patient.patient_id if by == "accession" else ""}
    assert scanner.create(uid, said).status == 0x0000
    if ends:
        assert scanner.set(uid, hospital.ended(uid, ends)).status == 0x0000
    hospital.orders(late)
    assert (hospital.statuses(late), hospital.states(late)) == ([status], states)
    assert scanner.list(late.accession) == []
    performed = hospital.performed(uid)
    assert performed
    assert performed.exceptions == ()
    assert performed.references[0].order == f"NORTH|{late.accession}"
    if not ends:
        assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
        assert hospital.states(late) == ["IP", "CM"]


def test_statement_53_what_was_linked_once_is_told_once(
    hospital: Hospital, scanner: Modality
) -> None:
    """The order again, an update, and other new orders of its sender tell nothing more."""
    other, late, uid = new_order(), new_order(), new_uid()
    hospital.orders(other)
    scanner.create(uid, unscheduled(hospital, scanner, other, late.study_uid))
    scanner.set(uid, hospital.ended(uid))
    hospital.orders(*(new_order() for _ in range(4)))  # so that the next one is guessed to be new
    hospital.orders(late)
    hospital.orders(late, at=timedelta(minutes=1))
    hospital.orders(late, control="XO", at=timedelta(minutes=2))
    assert hospital.states(late) == ["IP", "CM"]
    assert hospital.statuses(late) == ["COMPLETED"]
    begun, ended = hospital.queued(late)
    assert (hl7(begun, "OBR", 7), hl7(begun, "OBR", 8)) == (hl7(ended, "OBR", 7), "")
    assert hl7(ended, "OBR", 8) > hl7(ended, "OBR", 7)
    assert (b"|SERIES^" in begun.payload, b"|SERIES^" in ended.payload) == (False, True)


def test_statement_54_what_is_appended_to_a_finished_step_does_not_list_it_again(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    begun = hospital.start(scanner, order)
    first, second = hospital.begins(scanner, order), new_uid()
    scanner.set(first, hospital.ended(first))
    assert scanner.create(second, begun).status == 0x0000
    assert hospital.statuses(order) == ["COMPLETED"]
    assert scanner.list(order.accession) == []
    assert scanner.set(second, hospital.ended(second)).status == 0x0000
    assert hospital.states(order) == ["IP", "CM", "CM"]
    assert len({event.control_id for event in hospital.queued(order)}) == 3


@pytest.mark.parametrize("second_ends", ["COMPLETED", "DISCONTINUED"])
def test_statement_55_of_two_at_once_the_second_ends_the_step(
    hospital: Hospital, scanner: Modality, second_ends: str
) -> None:
    """The step is completed, also where what ended last was broken off."""
    order = hospital.ordered()
    begun = hospital.start(scanner, order)
    first, second = new_uid(), new_uid()
    for uid in (first, second):
        assert scanner.create(uid, begun).status == 0x0000
    scanner.set(first, hospital.ended(first))
    assert (hospital.statuses(order), hospital.states(order)) == (["STARTED"], ["IP"])
    scanner.set(second, hospital.ended(second, second_ends, "110513"))
    assert (hospital.statuses(order), hospital.states(order)) == (["COMPLETED"], ["IP", "CM"])


def test_statement_56_the_study_outweighs_another_accession_number_and_is_flagged(
    hospital: Hospital, scanner: Modality
) -> None:
    patient = Patient("BOTH", "DOE^BOTH")
    order, other = new_order(patient=patient), new_order(patient=patient)
    hospital.orders(order, other)
    begun = hospital.start(scanner, order)
    begun[ITEMS][0]["AccessionNumber"] = other.accession
    uid = new_uid()
    assert scanner.create(uid, begun).status == 0x0000
    assert (hospital.statuses(order), hospital.statuses(other)) == (["STARTED"], ["SCHEDULED"])
    assert OTHER_ACCESSION in hospital.stored(order).flags
    performed = hospital.performed(uid)
    assert performed
    [reference] = performed.references
    assert reference.evidence == "study UID, procedure ID, step ID"


def test_statement_57_an_id_that_was_merged_away_still_finds_its_step(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered(patient=Patient("FORMER", "DOE^OLD"))
    begun = hospital.start(scanner, order)
    hospital.says(
        b"MSH|^~\\&|PROBERIS|NORTH|BROKER|NORTH|20260316083000||ADT^A40|MERGE57|P|2.3.1\r"
        b"EVN|A40|20260316083000\rPID|1||SURVIVOR^^^NORTH^PI||DOE^NEW\r"
        b"MRG|FORMER^^^NORTH^PI\r"
    )
    begun[ITEMS][0]["StudyInstanceUID"] = new_uid()  # so that the accession number decides
    assert scanner.create(new_uid(), begun).status == 0x0000
    assert hospital.statuses(order) == ["STARTED"]
    assert OTHER_PATIENT not in hospital.stored(order).flags


def test_statement_58_texts_of_two_character_sets_are_both_right(
    hospital: Hospital, scanner: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = to_dataset({**hospital.start(scanner, order), "PatientName": "Müller^王"})
    begun.SpecificCharacterSet = "ISO_IR 192"
    assert scanner.create(uid, begun).status == 0x0000
    noted = Dataset()
    noted.SpecificCharacterSet = "ISO_IR 100"
    noted.CommentsOnThePerformedProcedureStep = "Arm über Kopf"
    assert scanner.set(uid, noted).status == 0x0000
    got = scanner.get(uid, 0x00100010, 0x00400280)
    assert got.status == 0x0000
    assert got.data["PatientName"] == "Müller^王"
    assert got.data["CommentsOnThePerformedProcedureStep"] == "Arm über Kopf"


def test_statement_59_what_is_stored_can_be_retrieved_until_it_is_purged(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    scanner.set(uid, hospital.ended(uid))
    everything = scanner.get(uid)
    assert (everything.status, everything.data[STATUS]) == (0x0000, "COMPLETED")
    assert len(everything.data[SERIES]) == 1
    some = scanner.get(uid, 0x00400252, 0x00400340, 0x00400281)
    assert some.status == 0x0000
    assert set(some.data) == {
        STATUS,
        SERIES,
        "PerformedProcedureStepDiscontinuationReasonCodeSequence",
    }
    optional = scanner.get(uid, 0x00400252, 0x00400307)
    assert (optional.status, set(optional.data)) == (0x0001, {STATUS})
    hospital.forget(uid)
    assert scanner.get(uid).status == 0x0112


def test_statement_60_notification_is_not_offered(hospital: Hospital) -> None:
    """1.2.840.10008.3.1.2.3.5: nobody is told of a performed step by N-EVENT-REPORT."""
    ae = AE("CT1")
    ae.add_requested_context(NOTIFICATION)
    ae.add_requested_context(MPPS)
    association = ae.associate("127.0.0.1", hospital.ports[0])
    assert [context.abstract_syntax for context in association.accepted_contexts] == [MPPS]
    association.release()
    ae.shutdown()


def test_statement_61_a_ris_that_is_down_hears_all_of_it_in_order_later(
    hospital: Hospital, scanner: Modality
) -> None:
    """What could not be delivered comes again byte for byte."""
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    waiting = [event.payload for event in hospital.queued(order)]
    sink = Sink()
    sink.start()
    try:
        sink.answer_next(Answer.AR)
        deliver(hospital, sink, order)
        deliver(hospital, sink, order)
    finally:
        sink.stop()
    told = [each.payload for each in sink.received if each.field("OBR", 18) == order.accession]
    assert told == [waiting[0], *waiting]
    assert hospital.queued(order) == []


def test_statement_62_what_is_committed_is_delivered_once_though_its_wake_up_is_lost(
    hospital: Hospital, scanner: Modality
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order)
    scanner.set(uid, hospital.ended(uid))
    hospital.store.redis.delete(keys.WAKE)
    sink = Sink()
    sink.start()
    try:
        for _ in range(2):
            deliver(hospital, sink, order)
    finally:
        sink.stop()
    told = [e.field("ORC", 5) for e in sink.received if e.field("OBR", 18) == order.accession]
    assert told == ["IP", "CM"]


def deliver(hospital: Hospital, sink: Sink, order: Order) -> None:
    """What the updates door does for one order, whose turn is now."""
    mailbox = f"{order.patient.issuer}|{order.accession}"
    dirty = hospital.store.redis.zrange(keys.dirty("ris"), 0, -1)
    for other in set(dirty) - {mailbox.encode()}:
        hospital.store.redis.zrem(keys.dirty("ris"), other)
    hospital.store.redis.zadd(keys.dirty("ris"), {mailbox: 0}, xx=True)
    job = Drain(
        ris(sink),
        way_to(ris(sink)),
        hospital.store,
        nudge=lambda: None,
        stop=Event(),
        pace=quick(),
        observe=lambda _: None,
    )
    try:
        job()
    finally:
        job.close()
