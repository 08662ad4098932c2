"""Who asked what and received which entries: noted as it happens, written once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Final

import structlog

from broker.modality.told import Ae, Asked, Tell, Told, tell_nobody
from broker.store import sightings
from broker.store.call import Call
from broker.store.executors import AsyncStore, StoreUnavailable
from broker.store.sightings import AskedOnce, Heard, Refused
from broker.worklist import canary
from broker.worklist.directory import Directory
from broker.worklist.query.matching import Query

FLUSH_S: Final = 1.0
AES_AT_ONCE: Final = 500
"""Distinct titles between two flushes; whoever invents more of them is not remembered."""
ENTRIES_AT_ONCE: Final = 50_000
SLICE: Final = 25
"""Entries noted by one script, and `BATCH` calls in one pipeline: queries get between them."""
BATCH: Final = 4
LONGEST_QUERY: Final = 64 * 1024
LONGEST_LIST: Final = 5000
"""Of an answer only so many entries are remembered in their order."""
REJECTED_AT_ONCE: Final = 100
SAME_LIST_S: Final = 10.0
"""A list that stays the same is not written more often: its query is, with its time."""
SHORT_LIST: Final = 20
SAME_LISTS: Final = 50_000
"""Entries of lists that are not short, all together."""

__all__ = ["Sightings", "Tell", "Told", "tell_nobody"]

log = structlog.get_logger("modality")


class Sightings:
    """Collects what the door says of its AEs; what is not flushed is lost with the process.

    `keep` and `keep_queries` say how long the store holds it. A store that is away is waited for,
    as long as there is room: the door answers all the same.
    """

    def __init__(
        self,
        store: AsyncStore,
        directory: Directory,
        keep: timedelta = timedelta(days=30),
        keep_queries: timedelta = timedelta(days=7),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._directory, self._clock = store, directory, clock
        self._keep_s, self._keep_queries_s = keep.total_seconds(), keep_queries.total_seconds()
        self._aes: dict[str, Ae] = {}
        self._rejected: dict[tuple[str, str, str], Refused] = {}
        self._lists: dict[tuple[str, bytes], tuple[Sequence[bytes], float]] = {}

    def told(self, told: Told) -> None:
        """Note a query that is over: a microsecond, and some more for a long list."""
        association = told.association
        if association.calling == canary.AE:
            return
        title = told.profile.title or association.calling
        ae = self._ae(title, association.address, association.called)
        if ae is not None:
            ae.hear(told, self._clock())

    def observed(self, event: str, labels: Mapping[str, str]) -> None:
        """Note an association that is over, or was rejected; see `Reception.observe`."""
        if event != "association" or "calling" not in labels:
            return
        calling, called, address = (labels.get(n, "") for n in ("calling", "called", "address"))
        if calling == canary.AE and labels.get("outcome") != "rejected":
            return
        if labels.get("outcome") == "rejected":
            self._reject((_plain(calling), _plain(called), address), labels.get("reason", ""))
        elif ae := self._ae(self._title(calling, address), address, called):
            ae.at = max(ae.at, self._clock())

    async def flush(self) -> None:
        """Write what was noted, a slice at a time. Raises StoreUnavailable, and keeps it then."""
        aes, rejected = self._aes, self._rejected
        self._aes, self._rejected = {}, {}
        try:
            for calls in _sliced(self._calls(aes, rejected)):
                for outcome in await self._store.run_all(calls):
                    if isinstance(outcome, Exception):
                        raise outcome
        except (StoreUnavailable, asyncio.CancelledError):
            self._lists.clear()
            self._keep_for_later(aes, rejected)
            raise

    async def flush_forever(self) -> None:
        """Flush every second until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                with suppress(StoreUnavailable):
                    await self._flush_or_report()
        finally:
            with suppress(StoreUnavailable):
                await self._flush_or_report()

    async def _flush_or_report(self) -> None:
        try:
            await self.flush()
        except StoreUnavailable:
            raise
        except Exception as bug:  # what is only told must never end the door that answers
            log.error("sightings lost", error=type(bug).__name__)

    def _title(self, calling: str, address: str) -> str:
        return self._directory.profile(calling, address).title or calling

    def _ae(self, title: str, address: str, called: str) -> Ae | None:
        ae = self._aes.get(title)
        if ae is None and len(self._aes) < AES_AT_ONCE:
            ae = self._aes[title] = Ae(address, called, 0.0)
        return ae

    def _reject(self, peer: tuple[str, str, str], reason: str) -> None:
        before = self._rejected.get(peer)
        if before is None and len(self._rejected) >= REJECTED_AT_ONCE:
            return
        times = before.times + 1 if before else 1
        self._rejected[peer] = Refused(*peer, reason, self._clock(), times)

    def _calls(
        self, aes: Mapping[str, Ae], rejected: Mapping[tuple[str, str, str], Refused]
    ) -> Iterator[Call[int]]:
        since = self._clock() - self._keep_s
        if aes:
            found = (_heard(title, ae) for title, ae in aes.items())
            yield sightings.heard(found, forget_before=since)
        if rejected:
            yield sightings.refused(rejected.values(), forget_before=since)
        for title, ae in aes.items():
            name = _plain(title)
            if queries := _by_kind(ae):
                yield sightings.asked(name, queries, keep_s=self._keep_queries_s)
            ae.settle(partial(self._is_new, title))
            received = iter(ae.received.items())
            while some := list(islice(received, SLICE)):
                yield sightings.sighted(name, some, keep_s=self._keep_s)

    def _is_new(self, title: str, asked: Asked) -> bool:
        """Tell whether a list has to be written: it has changed, or was written a while ago."""
        place, answered = (title, asked.told.identifier), asked.told.answered
        if len(answered) < SHORT_LIST:
            return True
        before, at = self._lists.get(place, ((), 0.0))
        if asked.at - at < SAME_LIST_S and before == answered:
            return False
        if sum(len(each) for each, _ in self._lists.values()) > SAME_LISTS:
            self._lists.clear()
        self._lists[place] = answered, asked.at
        return True

    def _keep_for_later(
        self, aes: Mapping[str, Ae], rejected: Mapping[tuple[str, str, str], Refused]
    ) -> None:
        """Put back what could not be written; some of it may have been, and counts twice."""
        room = ENTRIES_AT_ONCE - sum(len(ae.received) for ae in self._aes.values())
        for title, ae in aes.items():
            if now := self._ae(title, ae.address, ae.called):
                now.at = max(now.at, ae.at)
                now.follow(ae, room)
                room -= len(ae.received)
        for peer, refused in list(rejected.items())[:REJECTED_AT_ONCE]:
            self._rejected.setdefault(peer, refused)


