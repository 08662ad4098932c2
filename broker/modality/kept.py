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
    of `most_bytes`, it becomes the end of the old one. What makes room is the first of the old one,
    one after the other and no more than is needed: once full it stays full, and a process that has
    grown to its size keeps that. `hits` and `misses` only grow.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most, self._half = most_bytes, most_bytes // 2
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._leaving: list[K] = []  # the old one's keys, the last first; some have left it already
        self._young_bytes = 0
        self.held_bytes = 0
        """What is held at the moment, by the sizes that were given."""
        self.hits = self.misses = 0

    def get(self, key: K) -> V | None:
        """Give a value, None when it is not here."""
        held = self._young.get(key)
        if held is None:
            held = self._old.pop(key, None)
            if held is None:
                self.misses += 1
                return None
            self._join(key, held)
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
            self.held_bytes += size - before
            self._join(key, (value, size))
            while self.held_bytes > self._most:
                _, gone = self._old.pop(self._leaving.pop(), (None, 0))
                self.held_bytes -= gone

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._leaving = {}, {}, []
        self._young_bytes = self.held_bytes = 0

    def _join(self, key: K, held: tuple[V, int]) -> None:
        self._young[key] = held
        self._young_bytes += held[1]
        if self._young_bytes > self._half:
            self._old = {**self._old, **self._young}
            self._leaving = list(reversed(self._old))
            self._young, self._young_bytes = {}, 0
