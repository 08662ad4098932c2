"""The mailboxes that one worker has in its hand: leases, what goes next, what was delivered."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from uuid import uuid4

import structlog

from broker.store import outbox
from broker.store.executors import Store
from broker.store.outbox import Delivered, Event, Settled, Taken, Trouble
from broker.store.sent import Sent
from broker.updates.pace import Pace

log = structlog.get_logger("updates")


class LeaseLost(Exception):
    """Another worker has taken the mailbox, or we are told to stop: not another byte for it."""


class Hand:
    """Mailboxes of one destination, under one token.

    What was delivered is settled together, with the taking of the next: one way to the store for
    several messages. What a worker that dies has not settled goes again, byte for byte.
    """

    def __init__(self, store: Store, ris: str, pace: Pace, keep_s: float) -> None:
        self._store, self._ris, self._pace, self._keep_s = store, ris, pace, keep_s
        self._token = uuid4().hex
        self._turns: deque[Taken] = deque()
        self._delivered: list[Delivered] = []
        self._confirmed: dict[str, float] = {}

    @property
    def is_through(self) -> bool:
        """Whether everything in it was sent."""
        return not self._turns

    def settle(self, boxes: Sequence[str] = ()) -> None:
        """Settle what was delivered, and take these mailboxes as well, where they are free."""
        if not self._delivered and not boxes:
            return
        delivered, self._delivered = self._delivered, []
        now = time.monotonic()
        settled = self._store.run(
            outbox.settle(
                self._ris,
                self._token,
                delivered,
                boxes,
                ttl_ms=self._ttl_ms,
                now_ms=int(time.time() * 1000),
                keep_s=self._keep_s,
            )
        )
        self._confirmed.update(dict.fromkeys(boxes, now))
        self._go_on(settled)

    def next(self) -> tuple[Event, Trouble | None] | None:
        """Give the message that goes next, None where there is none; bury what nobody can read."""
        while self._turns:
            turn = self._turns.popleft()
            if turn.event is not None:
                return turn.event, turn.trouble
            log.error("event unreadable", destination=self._ris)
            self._go_on(self._store.run(outbox.bury(self._ris, turn.box, self._token)))
        return None

    def keep(self, box: str) -> None:
        """Renew a lease when it is time to. Raises LeaseLost."""
        now = time.monotonic()
        if now - self._confirmed[box] < self._pace.renew_s:
            return
        if not self._store.run(outbox.renew(self._ris, box, self._token, ttl_ms=self._ttl_ms)):
            raise LeaseLost
        self._confirmed[box] = now

    def note(self, box: str, trouble: Trouble) -> None:
        """Keep what must not be forgotten if we die now. Raises LeaseLost."""
        if not self._store.run(outbox.note(self._ris, box, self._token, trouble)):
            raise LeaseLost

    def delivered(self, event: Event, told: Sent) -> None:
        """Have a message settled that its destination has taken."""
        self._delivered.append(Delivered(event.order, event.control_id, told))

    def refuse(self, event: Event, told: Sent, *, cause: str, words: str, holds: bool) -> None:
        """Put a message aside; what it holds is ours no more."""
        refused = outbox.refuse(
            event,
            self._token,
            cause=cause,
            words=words,
            at=told.at,
            told=told,
            keep_s=self._keep_s,
            holds=holds,
        )
        self._go_on(self._store.run(refused))

    def postpone(self, box: str, *, until_ms: int, trouble: Trouble) -> None:
        """Give a mailbox back till later."""
        mine = (self._ris, box, self._token)
        self._store.run(outbox.postpone(*mine, until_ms=until_ms, trouble=trouble))

    def give_back(self, box: str) -> None:
        """Give a mailbox back; it stays dirty while it has messages."""
        self._store.run(outbox.release(self._ris, box, self._token))

    def emptied(self) -> list[str]:
        """Settle what was delivered, and give back what was not sent yet: others may have it."""
        self.settle()
        back = [turn.box for turn in self._turns]
        self._turns.clear()
        for box in back:
            self.give_back(box)
        return back

    @property
    def _ttl_ms(self) -> int:
        return int(self._pace.lease_s * 1000)

    def _go_on(self, settled: Settled) -> None:
        self._turns.extendleft(reversed(settled.ours))
        for _ in settled.lost:
            log.warning("order left to another worker", destination=self._ris)