def _heard(title: str, ae: Ae) -> Heard:
    return Heard(
        _plain(title),
        ae.at,
        max((asked.at for asked in ae.asked.values()), default=0.0),
        ae.address,
        _plain(ae.called),
        ae.queries,
        ae.failures,
        ae.answers,
        ae.empty,
        ae.streak_ended,
    )


def _by_kind(ae: Ae) -> dict[str, AskedOnce]:
    """Give the last query of each kind; one that is too long to be kept is left out."""
    return {
        _kind(told.query): _asked_once(told, at)
        for told, at in ae.asked.values()
        if len(told.identifier) <= LONGEST_QUERY
    }


def _asked_once(told: Told, at: float) -> AskedOnce:
    members = tuple(map(sightings.unversioned, told.answered[:LONGEST_LIST]))
    return AskedOnce(
        at,
        told.identifier,
        told.transfer_syntax,
        told.status,
        members,
        told.association.address,
        told.association.fuzzy,
        told.association.zoned,
    )


def _kind(query: Query | None) -> str:
    """Name a kind of query by the keys that say something: what they say changes every day."""
    return "unreadable" if query is None else ",".join(sorted(query.asks_for()))


def _plain(title: str) -> str:
    """A peer chooses its title: no control character of it becomes part of a key."""
    return "".join(c if c.isprintable() else "?" for c in title)


def _sliced(calls: Iterator[Call[int]]) -> Iterator[list[Call[int]]]:
    while some := list(islice(calls, BATCH)):
        yield some
