"""What an index gives of a query, in slices that one turn of the loop may work on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

from broker.store import reads
from broker.store.executors import AsyncStore
from broker.worklist.query.narrowing import BY_START, Narrowing

T = TypeVar("T")
BLOCK: Final = 64
"""Answers that are encoded and written before other associations get their turn."""
WHOLE: Final = 20_000
"""Members that are read from an index by start at one moment: 1 ms of Redis."""
PAGE: Final = 1000
"""Members that are read at once where there are more."""
NAMES: Final = 4000
"""Names that are looked through at once."""


class Candidates:
    """Reads the indexes; `answered` is called after each read, before what was read is used."""

    def __init__(self, store: AsyncStore, answered: Callable[[], None]) -> None:
        self._store = store
        self._answered = answered

    async def first(self, narrowing: Narrowing, answers: int) -> reads.Members:
        """Give all that an index by start holds, or the first page where that is too much.

        What is read at one moment misses nothing that is rescheduled meanwhile; so is every list
        of no more than so many `answers`.
        """
        most = max(WHOLE, answers)
        if narrowing.also:
            united = await self._united(narrowing, most)
            if len(united) <= most:
                return reads.Members(united, len(united))
            narrowing = Narrowing("start", "", narrowing.low, narrowing.high)
        elif narrowing.kind in BY_START:
            whole = await self._whole(narrowing, most)
            if len(whole.found) == whole.count:
                return whole
        return await self._page(narrowing)

    async def _whole(self, narrowing: Narrowing, most: int) -> reads.Members:
        """Give all steps of an index; where there are too many they are counted, not read."""
        read = await self._store.run_all([reads.whole(narrowing, PAGE), reads.counted(narrowing)])
        self._answered()
        short, counted = map(_good, read)
        if short.count <= PAGE or counted.count > most:
            return short
        whole = await self._store.run(reads.whole(narrowing, most))
        self._answered()
        return whole

    async def _united(self, narrowing: Narrowing, most: int) -> list[bytes]:
        """Give the steps of several stations or modalities, by start, each once."""
        read = await self._store.run_all(reads.starting(narrowing, most))
        self._answered()
        starts = {member: start for each in read for member, start in _good(each).items()}
        return sorted(starts, key=lambda member: (starts[member], member))

    async def slices(self, first: reads.Members) -> AsyncGenerator[list[bytes]]:
        """Give the members of an index, so many as may be worked on at once."""
        page = first
        while True:
            for at in range(0, len(page.found), BLOCK):
                if at:  # a short list goes out with its final status, in one write
                    await asyncio.sleep(0)
                yield page.found[at : at + BLOCK]
            if page.rest is None:
                return
            page = await self._page(page.rest)

    async def _page(self, narrowing: Narrowing) -> reads.Members:
        if narrowing.kind == "names":
            return await self._named(narrowing)
        by_start = narrowing.kind in BY_START
        page = await self._store.run(reads.members(narrowing, PAGE if by_start else BLOCK))
        self._answered()
        return page

    async def _named(self, narrowing: Narrowing) -> reads.Members:
        """Look through a slice of all names, and give the steps of those with the letters in it."""
        letters = narrowing.value.encode()
        names = await self._store.run(reads.names(narrowing.after, NAMES))
        self._answered()
        patients = [name.rpartition(b"\0")[2] for name in names if letters in name]
        members = [
            reads.members(Narrowing("patient", patient.decode(), ended=narrowing.ended))
            for patient in dict.fromkeys(patients)
        ]
        read = await self._store.run_all(members) if members else []
        found = [member for each in read for member in _good(each).found]
        rest = narrowing._replace(after=names[-1].decode()) if len(names) == NAMES else None
        return reads.Members(found, rest=rest)


def _good(read: T | Exception) -> T:
    if isinstance(read, Exception):
        raise read
    return read
