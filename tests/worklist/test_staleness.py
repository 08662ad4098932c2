"""The sender's clock: MSH-7 as an instant, and which of two is the older."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.worklist.staleness import instant, is_stale, newest

BERLIN = ZoneInfo("Europe/Berlin")
RECEIVED = "20260316110000"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20260316101500", "20260316091500"),
        ("202607011015", "202607010815"),
        ("20260316101500.123+0100", "20260316091500.123"),
        ("20260316101500-0500", "20260316151500"),
        ("20260316", "20260316"),
        ("202613991015", ""),
        ("99991231235959.9999-1400", ""),
        ("00010101000000+1400", ""),
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


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20260316120500", "20260316110500"),  # within five minutes of when it came
        ("20260316120501", RECEIVED),
        ("20260316150000", RECEIVED),
        ("202603161206", RECEIVED),
        ("20260318", RECEIVED),
        ("20990101", RECEIVED),
        ("2099", RECEIVED),
        ("20260316", "20260316"),
    ],
)
def test_a_time_more_than_five_minutes_ahead_counts_as_when_it_came(sent, expected):
    """Believed, it would make the cancel that follows by a right clock stale."""
    received = datetime(2026, 3, 16, 12, tzinfo=BERLIN)
    assert instant(sent, BERLIN, received) == expected


@pytest.mark.parametrize(
    ("first", "then", "kept"),
    [
        ("20260316110130", "20260316110131", "20260316110131"),
        ("20260316110130", "20260316110129", "20260316110130"),
        ("20260316110130", "202603161101", "20260316110130"),  # the same minute
        ("20260316110130", "20260316", "20260316110130"),
        ("20260316110130", "202603161102", "202603161102"),
        ("202603161101", "20260316110130", "20260316110130"),
        ("20260316110130", "", "20260316110130"),
    ],
)
def test_a_clock_that_is_told_by_the_minute_forgets_no_second(first, then, kept):
    """Else a message of 11:01:29 would be news after those of 11:01:30 and of 11:01."""
    assert newest(newest({}, "RIS", first), "RIS", then) == {"RIS": kept}
