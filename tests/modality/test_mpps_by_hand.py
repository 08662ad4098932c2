"""`broker mpps`: exams that a person puts right, with what a RIS is told shown before."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.modality.by_hand import Decide, Done, correct
from broker.probe.orders import Order
from broker.store import archive, keys, reads
from broker.store.archive import Archived
from broker.worklist.by_hand import Corrected, Impossible, close, link, unlink
from broker.worklist.finding import Known
from broker.worklist.mpps import Performed
from broker.worklist.performing import OTHER_PATIENT, ExamRules
from broker.worklist.reconciling import UNLINKED_BY_HAND
from tests.modality.conftest import Command
from tests.modality.hospital import ITEMS, Hospital, Modality, new_order, new_uid

pytestmark = pytest.mark.peer("redis-server")


def lost(hospital: Hospital, scanner: Modality, *, ended: bool = True) -> str:
    """An exam of which nobody knows the order; gives its UID."""
    listed, uid = new_order(), new_uid()
    hospital.orders(listed)
    begun = hospital.start(scanner, listed)
    empty: dict[str, Any] = dict.fromkeys(begun[ITEMS][0], "")
    empty |= {"ReferencedStudySequence": [], "ScheduledProtocolCodeSequence": []}
    said = {**begun, "PatientID": "", ITEMS: [{**empty, "StudyInstanceUID": new_uid()}]}
    assert scanner.create(uid, said).status == 0x0000
    if ended:
        assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    return uid


def test_an_exam_without_an_order_is_listed_linked_and_told(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    uid, order = lost(hospital, scanner), new_order()
    hospital.orders(order)
    code, printed = broker("mpps", "list", "--json")
    [row] = [each for each in json.loads(printed) if each["mpps"] == uid]
    assert (code, row["to_look_at"]) == (0, "no scheduled step found")
    code, printed = broker("mpps", "link", uid, order.accession, "--dry-run")
    assert code == 0
    assert f"NORTH|{order.accession} would change" in printed
    assert printed.count("ris would be told: ") == 2
    assert "|CM" in printed
    assert (hospital.statuses(order), hospital.queued(order)) == (["SCHEDULED"], [])
    code, printed = broker("mpps", "link", uid, order.accession, "--reason", "asked the ward")
    assert code == 0
    assert hospital.statuses(order) == ["COMPLETED"]
    assert hospital.states(order) == ["IP", "CM"]
    assert uid not in broker("mpps", "list")[1]
    shown = broker("mpps", "show", uid)[1]
    assert shown.startswith(f"MPPS {uid}  COMPLETED")
    assert f"order NORTH|{order.accession}, procedure" in shown
    assert "by hand" in shown
    assert "    StudyInstanceUID: " in shown
    [entry] = [each for each in hospital.store.run(archive.newest(5)) if uid.encode() in each.raw]
    assert (entry.outcome, entry.cause) == ("by hand", "asked the ward")


def by_hand(hospital: Hospital, uid: str, decide: Decide, accession: str = "") -> Done:
    """What the commands do, without the command line."""
    entry = Archived("broker|me", "", "mpps", "by hand", "because", 1.0, (), "", uid.encode())
    doing = correct(hospital.recording, uid, decide, accession=accession, archived=entry)
    return hospital.run(doing)


def exceptions(hospital: Hospital, uid: str) -> tuple[str, ...]:
    performed = hospital.performed(uid)
    assert performed
    return performed.exceptions


def to(order: Order) -> Decide:
    """Link an exam to an order."""

    def decide(exam: Performed, known: Known) -> Corrected:
        [found] = known.orders.values()
        return link(exam, found, "", known, ExamRules(), "me")

    return decide


def test_a_link_by_mistake_is_undone_and_nothing_links_it_again(
    hospital: Hospital, scanner: Modality
) -> None:
    order, right = new_order(), new_order()
    hospital.orders(order, right)
    uid = hospital.begins(scanner, order)
    done = by_hand(hospital, uid, unlink)
    assert [event.note for event in done.events] == ["DISCONTINUED"]
    assert hospital.statuses(order) == ["SCHEDULED"]
    assert hospital.states(order) == ["IP", "DC"]
    assert scanner.set(uid, {"CommentsOnThePerformedProcedureStep": "x"}).status == 0x0000
    assert hospital.statuses(order) == ["SCHEDULED"]
    performed = hospital.performed(uid)
    assert performed
    assert performed.exceptions == (UNLINKED_BY_HAND,)
    by_hand(hospital, uid, to(right), right.accession)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert (hospital.statuses(right), hospital.states(right)) == (["COMPLETED"], ["IP", "CM"])
    assert hospital.states(order) == ["IP", "DC"]


def test_an_exam_that_will_never_end_is_closed(hospital: Hospital, scanner: Modality) -> None:
    order = hospital.ordered()
    uid, forgotten = hospital.begins(scanner, order), lost(hospital, scanner)
    by_hand(hospital, uid, lambda exam, known: close(exam, "COMPLETED", known, ExamRules()))
    assert (hospital.statuses(order), hospital.states(order)) == (["COMPLETED"], ["IP", "CM"])
    by_hand(hospital, forgotten, lambda exam, known: close(exam, "", known, ExamRules()))
    looked_at = hospital.store.redis.zrange(keys.EXCEPTIONS, 0, -1)
    running = hospital.store.redis.zrange(keys.RUNNING, 0, -1)
    assert forgotten.encode() not in looked_at
    assert uid.encode() not in running
    with pytest.raises(Impossible, match="no such performed procedure step"):
        by_hand(hospital, "1.2.3.9.9", unlink)


def test_a_command_that_cannot_be_carried_out_says_why(broker: Command) -> None:
    assert broker("mpps", "show", "1.2.3.9.9")[0] == 1
    assert broker("mpps", "unlink", "1.2.3.9.9")[0] == 2
    assert broker("mpps", "close", "1.2.3.9.9", "--as", "DONE", "--reason", "x")[0] == 2


def test_an_exam_that_contradicts_its_order_is_listed_till_a_person_closes_it_and_counted(
    hospital: Hospital, scanner: Modality, broker: Command
) -> None:
    order = hospital.ordered()
    uid = hospital.begins(scanner, order, PatientID="TYPED")
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    [row] = [r for r in json.loads(broker("mpps", "list", "--json")[1]) if r["mpps"] == uid]
    assert row["to_look_at"] == OTHER_PATIENT
    counted = hospital.store.run(reads.exceptions())
    assert f"! {counted} exams to look at: see `broker mpps list`" in broker("status")[1]
    close_it = ("mpps", "close", uid, "--reason", "typed at the scanner", "--operator", "anna")
    assert broker(*close_it)[0] == 0
    assert uid not in broker("mpps", "list")[1]
    assert hospital.store.run(reads.exceptions()) == counted - 1
    assert "it is closed already" in broker(*close_it)[1]
    [entry] = [each for each in hospital.store.run(archive.newest(5)) if uid.encode() in each.raw]
    assert (entry.source, entry.cause) == ("broker|anna", "typed at the scanner")
    assert hospital.states(order) == ["IP", "CM"]


def test_an_exam_under_a_number_that_the_ris_has_corrected_since_contradicts_nothing(
    hospital: Hospital, scanner: Modality
) -> None:
    order, uid = hospital.ordered(), new_uid()
    begun = hospital.start(scanner, order)
    corrected = replace(order, accession=new_order().accession)
    hospital.orders(corrected, control="XO", at=timedelta(minutes=1))
    assert scanner.create(uid, begun).status == 0x0000
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert exceptions(hospital, uid) == ()
    assert hospital.stored(corrected).flags == ()
    assert hospital.states(order) == ["IP", "CM"], "in the list of its first number"


def test_who_has_linked_an_exam_by_hand_is_not_asked_again(
    hospital: Hospital, scanner: Modality
) -> None:
    right, wrong = new_order(), new_order()
    hospital.orders(right, wrong)
    uid = hospital.begins(scanner, wrong, PatientID="TYPED")
    by_hand(hospital, uid, unlink)
    assert exceptions(hospital, uid) == (UNLINKED_BY_HAND,)
    by_hand(hospital, uid, to(right), right.accession)
    assert scanner.set(uid, hospital.ended(uid)).status == 0x0000
    assert exceptions(hospital, uid) == ()
