"""Which messages are listed as dead: also those refused in part, and what came after them."""

from __future__ import annotations

import pytest

from broker.cli.letters import grouped, letters
from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

T1, T2 = "20260316120000", "20260316120100"


def order(control: str = "NW", modality: str = "CT", sent: str = T1, **said: str) -> bytes:
    return hl7("ORM^O01", PID, orc(control, **said), obr(modality=modality), sent=sent)


def dead(ris: Ris) -> list[tuple[str, str, int, bool]]:
    groups = grouped(letters(ris.store))
    return [(each.code, each.location, len(each.letters), each.superseded) for each in groups]


@pytest.mark.parametrize("sent", [T1, T2], ids=["same second", "later"])
def test_a_refused_message_is_superseded_once_its_sender_has_sent_another_of_the_order(
    ris: Ris, sent: str
) -> None:
    assert ris.send(order(modality="ETA")) == ["AE"]
    assert dead(ris) == [("AE 103", "OBR-24", 1, False)]
    assert ris.send(order(sent=sent)) == ["AA"]
    assert dead(ris) == [("AE 103", "OBR-24", 1, True)]


def test_what_is_said_of_another_order_or_before_supersedes_nothing(ris: Ris) -> None:
    ris.send(order(), order("XO", "ETA", sent=T2), order(modality="ETA", placer="P2", filler="F2"))
    assert dead(ris) == [("AE 103", "OBR-24", 2, False)]
    ris.send(order("XO"))  # older than what was refused
    assert dead(ris) == [("AE 103", "OBR-24", 2, False)]


def test_a_message_of_two_orders_is_superseded_when_both_are(ris: Ris) -> None:
    two = (orc(), obr(), orc(placer="P2", filler="F2"), obr("A2", modality="ETA"))
    ris.send(hl7("ORM^O01", PID, *two), order(sent=T2))
    assert dead(ris) == [("AE 103", "OBR-24", 1, False)]
    ris.send(hl7("ORM^O01", PID, orc(placer="P2", filler="F2"), obr("A2"), sent=T2))
    assert dead(ris) == [("AE 103", "OBR-24", 1, True)]


def test_what_is_refused_in_part_is_dead_with_its_cause_and_group_till_all_is_applied(
    ris: Ris,
) -> None:
    two = (orc(), obr(), orc(placer="P2", filler="F2"))
    bad = hl7("ORM^O01", PID, *two, obr("A2", modality="ETA"), sender="GOOD|NORTH")
    assert ris.send(bad, bad) == ["AE", "AE"]
    assert ris.lines("AccessionNumber") == [("A1",)]
    assert dead(ris) == [("AE 103", "OBR-24", 1, False)]
    assert [each.outcome for each in ris.archived(2)] == ["in part", "in part"]
    assert "OBR^2^24" in ris.archived()[0].cause
    assert ris.send(hl7("ORM^O01", PID, *two, obr("A2"), sent=T2, sender="GOOD|NORTH")) == ["AA"]
    assert dead(ris) == [("AE 103", "OBR-24", 1, True)]
