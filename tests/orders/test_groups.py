"""Several requests under one ORC: each is an order with numbers of its own."""

from __future__ import annotations

import pytest

from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

LATER = "20260316120100"
NUMBERS = ("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest")


@pytest.fixture
def two(ris: Ris) -> Ris:
    requests = (
        obr("A1", numbers="P1^HIS|F1^RIS"),
        obr("A2", numbers="P2^HIS|F2^RIS", code="CTABD^CT abdomen^L"),
    )
    message = hl7("ORM^O01", PID, orc(placer="P1^HIS", filler="F1^RIS"), *requests)
    assert ris.send(message) == ["AA"]
    return ris


def test_each_obr_under_one_orc_keeps_its_placer_and_filler_number(two: Ris) -> None:
    assert two.lines("AccessionNumber", *NUMBERS) == [("A1", "P1", "F1"), ("A2", "P2", "F2")]


def test_a_cancel_by_the_number_of_the_second_obr_ends_the_second(two: Ris) -> None:
    cancel = hl7("ORM^O01", PID, orc("CA", placer="P2^HIS", filler="F2^RIS"), sent=LATER)
    assert two.send(cancel) == ["AA"]
    assert two.lines("AccessionNumber") == [("A1",)]


def test_an_obr_without_numbers_has_those_of_its_orc(ris: Ris) -> None:
    requests = (obr("A1"), obr("A2", code="CTABD^CT abdomen^L"))
    ris.send(hl7("ORM^O01", PID, orc(), *requests))
    assert ris.lines(*NUMBERS) == [("P1", "F1"), ("P1", "F1")]
