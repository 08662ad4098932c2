"""What is kept has a bound of bytes; what is asked for stays."""

from __future__ import annotations

from random import Random

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


def test_once_full_it_stays_full() -> None:
    entry = OVERHEAD + 100
    kept = Kept[int, str](1000 * entry)
    for number in range(1000):
        kept.put(number, "x", 100)
    for number in range(1000, 5000):
        kept.put(number, "x", 100)
        kept.get(number - 300)
        assert kept.held_bytes == 1000 * entry


def test_what_makes_room_is_no_more_than_is_needed_and_the_longest_unasked_for() -> None:
    kept = Kept[int, str](10 * (OVERHEAD + 100))
    for number in range(10):
        kept.put(number, "x", 100)
    kept.get(0)
    kept.put(10, "x", 100)
    assert kept.all(range(11)) == ["x", None, *["x"] * 9]


def test_what_it_says_it_holds_is_what_it_holds_however_it_is_used() -> None:
    chance = Random(7)
    kept = Kept[int, int](100_000)
    sizes = dict[int, int]()
    for _ in range(20_000):
        number = chance.randrange(400)
        if kept.get(number) is None:
            sizes[number] = chance.randrange(2000)
            kept.put(number, sizes[number], sizes[number])
        assert kept.held_bytes <= 100_000
    held = [found for found in kept.all(range(400)) if found is not None]
    assert kept.held_bytes == sum(size + OVERHEAD for size in held)
    assert kept.held_bytes > 95_000
