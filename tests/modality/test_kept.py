"""What is kept has a bound of bytes; what is asked for stays."""

from __future__ import annotations

from broker.modality.kept import OVERHEAD, Kept


def test_what_is_asked_for_outlives_what_is_not() -> None:
    kept = Kept[int, str](10 * (OVERHEAD + 100))
    for number in range(100):
        kept.put(number, "x", 100)
        assert kept.get(0) == "x"
        assert kept.held_bytes <= 10 * (OVERHEAD + 100)
    assert kept.get(1) is None
    assert kept.all([0, 1, 99]) == ["x", None, "x"]
    assert kept.hits == 102
    assert kept.misses == 2


def test_what_is_larger_than_half_the_bound_is_not_kept() -> None:
    kept = Kept[str, str](10_000)
    kept.put("large", "x", 5_000)
    assert kept.get("large") is None
    assert kept.held_bytes == 0


def test_cleared_it_holds_nothing() -> None:
    kept = Kept[str, str](10_000)
    kept.put("a", "x", 10)
    kept.clear()
    assert kept.get("a") is None
    assert kept.held_bytes == 0
