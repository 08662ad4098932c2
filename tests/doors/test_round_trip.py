"""What a scanner reports reaches the RIS: in order, once, whatever the RIS does meanwhile."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from broker.mapping.standards.judging import judged
from broker.probe.orders import Step, omi_o23, orm_o01
from broker.probe.questions import ended_step, started_step
from broker.probe.ris import Answer, Received, Sink
from broker.probe.scanner import STEP, Attributes, new_uid
from tests.doors.actors import Broker, accepted, new_order, of_accession, only, step_of, until

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
ITEMS = "ScheduledStepAttributesSequence"


def told(ris: Sink, accession: str) -> list[Received]:
    """What a RIS was told of one order, in the order of arrival."""
    return [each for each in list(ris.received) if each.field("OBR", 18) == accession]


def states(ris: Sink, accession: str) -> list[str]:
    return [each.field("ORC", 5) for each in told(ris, accession)]


def scheduled(broker: Broker) -> tuple[str, Attributes]:
    """A new order's accession number and worklist entry."""
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    return order.accession, only(broker, order)


def started(broker: Broker) -> tuple[str, str]:
    """A new order whose exam has begun: accession number, SOP Instance UID."""
    accession, item = scheduled(broker)
    uid = new_uid()
    assert broker.scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000
    return accession, uid


def listed(broker: Broker, accession: str) -> bool:
    keys = {"AccessionNumber": accession, "PatientID": "", STEP: [{"Modality": ""}]}
    return bool(broker.scanner.find(keys))


