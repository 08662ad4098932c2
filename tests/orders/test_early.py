"""Appointments (SIU) that come before their order wait for it, as cancels and holds do."""

from __future__ import annotations

import pytest

from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

START = ("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime")


def siu(
    event: str, start: str = "202603181400", minute: int = 1, who: str = PID, by: str = "F1"
) -> bytes:
    sch = f"SCH|APT1|APF1|||||HEAD||||^^^{start}" + "|" * 16 + by
    ais = f"AIS|1||CTHEAD^CT head^L|{start}"
    return hl7(f"SIU^{event}", sch, who, "RGS|1", ais, sent=f"202603161200{minute:02}")


def order(minute: int, control: str = "NW") -> bytes:
    return hl7("ORM^O01", PID, orc(control), obr(), sent=f"202603161200{minute:02}")


@pytest.mark.parametrize("event", ["S12", "S13", "S14"])
def test_a_slot_that_was_booked_first_is_that_of_the_order_when_it_comes(
    ris: Ris, event: str
) -> None:
    (answer,) = ris.answers(siu(event, minute=2))
    assert b"MSA|AA|" in answer
    assert b"remembered" in answer
    assert ris.send(order(1)) == ["AA"]
    assert ris.lines(*START) == [("20260318", "140000")]
    assert ris.archived()[0].cause == "booked before"
    ris.send(siu("S13", "202603190800", minute=3, by=""))  # by its own number, from now on
    assert ris.lines(*START) == [("20260319", "080000")]


def test_of_two_slots_the_newer_counts_and_an_order_sent_later_says_its_own(ris: Ris) -> None:
    ris.send(siu("S12", minute=2), siu("S13", "202603190800", minute=3), order(1))
    assert ris.lines(*START) == [("20260319", "080000")]
    ris.emptied().send(siu("S12", minute=2), order(3))
    assert ris.lines(*START) == [("20260317", "093000")]


@pytest.mark.parametrize("event", ["S15", "S17", "S26"])
def test_an_appointment_that_is_off_before_its_order_came_keeps_the_order_off_the_list(
    ris: Ris, event: str
) -> None:
    assert ris.send(siu("S12", minute=2), siu(event, minute=3), order(1)) == ["AA"] * 3
    assert ris.lines() == []


def test_a_slot_of_another_patient_is_not_the_orders(ris: Ris) -> None:
    ris.send(siu("S12", minute=2, who=PID.replace("4711", "99")))
    assert ris.send(order(1)) == ["AA"]
    assert ris.lines(*START) == [("20260317", "093000")]


def test_a_slot_that_no_order_could_be_found_by_is_refused(ris: Ris) -> None:
    assert ris.send(siu("S13", by="")) == ["AE"]


def test_a_slot_after_the_one_that_is_off_brings_the_order(ris: Ris) -> None:
    ris.send(siu("S12", minute=2), siu("S15", minute=3), siu("S12", "202603190800", minute=4))
    ris.send(siu("S13", "202603200800", minute=2), order(1))  # the first is late
    assert ris.lines(*START) == [("20260319", "080000")]
