"""The job: everything that waits for one RIS, each order's messages in their order."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event as Flag
from typing import Any, NamedTuple
from uuid import uuid4

import structlog

from broker.settings import Destination, Verdict
from broker.store import destinations, outbox
from broker.store.call import Word
from broker.store.destinations import Away
from broker.store.executors import Store, StoreUnavailable
from broker.store.outbox import Event, Taken, Trouble
from broker.store.sent import Sent, telling
from broker.updates.pace import Pace
from broker.updates.reaching import Outcome, Unreachable, Way

ORDERS_AT_ONCE = 100

log = structlog.get_logger("updates")


@dataclass(frozen=True)
class Attempt:
    """One message sent, or an attempt to: what the metrics count. Ages since the event arose."""

    ris: str
    verdict: str
    took_s: float
    age_s: float


Observe = Callable[[Attempt], None]


class LeaseLost(Exception):
    """Another worker has taken the order, or we are told to stop: not another byte for it."""


@dataclass
class Lease:
    """An order that is ours for the moment."""

    store: Store
    ris: str
    order: str
    pace: Pace
    token: str = field(default_factory=lambda: uuid4().hex)
    confirmed: float = 0.0

    def take(self) -> Taken | None:
        """Take the order and give its oldest event, None when there is nothing for us to send."""
        _, _, ttl_ms, now_ms = self.taking()
        taking = outbox.take(self.ris, self.order, self.token, ttl_ms=ttl_ms, now_ms=now_ms)
        try:
            return self.store.run(taking)
        except outbox.UNREADABLE as damage:
            log.error("event unreadable", ris=self.ris, error=type(damage).__name__)
            self.store.run(outbox.bury(self.ris, self.order, self.token))
            return None

    def taking(self) -> tuple[str, str, int, int]:
        """Give the words that take it, from now on."""
        self.confirmed = time.monotonic()
        return self.order, self.token, int(self.pace.lease_s * 1000), int(time.time() * 1000)

    def release(self) -> None:
        """Give the order back; it stays dirty while it has events."""
        self.store.run(outbox.release(self.ris, self.order, self.token))

    def keep(self) -> None:
        """Renew the lease when it is time to. Raises LeaseLost."""
        now = time.monotonic()
        if now - self.confirmed < self.pace.renew_s:
            return
        ttl_ms = int(self.pace.lease_s * 1000)
        if not self.store.run(outbox.renew(self.ris, self.order, self.token, ttl_ms=ttl_ms)):
            raise LeaseLost
        self.confirmed = now


class Turn(NamedTuple):
    """The message that goes next, of an order that is ours; None where there is none."""

    lease: Lease
    event: Event | None
    trouble: Trouble | None = None


class Drain:
    """Sends what waits for one destination until nothing is due or its time is up."""

    def __init__(
        self,
        ris: Destination,
        way: Way,
        store: Store,
        *,
        nudge: Callable[[], object],
        stop: Flag,
        pace: Pace,
        observe: Observe,
        keep_s: float = 30 * 86400,
    ) -> None:
        self._keep_s, self._took_s = keep_s, 0.0
        self._ris, self._store, self._pace = ris, store, pace
        self._nudge, self._stop, self._observe = nudge, stop, observe
        self._way, self.credentials = way, way.credentials
        self._unreachable, self._not_before = 0, 0.0
        self._away_since, self._was_reached = 0.0, False
        self._stopped_at: float | None = None
        self._turns: deque[str] = deque()
        self._stays_open = True  # some RISs close after each answer

    def __call__(self) -> None:
        """Run the job. A store that goes away ends it: the sweeper will ask again."""
        try:
            self._drain(time.monotonic() + self._pace.drain_s)
        except StoreUnavailable as away:
            log.warning("store unavailable while sending", ris=self._ris.name, why=str(away))

    def close(self) -> None:
        """Close the connection to the destination."""
        self._way.close()

    def _drain(self, until: float) -> None:
        name = self._ris.name
        while self._turns or self._refilled(name):
            if self._stop.is_set() or not self._reachable():
                self._turns.clear()
                return
            self._deliver(until)
            if time.monotonic() > until:
                self._nudge()
                return

    def _refilled(self, name: str) -> bool:
        """Read whose turn it is; what a job leaves of them is the next one's, or nobody is last."""
        now_ms = int(time.time() * 1000)
        due = self._store.run(outbox.dirty(name, now_ms=now_ms, limit=ORDERS_AT_ONCE))
        self._turns.extend(due)
        return bool(due)

    def _reachable(self) -> bool:
        """Whether there is a connection; a RIS that is away is tried again ever more rarely."""
        if (left_s := self._not_before - time.monotonic()) > 0:
            self._stop.wait(min(self._pace.away_s, left_s))
            return False
        began = time.monotonic()
        try:
            self._way.connect()
        except Unreachable as away:
            self._unreachable += 1
            pause_s = self._pace.knock_s(self._unreachable, random.random)
            self._not_before = time.monotonic() + pause_s
            log.warning("ris unreachable", ris=self._ris.name, why=str(away), again_in_s=pause_s)
            self._away_since = self._away_since or time.time()
            said = Away(self._away_since, str(away))
            self._store.run(destinations.note_away(self._ris.name, said))
            self._observe(Attempt(self._ris.name, "unreachable", time.monotonic() - began, 0.0))
            return False
        if not self._was_reached or self._unreachable:
            self._store.run(destinations.note_back(self._ris.name))
        self._unreachable, self._away_since, self._was_reached = 0, 0.0, True
        return True

    def _deliver(self, until: float) -> None:
        """Send the messages of an order, the oldest first, and go on to the next while that goes.

        Whose turn is next is taken with the last message of the one before: a third less to ask.
        """
        lease = self._lease(self._turns.popleft())
        turn = _turn(lease, lease.take())
        try:
            while turn.event is not None:
                outcome = self._send(turn.event, turn.lease, turn.trouble)
                turn = self._settle(turn.event, turn.lease, outcome, turn.trouble)
                self._stays_open = self._way.is_open()
                if self._stop.is_set() or time.monotonic() > until or not self._stays_open:
                    break
            if turn.event is not None:
                turn.lease.release()
        except LeaseLost:
            log.warning("order left to another worker", ris=self._ris.name)

    def _lease(self, order: str) -> Lease:
        return Lease(self._store, self._ris.name, order, self._pace)

    def _send(self, event: Event, lease: Lease, trouble: Trouble | None) -> Outcome:
        lease.keep()  # we may have been stopped for long, and another worker be further on
        if event.kind == "mpps":
            self._doubt(event, lease, trouble)
        began = time.monotonic()
        outcome = self._way.send(
            event, lambda: self._while_waiting(lease), doubt=bool(trouble and trouble.doubt)
        )
        self._took_s = took_s = time.monotonic() - began
        age_s = time.time() - event.created
        self._observe(Attempt(self._ris.name, outcome.verdict.value, took_s, age_s))
        say = log.info if outcome.verdict is Verdict.DONE else log.warning
        say(
            "status message sent" if event.kind == "hl7" else "mpps sent on",
            verdict=outcome.verdict.value,
            ris=self._ris.name,
            control_id=event.control_id,
            cause=outcome.cause,
            took_ms=round(took_s * 1000, 1),
        )
        return outcome

    def _doubt(self, event: Event, lease: Lease, trouble: Trouble | None) -> None:
        """Note that it was sent: whoever sends it again must know what "duplicate" means then."""
        before = trouble or Trouble(event.control_id, since=time.time())
        noted = replace(before, doubt=True)
        if noted != trouble and not self._store.run(
            outbox.note(lease.ris, lease.order, lease.token, noted)
        ):
            raise LeaseLost

    def _while_waiting(self, lease: Lease) -> None:
        lease.keep()
        if not self._stop.is_set():
            return
        self._stopped_at = self._stopped_at or time.monotonic()
        if time.monotonic() - self._stopped_at > self._pace.stop_grace_s:
            # Whoever comes after us sends it again, byte for byte.
            lease.release()
            raise LeaseLost

    def _settle(
        self, event: Event, lease: Lease, outcome: Outcome, trouble: Trouble | None
    ) -> Turn:
        """Do what the verdict asks for, and give the event that may go next. Raises LeaseLost."""
        if outcome.verdict is Verdict.RETRY:
            self._postpone(event, lease, outcome, trouble)
            return Turn(lease, None)
        mine = (lease.ris, lease.order, lease.token)
        told = telling(self._sent(event, outcome, trouble), self._keep_s)
        if outcome.verdict is not Verdict.PARK:
            return self._pop(event, lease, told)
        letter: dict[str, Any] = {"cause": outcome.cause, "words": outcome.words, "at": time.time()}
        if self._ris.on_reject == "hold":
            if not self._store.run(outbox.hold(*mine, event, **letter, told=told)):
                raise LeaseLost
            return Turn(lease, None)
        popped = self._store.run(outbox.park(*mine, event, **letter, told=told))
        if not popped.done:
            raise LeaseLost
        return Turn(lease, popped.following)

    def _pop(self, event: Event, lease: Lease, told: tuple[Word, ...]) -> Turn:
        """Remove what was delivered; after the last of its order the next one is ours."""
        upcoming = self._turns[0] if self._turns and self._stays_open else ""
        following = self._lease(upcoming)
        then: tuple[Word, ...] = following.taking() if upcoming else outbox.NOBODY
        mine = (lease.ris, lease.order, lease.token)
        popped = self._store.run(outbox.pop(*mine, event.control_id, told, then))
        if not popped.done:
            raise LeaseLost
        if popped.following is not None or not upcoming:
            return Turn(lease, popped.following)
        self._turns.popleft()
        return _turn(following, popped.taken)

    def _sent(self, event: Event, outcome: Outcome, trouble: Trouble | None) -> Sent:
        return Sent(
            to=event.ris,
            control_id=event.control_id,
            note=event.note,
            created=event.created,
            at=time.time(),
            verdict=outcome.verdict.value,
            cause=outcome.cause,
            attempts=1 + (trouble.attempts if trouble else 0),
            took_s=round(self._took_s, 4),
        )

    def _postpone(
        self, event: Event, lease: Lease, outcome: Outcome, trouble: Trouble | None
    ) -> None:
        before = trouble or Trouble(event.control_id, since=time.time())
        now = replace(
            before,
            attempts=before.attempts + 1,
            cause=outcome.cause,
            doubt=outcome.doubt or before.doubt,
        )
        until_ms = _in_ms(self._pace.pause_s(now.attempts, random.random))
        mine = (lease.ris, lease.order, lease.token)
        self._store.run(outbox.postpone(*mine, until_ms=until_ms, trouble=now))


def _turn(lease: Lease, taken: Taken | None) -> Turn:
    return Turn(lease, taken.event, taken.trouble) if taken else Turn(lease, None)


def _in_ms(pause_s: float) -> int:
    return int((time.time() + pause_s) * 1000)
