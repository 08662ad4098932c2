"""So many turns a second for each of many peers, and for none more than its share of memory."""

from __future__ import annotations

import pytest

from broker.pacing import LONGEST_S, MOST, Pacing, Seldom


def test_the_turns_of_a_second_may_be_taken_at_once_and_the_rest_wait_evenly() -> None:
    pacing = Pacing()
    waits = [pacing.wait_s("a", 10, now=100.0) for _ in range(13)]
    assert waits[:10] == [0.0] * 10
    assert waits[10:] == pytest.approx([0.1, 0.2, 0.3])
    assert pacing.wait_s("b", 10, now=100.0) == 0.0, "others are not made to wait for it"


def test_who_is_slow_enough_never_waits() -> None:
    pacing = Pacing()
    assert [pacing.wait_s("a", 10, now=0.1 * n) for n in range(100)] == [0.0] * 100
    assert [pacing.wait_s("b", 0.5, now=2.0 * n) for n in range(10)] == [0.0] * 10


def test_what_would_wait_too_long_has_no_turn_and_costs_none() -> None:
    pacing = Pacing()
    taken = [pacing.wait_s("a", 2, now=0.0) for _ in range(100)]
    assert taken.count(None) == 100 - 2 - 2 * LONGEST_S
    assert pacing.wait_s("a", 2, now=0.5) == LONGEST_S


def test_the_longest_silent_is_forgotten_first() -> None:
    pacing = Pacing()
    for number in range(2 * MOST):
        pacing.wait_s(f"{number}", 1, now=0.0)
        pacing.wait_s("busy", 1, now=0.0)
    assert len(pacing._free) == MOST
    assert pacing.wait_s("busy", 1, now=0.0) is None
    assert pacing.wait_s("0", 1, now=0.0) == 0.0


def test_what_happens_all_the_time_is_told_seldom_and_of_each_kind() -> None:
    seldom = Seldom(10)
    assert [now for now in range(31) if seldom.first("a", float(now))] == [0, 10, 20, 30]
    assert seldom.first("b", 30.0)
    for number in range(2 * MOST):
        seldom.first(number, 31.0)
    assert len(seldom._told) == MOST
