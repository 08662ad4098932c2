"""Messages about the same order or patient are handled one after another, all others side by side.

A commit that lost a race would be made again; one that waits for its turn is made once. Between
processes there are no turns: there the store tells of a conflict.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

from broker.store.executors import StoreUnavailable


class Turns:
    """Who has which names in hand, and who waits for them, first come first served.

    `newest` is the newest revision that was committed in this process, `own` are the last ones.
    """

    def __init__(self) -> None:
        self.newest = ""
        self.own: deque[str] = deque(maxlen=64)
        self._in_hand: set[object] = set()
        self._waiting: deque[tuple[Set[object], asyncio.Future[None]]] = deque()

    def committed(self, revision: str) -> None:
        """Remember what this process has written."""
        self.newest = max(self.newest, revision)
        self.own.append(revision)

    @asynccontextmanager
    async def of(self, names: Set[object]) -> AsyncIterator[str | None]:
        """Have these names in hand within the block, and nobody else any of them.

        Gives what was newest when one began to wait, None to whom it was the turn of at once.
        Raises StoreUnavailable when one who had some of them has found that out.
        """
        newest = self.newest
        waited = await self._take(names)
        try:
            yield newest if waited else None
        except StoreUnavailable as problem:
            self._send_away(names, problem)
            raise
        finally:
            self._give_back(names)

    async def _take(self, names: Set[object]) -> bool:
        ahead = (each for each, _ in self._waiting)
        if self._in_hand.isdisjoint(names) and all(map(names.isdisjoint, ahead)):
            self._in_hand |= names
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((names, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._call()  # those who waited behind
            elif turn.exception() is None:
                self._give_back(names)
            raise
        return True

    def _give_back(self, names: Set[object]) -> None:
        self._in_hand -= names
        if self._waiting:
            self._call()

    def _send_away(self, names: Set[object], problem: StoreUnavailable) -> None:
        """Tell all who wait for these names, or behind those who do: each alone would wait as long.

        They have waited while the store did not answer, and their senders wait still.
        """
        gone = set(names)
        still: deque[tuple[Set[object], asyncio.Future[None]]] = deque()
        for wanted, turn in self._waiting:
            if gone.isdisjoint(wanted):
                still.append((wanted, turn))
            elif not turn.cancelled():
                gone |= wanted
                turn.set_exception(StoreUnavailable(f"{problem}"))
        self._waiting = still

    def _call(self) -> None:
        """Give their turn to all for whom nothing is in hand or asked for earlier.

        Who was cancelled waits no longer, even if he does not know it yet.
        """
        earlier: set[object] = set()
        still: deque[tuple[Set[object], asyncio.Future[None]]] = deque()
        for names, turn in self._waiting:
            if turn.cancelled():
                continue
            if self._in_hand.isdisjoint(names) and earlier.isdisjoint(names):
                self._in_hand |= names
                turn.set_result(None)
            else:
                earlier |= names
                still.append((names, turn))
        self._waiting = still
