"""What a process keeps to be quick, within a bound of bytes, and how often that was of use."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
OVERHEAD = 320
"""Bytes that key, value and their place in a table take beside what they hold."""


class Kept(Generic[K, V]):
    """Values by key; peers choose the keys, so that what was not asked for lately has to go.

    Two generations: what was of use in the old one joins the young one; when the young one has half
    of `most_bytes`, the old one goes and the young one is old. `hits` and `misses` only grow.
    """

    def __init__(self, most_bytes: int) -> None:
        self._half = most_bytes // 2
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._young_bytes = self._old_bytes = 0
        self.hits = self.misses = 0

    @property
    def held_bytes(self) -> int:
        """What is held at the moment, by the sizes that were given."""
        return self._young_bytes + self._old_bytes

    def get(self, key: K) -> V | None:
        """Give a value, None when it is not here."""
        held = self._young.get(key)
        if held is None:
            held = self._old.pop(key, None)
            if held is None:
                self.misses += 1
                return None
            self._old_bytes -= held[1]
            self._take(key, held)
        self.hits += 1
        return held[0]

    def all(self, keys: Iterable[K]) -> list[V | None]:
        """Give the value of each key, None where it is not here."""
        young, get = self._young, self.get
        found: list[V | None] = []
        hits = 0
        for key in keys:
            held = young.get(key)
            if held is None:
                found.append(get(key))
                young = self._young
            else:
                hits += 1
                found.append(held[0])
        self.hits += hits
        return found

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of so many bytes; one that is too large is not kept."""
        size += OVERHEAD
        if size <= self._half and key not in self._young:
            _, before = self._old.pop(key, (None, 0))
            self._old_bytes -= before
            self._take(key, (value, size))

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
        self._young_bytes = self._old_bytes = 0

    def _take(self, key: K, held: tuple[V, int]) -> None:
        self._young[key] = held
        self._young_bytes += held[1]
        if self._young_bytes > self._half:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
