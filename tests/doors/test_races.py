"""Two orders processes, two connections, one patient: what is acknowledged last is what shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle

import pytest

from broker.probe.orders import Envelope, adt_a08, orm_o01
from broker.probe.questions import started_step
from broker.probe.scanner import Status, new_uid
from tests.doors.actors import Answer, Broker, Line, accepted, new_order, of_accession, only
from tests.doors.test_patients import adt, mrg, pid

pytestmark = pytest.mark.peer("redis-server")

NOON = datetime(2026, 3, 16, 12, 0)  # noqa: DTZ001 - a RIS writes local time
Race = Callable[..., list[Answer]]


@pytest.fixture
def race(broker: Broker) -> Iterator[Race]:
    """Sends messages at the same moment, each on a connection that may be of either process."""
    with ExitStack() as stack:
        lines = cycle([stack.enter_context(Line(broker.hl7)) for _ in range(12)])
        pool = stack.enter_context(ThreadPoolExecutor(2))

        def run(*messages: bytes) -> list[Answer]:
            gate = threading.Barrier(len(messages))

            def one(message: bytes, line: Line) -> Answer:
                gate.wait(10)
                return line.send(message)

            running = [pool.submit(one, m, next(lines)) for m in messages]
            next(lines) if len(messages) % 2 == 0 else None  # other pairs meet next time
            return [each.result() for each in running]

        yield run


def at(moment: datetime, sender: str = "PROBERIS") -> Envelope:
    return Envelope(application=sender, sent=moment)


def codes(answers: list[Answer]) -> list[str]:
    return sorted(answer.code for answer in answers)


def test_both_processes_take_messages(broker: Broker, race: Race) -> None:
    """Else the races below are none."""
    for _ in range(8):
        race(orm_o01(new_order()), orm_o01(new_order()))
    lines = (line for line in broker.log().splitlines() if line.startswith("{"))
    events = (json.loads(line) for line in lines)
    took = {e["instance"] for e in events if e["event"] == "message" and e["door"] == "orders"}
    assert took == {0, 1}


@pytest.mark.parametrize("newer", ["order", "correction"])
def test_the_newer_of_a_racing_order_and_correction_names_the_patient(
    broker: Broker, race: Race, newer: str
) -> None:
    first = new_order()
    accepted(broker.hl7, orm_o01(first, envelope=at(NOON)))
    for number in range(1, 26):
        soon, later = (NOON + timedelta(minutes=2 * number + more) for more in (0, 1))
        names = {which: f"{which.upper()}{number}^X" for which in ("order", "correction")}
        order = new_order(patient=replace(first.patient, name=names["order"]))
        corrected = replace(first.patient, name=names["correction"])
        answers = race(
            orm_o01(order, envelope=at(later if newer == "order" else soon)),
            adt_a08(corrected, envelope=at(soon if newer == "order" else later)),
        )
        assert codes(answers) == ["AA", "AA"]
        assert only(broker, order)["PatientName"] == names[newer]
        assert only(broker, first)["PatientName"] == names[newer]


def test_the_name_acknowledged_last_is_what_every_order_shows_for_ever_after(
    broker: Broker, race: Race
) -> None:
    """Two senders, whose clocks say nothing to each other: arrival decides."""
    first = new_order()
    accepted(broker.hl7, orm_o01(first))
    orders = [first]
    for number in range(25):
        order = new_order(patient=replace(first.patient, name=f"ORDER{number}^X"))
        corrected = replace(first.patient, name=f"CORRECTED{number}^X")
        answers = race(
            orm_o01(order, envelope=at(NOON)), adt_a08(corrected, envelope=at(NOON, "ADT"))
        )
        assert codes(answers) == ["AA", "AA"]
        orders.append(order)
        shown = {only(broker, each)["PatientName"] for each in (first, order)}
        assert len(shown) == 1
        assert shown <= {order.patient.name, corrected.name}
        last = replace(first.patient, name=f"LAST{number}^X")
        accepted(broker.hl7, adt_a08(last, envelope=at(NOON, "ADT")))
        assert only(broker, order)["PatientName"] == last.name
    assert {only(broker, each)["PatientName"] for each in orders} == {"LAST24^X"}


def test_an_order_that_races_the_merge_of_its_patient_is_the_survivors(
    broker: Broker, race: Race
) -> None:
    """Of patients whom nobody has heard of: no record tells the one of the other."""
    for _ in range(40):
        order, survivor = new_order(), new_order().patient
        merge = adt("A40", pid(survivor), mrg(order.patient))
        assert codes(race(orm_o01(order), merge)) == ["AA", "AA"]
        assert only(broker, order)["PatientID"] == survivor.patient_id


def test_the_same_message_twice_at_once_has_one_effect_and_one_answer(
    broker: Broker, race: Race
) -> None:
    for _ in range(15):
        order, envelope = new_order(), Envelope()
        message = orm_o01(order, envelope=envelope)
        message = message[: message.index(b"ZDS")]  # the study UID is ours to make
        answers = race(message, message)
        assert codes(answers) == ["AA", "AA"]
        assert answers[0].raw == answers[1].raw
        uid = only(broker, order)["StudyInstanceUID"]
        assert uid
        accepted(broker.hl7, message)
        assert only(broker, order)["StudyInstanceUID"] == uid
        mine = [each for each in broker.archived(10) if each.control_id == envelope.control_id]
        assert [each.outcome for each in mine].count("applied") == 1


@pytest.mark.parametrize("number", ["accession", "study_uid", "filler"])
def test_of_two_patients_who_race_for_a_number_one_gets_it(
    broker: Broker, race: Race, number: str
) -> None:
    for _ in range(10):
        one = new_order()
        two = new_order(**{number: getattr(one, number)})
        answers = race(orm_o01(one), orm_o01(two))
        assert codes(answers) == ["AA", "AR"]
        winner, loser = (one, two) if answers[0].code == "AA" else (two, one)
        assert only(broker, winner)["PatientID"] == winner.patient.patient_id
        if number != "accession":
            assert of_accession(broker, loser) == []


def test_racing_changes_of_one_order_all_count(broker: Broker, race: Race) -> None:
    """Two procedures of one accession number, at the same moment, are both there after it."""
    for _ in range(10):
        one = new_order()
        two = replace(new_order(patient=one.patient), accession=one.accession)
        assert codes(race(orm_o01(one), orm_o01(two))) == ["AA", "AA"]
        seen = {item["RequestedProcedureID"] for item in of_accession(broker, one)}
        assert seen == {one.procedure_id, two.procedure_id}


def test_of_two_ends_of_one_exam_at_once_one_counts(broker: Broker) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            order, uid = new_order(), new_uid()
            accepted(broker.hl7, orm_o01(order))
            started = started_step(only(broker, order), station_ae="CT1", now=NOON)
            creates = [  # the very same bytes would be a repeat, and Success
                partial(broker.scanner.mpps_create, uid, {**started, "StudyID": study})
                for study in ("1", "2")
            ]
            assert statuses(pool, *creates) == [0x0000, 0x0111]
            ends = [
                partial(broker.scanner.mpps_complete, uid, now=NOON),
                partial(broker.scanner.mpps_discontinue, uid, now=NOON),
            ]
            assert statuses(pool, *ends) == [0x0000, 0x0110]
            assert of_accession(broker, order) == []


def statuses(pool: ThreadPoolExecutor, *reports: Callable[[], Status]) -> list[Status]:
    """What the scanner is answered when it reports all this at once, lowest first."""
    return sorted(each.result() for each in [pool.submit(report) for report in reports])
