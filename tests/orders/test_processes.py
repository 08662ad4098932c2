"""Two processes take a cancel and a new order of one second: which of them counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.orders.intake import Intake
from broker.orders.turns import Turns
from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 13, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def order(control: str) -> bytes:
    return hl7("ORM^O01", PID, orc(control), obr())


def as_another(intake: Intake, at: datetime) -> Intake:
    """The intake of another process, in which it is this time; both have one store."""
    return replace(intake, clock=lambda: at, turns=Turns())


@pytest.mark.parametrize(
    ("after", "listed"),
    [(0.0, 0), (0.9, 0), (1.1, 1), (50.0, 1)],
)
def test_a_new_order_beside_a_cancel_of_another_process_loses_the_tie_and_after_its_answer_not(
    ris: Ris, after: float, listed: int
) -> None:
    one, other = as_another(ris.intake, NOW), as_another(ris.intake, NOW + after * MS)
    ris.run(as_another(ris.intake, NOW - 1000 * MS).accept(order("NW")))
    ris.run(one.accept(order("CA")))
    ris.run(other.accept(order("NW")))
    assert len(ris.lines()) == listed


def test_on_one_process_a_new_order_behind_the_cancel_is_listed_however_soon(ris: Ris) -> None:
    one = as_another(ris.intake, NOW)
    for control in ("NW", "CA", "NW"):
        ris.run(one.accept(order(control)))
    assert len(ris.lines()) == 1


def test_of_a_cancel_and_a_new_order_that_two_processes_commit_at_once_the_cancel_counts(
    ris: Ris,
) -> None:
    one, other = as_another(ris.intake, NOW), as_another(ris.intake, NOW)

    async def race(*messages: bytes) -> None:
        await asyncio.gather(*(i.accept(m) for i, m in zip((one, other), messages, strict=True)))

    for controls in (("CA", "NW"), ("NW", "CA")) * 4:
        ris.emptied().run(as_another(ris.intake, NOW - 1000 * MS).accept(order("NW")))
        ris.run(race(*map(order, controls)))
        assert ris.lines() == []
