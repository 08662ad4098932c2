"""The sender's clock: MSH-7 as an instant, and which of two is the older."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from broker.worklist.staleness import instant, is_stale

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20260316101500", "20260316091500"),
        ("202607011015", "202607010815"),
        ("20260316101500.123+0100", "20260316091500.123"),
        ("20260316101500-0500", "20260316151500"),
        ("20260316", "20260316"),
        ("202613991015", ""),
        ("", ""),
        ("rubbish", ""),
    ],
)
def test_a_time_is_an_instant_of_the_senders_zone(sent, expected):
    """In UTC, at the precision that was sent."""
    assert instant(sent, BERLIN) == expected


def test_in_the_hour_that_is_repeated_arrival_decides():
    """02:55 of summer time comes before 02:10 of winter time: the text alone does not say."""
    first, second = (instant(f"202610250{clock}00", BERLIN) for clock in ("255", "210"))
    assert (first, second) == ("", "")
    assert not is_stale(second, first)
    assert not is_stale(instant("20261025030500", BERLIN), instant("20261025015500", BERLIN))