def test_start_and_end_of_an_exam_reach_the_ris(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    until(lambda: states(ris, accession) == ["IP"], "IP")
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    until(lambda: states(ris, accession) == ["IP", "CM"], "CM")
    assert not listed(broker, accession)
    first, last = told(ris, accession)
    assert first.field("MSH", 9) == "ORM^O01"
    assert first.field("ORC", 1) == last.field("ORC", 1) == "SC"
    assert first.field("OBR", 21) == "CT1"
    assert first.field("MSH", 10) != last.field("MSH", 10)
    assert first.field("ORC", 3).startswith(accession.replace("A", "FL"))


def test_hl7apy_has_nothing_against_a_status_message(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    broker.scanner.mpps_discontinue(uid, now=NOW)
    until(lambda: len(told(ris, accession)) == 2, "two messages")
    for message in told(ris, accession):
        # ZDS is IHE's, and no part of any version of HL7 that hl7apy knows.
        text = "\r".join(s for s in message.text.split("\r") if not s.startswith("ZDS"))
        assert judged(text) == ()


def test_a_discontinued_exam_says_why(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    assert broker.scanner.mpps_discontinue(uid, now=NOW, reason="110501") == 0x0000
    until(lambda: states(ris, accession) == ["IP", "DC"], "DC")
    reason = told(ris, accession)[-1].field("ORC", 16)
    assert reason == "110501^Equipment failure^DCM"
    assert not listed(broker, accession)


def test_the_wrong_entry_picked_stays_on_the_list(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    assert broker.scanner.mpps_discontinue(uid, now=NOW, reason="110514") == 0x0000
    until(lambda: states(ris, accession) == ["IP", "DC"], "DC")
    assert listed(broker, accession)


def test_of_two_steps_only_the_one_that_was_done_leaves_the_list(broker: Broker, ris: Sink) -> None:
    order = new_order(Step(step_id="ONE"), Step(step_id="TWO"))
    accepted(broker.hl7, omi_o23(order))
    first, _ = of_accession(broker, order)
    uid = new_uid()
    assert broker.scanner.mpps_start(first, uid=uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    assert step_of(only(broker, order))["ScheduledProcedureStepID"] == "TWO"
    until(lambda: states(ris, order.accession) == ["IP", "CM"], "CM")
    assert {each.field("OBR", 20) for each in told(ris, order.accession)} == {"ONE"}


def test_the_ris_hears_of_a_step_once_although_two_exams_were_made_of_it(
    broker: Broker, ris: Sink
) -> None:
    """It is completed when the second one ends, not while that one still runs."""
    accession, item = scheduled(broker)
    first, second = new_uid(), new_uid()
    for uid in (first, second):
        assert broker.scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(first, now=NOW) == 0x0000
    until(lambda: states(ris, accession), "IP")
    assert states(ris, accession) == ["IP"]
    assert broker.scanner.mpps_complete(second, now=NOW) == 0x0000
    until(lambda: "CM" in states(ris, accession), "CM")
    assert states(ris, accession) == ["IP", "CM"]


# --- status codes


def test_a_step_is_created_once(broker: Broker) -> None:
    _, item = scheduled(broker)
    uid = new_uid()
    attributes = started_step(item, station_ae="CT1", now=NOW)
    assert broker.scanner.mpps_create(uid, attributes) == 0x0000
    assert broker.scanner.mpps_create(uid, attributes) == 0x0000  # whoever missed our answer
    another = broker.scanner.mpps_create(uid, {**attributes, "StudyID": "another"})
    assert another == 0x0111
    assert another.comment


def test_a_step_is_created_in_progress_or_not_at_all(broker: Broker, ris: Sink) -> None:
    accession, item = scheduled(broker)
    uid = new_uid()
    attributes = started_step(item, station_ae="CT1", now=NOW)
    attributes["PerformedProcedureStepStatus"] = "COMPLETED"
    refused = broker.scanner.mpps_create(uid, attributes)
    assert refused == 0x0106
    assert refused.comment
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0112
    assert listed(broker, accession)
    assert told(ris, accession) == []


def test_an_unknown_status_is_an_invalid_value(broker: Broker) -> None:
    _, uid = started(broker)
    refused = broker.scanner.mpps_set(uid, {"PerformedProcedureStepStatus": "FINISHED"})
    assert refused == 0x0106
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000


def test_a_final_state_takes_nothing_more(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000  # whoever missed our answer
    for ending in ("COMPLETED", "DISCONTINUED"):
        late = {**ended_step(ending, uid=uid, now=NOW), "PerformedProcedureStepDescription": "late"}
        refused = broker.scanner.mpps_set(uid, late)
        assert refused == 0x0110
        assert refused.error_id == 0xA710
        assert "no longer be updated" in refused.comment
    until(lambda: states(ris, accession) == ["IP", "CM"], "CM")


def test_an_n_set_of_nothing_known_is_answered_so(broker: Broker) -> None:
    assert broker.scanner.mpps_complete(new_uid(), now=NOW) == 0x0112


def test_an_update_without_a_status_tells_nobody(broker: Broker, ris: Sink) -> None:
    accession, uid = started(broker)
    said = {"PerformedProcedureStepDescription": "more", "PerformedSeriesSequence": []}
    assert broker.scanner.mpps_set(uid, said) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    until(lambda: "CM" in states(ris, accession), "CM")
    assert states(ris, accession) == ["IP", "CM"]


# --- several, or none


def test_one_exam_of_two_orders_tells_of_each_once(broker: Broker, ris: Sink) -> None:
    one = new_order()
    two = new_order(patient=one.patient)
    accepted(broker.hl7, orm_o01(one), orm_o01(two))
    group, second = (
        started_step(only(broker, order), station_ae="CT1", now=NOW) for order in (one, two)
    )
    group[ITEMS] += second[ITEMS]
    uid = new_uid()
    assert broker.scanner.mpps_create(uid, group) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    for order in (one, two):
        until(lambda o=order: "CM" in states(ris, o.accession), "CM of both")
        assert states(ris, order.accession) == ["IP", "CM"]
        assert of_accession(broker, order) == []


def test_an_exam_that_nobody_scheduled_is_taken_and_nobody_is_told(
    broker: Broker, ris: Sink
) -> None:
    accession, item = scheduled(broker)
    before = len(ris.received)
    stranger = {
        **item,
        "AccessionNumber": "",
        "StudyInstanceUID": new_uid(),
        "PatientID": "WALKIN",
        STEP: [{"Modality": "CT"}],
    }
    uid = new_uid()
    without_items = started_step(stranger, station_ae="CT1", now=NOW)
    without_items[ITEMS] = []
    for attributes in (started_step(stranger, station_ae="CT1", now=NOW), without_items):
        uid = new_uid()
        assert broker.scanner.mpps_create(uid, attributes) == 0x0000
        assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    known, uid = started(broker)
    until(lambda: states(ris, known) == ["IP"], "what came later")
    others = [each for each in ris.received[before:] if each.field("OBR", 18) != known]
    assert others == []
    assert listed(broker, accession)


# --- a RIS in trouble


def test_a_ris_that_is_down_gets_everything_later_and_delays_nobody(
    broker: Broker, ris: Sink, other_ris: Sink
) -> None:
    address = ris.address
    ris.stop()
    exams = []
    for _ in range(3):
        accession, uid = started(broker)
        began = time.monotonic()
        assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
        assert time.monotonic() - began < 10
        exams.append(accession)
    for accession in exams:
        until(lambda a=accession: states(other_ris, a) == ["IP", "CM"], "south")
        assert states(ris, accession) == []
    ris.start(*address)
    for accession in exams:
        until(lambda a=accession: states(ris, a) == ["IP", "CM"], "north")


def test_a_ris_that_never_answers_delays_nobody_and_gets_the_same_bytes_again(
    broker: Broker, ris: Sink, other_ris: Sink
) -> None:
    ris.answer = Answer.SILENCE
    accession, uid = started(broker)
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    until(lambda: states(other_ris, accession) == ["IP", "CM"], "south")
    until(lambda: told(ris, accession), "the message")
    ris.answer = Answer.AA
    until(lambda: states(ris, accession)[-1] == "CM", "north")
    first, *again, last = told(ris, accession)  # again and again, while it is silent
    assert again
    assert {each.payload for each in again} == {first.payload}
    assert (first.field("ORC", 5), last.field("ORC", 5)) == ("IP", "CM")
