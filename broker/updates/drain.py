"""The job: everything that waits for one RIS, each order's messages in their order."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event as Flag

import structlog

from broker.settings import Destination, Verdict
from broker.store import destinations, outbox
from broker.store.destinations import Away
from broker.store.executors import Store, StoreUnavailable
from broker.store.outbox import Event, Trouble
from broker.store.sent import Sent
from broker.updates.hand import Hand, LeaseLost
from broker.updates.pace import Pace
from broker.updates.reaching import Outcome, Unreachable, Way

ORDERS_AT_ONCE = 100
MAILBOXES_AT_ONCE = 8
"""So many messages at most go again after a worker was killed, byte for byte."""
QUICK_S = 0.05
"""An answer that takes longer keeps nothing but its own mailbox."""

log = structlog.get_logger("updates")


@dataclass(frozen=True)
class Attempt:
    """One message sent, or an attempt to: what the metrics count. Ages since the event arose."""

    ris: str
    verdict: str
    took_s: float
    age_s: float


Observe = Callable[[Attempt], None]


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
        self._at_once, self._taken_at = 1, 0.0

    def __call__(self) -> None:
        """Run the job. A store that goes away ends it: the sweeper will ask again."""
        try:
            self._drain(time.monotonic() + self._pace.drain_s)
        except StoreUnavailable as away:
            log.warning(
                "store unavailable while sending", destination=self._ris.name, why=str(away)
            )

    def close(self) -> None:
        """Close the connection to the destination."""
        self._way.close()

    def _drain(self, until: float) -> None:
        name = self._ris.name
        while self._turns or self._refilled(name) or self._refilled_soon(name):
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

    def _refilled_soon(self, name: str) -> bool:
        """Look once more before we end: the next message is seldom far, a new job is dear."""
        return not self._stop.wait(self._pace.linger_s) and self._refilled(name)

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
            log.warning(
                "destination unreachable",
                destination=self._ris.name,
                why=str(away),
                again_in_s=pause_s,
            )
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
        """Send what waits in some mailboxes, each in its order, and go on while that goes."""
        hand = Hand(self._store, self._ris.name, self._pace, self._keep_s)
        hand.settle(self._whose_turn())
        try:
            while turn := hand.next():
                self._settle(*turn, self._send(*turn, hand), hand)
                self._stays_open = self._way.is_open()
                if self._stop.is_set() or time.monotonic() > until or not self._stays_open:
                    break
                if hand.is_through:
                    hand.settle(self._whose_turn())
        except LeaseLost:
            log.warning("order left to another worker", destination=self._ris.name)
        self._turns.extendleft(reversed(hand.emptied()))

    def _whose_turn(self) -> list[str]:
        """Name the mailboxes to take at once: ever more of them while answers come quickly."""
        now = time.monotonic()
        quick = now - self._taken_at < QUICK_S and self._stays_open
        self._at_once = min(2 * self._at_once, MAILBOXES_AT_ONCE) if quick else 1
        self._taken_at = now
        return [self._turns.popleft() for _ in range(min(self._at_once, len(self._turns)))]

    def _send(self, event: Event, trouble: Trouble | None, hand: Hand) -> Outcome:
        hand.keep(event.order)  # we may have been stopped for long, another worker be further on
        if event.kind == "mpps":
            self._doubt(event, hand, trouble)
        began = time.monotonic()
        outcome = self._way.send(
            event,
            lambda: self._while_waiting(event.order, hand, began),
            doubt=bool(trouble and trouble.doubt),
        )
        self._took_s = took_s = time.monotonic() - began
        age_s = time.time() - event.created
        self._observe(Attempt(self._ris.name, outcome.verdict.value, took_s, age_s))
        say = log.info if outcome.verdict is Verdict.DONE else log.warning
        say(
            "status message sent" if event.kind == "hl7" else "mpps sent on",
            verdict=outcome.verdict.value,
            destination=self._ris.name,
            control_id=event.control_id,
            cause=outcome.cause,
            order=event.order,
            ms=round(took_s * 1000, 1),
        )
        return outcome

    def _doubt(self, event: Event, hand: Hand, trouble: Trouble | None) -> None:
        """Note that it was sent: whoever sends it again must know what "duplicate" means then."""
        before = trouble or Trouble(event.control_id, since=time.time())
        noted = replace(before, doubt=True)
        if noted != trouble:
            hand.note(event.order, noted)

    def _while_waiting(self, box: str, hand: Hand, began: float) -> None:
        hand.keep(box)
        if time.monotonic() - began > QUICK_S:
            # It keeps us waiting: nothing else shall wait with it.
            self._turns.extendleft(reversed(hand.emptied()))
        if not self._stop.is_set():
            return
        self._stopped_at = self._stopped_at or time.monotonic()
        if time.monotonic() - self._stopped_at > self._pace.stop_grace_s:
            # Whoever comes after us sends it again, byte for byte.
            hand.give_back(box)
            raise LeaseLost

    def _settle(self, event: Event, trouble: Trouble | None, outcome: Outcome, hand: Hand) -> None:
        """Do what the verdict asks for."""
        if outcome.verdict is Verdict.RETRY:
            self._postpone(event, trouble, outcome, hand)
            return
        told = self._sent(event, outcome, trouble)
        if outcome.verdict is Verdict.PARK:
            said = {"cause": outcome.cause, "words": outcome.words}
            hand.refuse(event, told, **said, holds=self._ris.on_reject == "hold")
        else:
            hand.delivered(event, told)

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
        self, event: Event, trouble: Trouble | None, outcome: Outcome, hand: Hand
    ) -> None:
        before = trouble or Trouble(event.control_id, since=time.time())
        now = replace(
            before,
            attempts=before.attempts + 1,
            cause=outcome.cause,
            doubt=outcome.doubt or before.doubt,
        )
        until_ms = _in_ms(self._pace.pause_s(now.attempts, random.random))
        hand.postpone(event.order, until_ms=until_ms, trouble=now)


def _in_ms(pause_s: float) -> int:
    return int((time.time() + pause_s) * 1000)
