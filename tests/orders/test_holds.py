"""A hold by status (ORC-5 HD) is taken back by another status, one by order control (HD) by RL."""

from __future__ import annotations

import pytest

from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")


def said(control: str, status: str, minute: int) -> bytes:
    segments = (PID, orc(control, status), obr(procedure="RP1"))
    return hl7("ORM^O01", *segments, sent=f"202603161200{minute:02}")


@pytest.fixture
def two_steps(ris: Ris) -> Ris:
    steps = (orc(), obr(procedure="RP1", step="S1"), orc(), obr(procedure="RP1", step="S2"))
    ris.send(hl7("ORM^O01", PID, *steps))
    return ris


def statuses(ris: Ris) -> list[str]:
    return [status for (status,) in ris.lines("ScheduledProcedureStepStatus")]


@pytest.mark.parametrize(
    ("control", "status", "then"),
    [
        ("SC", "SC", "SCHEDULED"),
        ("XO", "SC", "SCHEDULED"),
        ("NW", "SC", "SCHEDULED"),
        ("XO", "IP", "SCHEDULED"),
        ("SC", "IP", "ARRIVED"),
        ("RL", "", "SCHEDULED"),
    ],
)
@pytest.mark.parametrize("holding", ["SC", "XO"])
def test_what_a_status_has_held_another_one_brings_back_every_step_of_it(
    two_steps: Ris, holding: str, control: str, status: str, then: str
) -> None:
    assert two_steps.send(said(holding, "HD", 1)) == ["AA"]
    assert two_steps.lines() == []
    assert two_steps.send(said(control, status, 2)) == ["AA"]
    assert len(statuses(two_steps)) == 2
    assert then in statuses(two_steps)


@pytest.mark.parametrize(("control", "status"), [("XO", ""), ("SC", "HD"), ("XO", "HD")])
def test_what_says_nothing_or_the_same_brings_nothing_back(
    two_steps: Ris, control: str, status: str
) -> None:
    two_steps.send(said("SC", "HD", 1), said(control, status, 2))
    assert two_steps.lines() == []


def test_what_order_control_has_held_no_status_brings_back(two_steps: Ris) -> None:
    two_steps.send(said("HD", "", 1), said("XO", "SC", 2), said("SC", "SC", 3))
    assert two_steps.lines() == []
    two_steps.send(said("RL", "", 4))
    assert len(two_steps.lines()) == 2


def test_an_order_control_hold_after_one_by_status_stays(two_steps: Ris) -> None:
    two_steps.send(said("SC", "HD", 1), said("HD", "", 2), said("SC", "SC", 3))
    assert two_steps.lines() == []


def test_a_status_that_is_scheduled_takes_no_arrival_back(two_steps: Ris) -> None:
    two_steps.send(said("SC", "IP", 1), said("XO", "SC", 2))
    assert "ARRIVED" in statuses(two_steps)


def test_the_starter_mapping_goes_by_the_status_too(ris: Ris) -> None:
    def starter(control: str, status: str, minute: int) -> list[str]:
        sent = f"202603161200{minute:02}"
        segments = (PID, orc(control, status), obr())
        return ris.send(hl7("ORM^O01", *segments, sent=sent, sender="STARTER|NORTH"))

    shown = []
    words = [("NW", "SC"), ("SC", "HD"), ("XO", "SC"), ("HD", ""), ("XO", "SC"), ("RL", "")]
    for minute, said_so in enumerate([*words, ("XO", "CM")]):
        assert starter(*said_so, minute) == ["AA"]
        shown.append(len(ris.lines()))
    assert shown == [1, 0, 1, 0, 0, 1, 0]
