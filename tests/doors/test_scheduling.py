"""SIU over the wire: an appointment is booked, moved, cancelled and missed by its own number."""

from __future__ import annotations

from itertools import count

import pytest

from broker.probe.orders import Order, orm_o01
from tests.doors.actors import Broker, accepted, new_order, of_accession, only, send, step_of

pytestmark = pytest.mark.peer("redis-server")

_NUMBERS = count(1)
PID = "PID|1||{0.patient.patient_id}^^^{0.patient.issuer}^PI||{0.patient.name}||19800229|F"


def siu(
    event: str, order: Order, *, sent: str, start: str = "", number: str = "", by: str = "CADENCE"
) -> bytes:
    """An SIU message; with a `number` it knows the order, else only the appointment."""
    head = f"MSH|^~\\&|{by}|NORTH|MWL|R|{sent}||SIU^{event}|S{next(_NUMBERS):06d}|P|2.4"
    sch = ["SCH", "", f"AP{order.accession}^{by}", *[""] * 8, f"^^30^{start}"]
    sch += [""] * (27 - len(sch)) + [number]
    segments = [head, "|".join(sch), PID.format(order), "RGS|1|A"]
    if start:
        segments += [f"AIS|1|A|MR1^MR knee^L|{start}|0|min|30|min", "AIL|1|A|MR1^^^NORTH|MR"]
    return "\r".join([*segments, ""]).encode()


def booked(broker: Broker) -> Order:
    order = new_order()
    accepted(
        broker.hl7,
        siu("S12", order, sent="20260316080000", start="202603171015", number=order.accession),
    )
    return order


def start(broker: Broker, order: Order) -> str:
    step = step_of(only(broker, order))
    return f"{step['ScheduledProcedureStepStartDate']} {step['ScheduledProcedureStepStartTime']}"


def test_c43_and_s75_an_appointment_is_booked_and_moved_by_its_own_number(
    broker: Broker,
) -> None:
    order = booked(broker)
    study = only(broker, order)["StudyInstanceUID"]
    assert start(broker, order) == "20260317 101500"
    accepted(broker.hl7, siu("S13", order, sent="20260316090000", start="202603181400"))
    assert start(broker, order) == "20260318 140000"
    assert only(broker, order)["StudyInstanceUID"] == study


@pytest.mark.parametrize("event", ["S15", "S17", "S26"])
def test_c43_and_s75_an_appointment_that_is_off_leaves_the_list_and_another_slot_brings_it_back(
    broker: Broker, event: str
) -> None:
    order = booked(broker)
    accepted(broker.hl7, siu(event, order, sent="20260316090000"))
    assert of_accession(broker, order) == []
    accepted(broker.hl7, siu("S13", order, sent="20260316100000", start="202603181400"))
    assert start(broker, order) == "20260318 140000"


def test_a_modified_appointment_changes_what_it_says(broker: Broker) -> None:
    order = booked(broker)
    accepted(broker.hl7, siu("S14", order, sent="20260316090000", start="202603171030"))
    assert start(broker, order) == "20260317 103000"


def test_an_appointment_of_an_order_moves_the_order(broker: Broker) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    said = {"start": "202603181400", "number": order.filler, "by": "SCHEDULER"}
    accepted(broker.hl7, siu("S12", order, sent="20260316090000", **said))
    assert start(broker, order) == "20260318 140000"
    moved = siu("S13", order, sent="20260316100000", start="202603191400", by="SCHEDULER")
    accepted(broker.hl7, moved)
    assert start(broker, order) == "20260319 140000"
    assert len(of_accession(broker, order)) == 1


def test_an_appointment_of_nothing_known_is_refused_and_its_cancel_remembered(
    broker: Broker,
) -> None:
    order = new_order()
    move = send(broker.hl7, siu("S13", order, sent="20260316090000", start="202603181400"))
    assert move.code == "AE"
    accepted(broker.hl7, siu("S15", order, sent="20260316091500"))
    late = {"start": "202603171015", "number": order.accession}
    accepted(broker.hl7, siu("S12", order, sent="20260316080000", **late))
    assert of_accession(broker, order) == []
