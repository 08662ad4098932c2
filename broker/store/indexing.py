"""Which form the indexes of open steps have; those of an earlier version are made anew at start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from broker.store import indexes, keys, metrics, reads
from broker.store.call import Call, texts
from broker.store.commit import Commit, Conflict, commit
from broker.store.executors import Store, StoreUnavailable

FORM: Final = "4"
"""1: members without versions, starts to the minute. 2: as of commit.lua and `indexes.places`, and
what numbers and IDs lead to in sets. 3: in sorted sets. 4: the same, and records are packed as an
earlier version cannot read."""
_ALIKE: Final = "3"
_EARLIER: Final = ("", "2")
_SLICE: Final = 100
_TRIES: Final = 100
_TURN_S: Final = 60
_LOOK_S: Final = 0.2
_PUBLISHED_S: Final = 5.0
"""Within which every process that runs has published its metrics anew."""
_DRAINED_S: Final = 40.0
"""Within which doors that were told to end have ended: those of one host restart together."""


class IndexesTooNew(Exception):
    """The indexes have a form that this version does not know."""


class OthersRun(Exception):
    """Brokers of an earlier version run on the store: they would leave out what we write."""


def see_nobody_earlier(
    store: Store,
    waits: Callable[[str], None] = lambda running: None,  # noqa: ARG005 - tells nobody
    patience_s: float = _DRAINED_S,
    quiet_s: float = _PUBLISHED_S,
) -> None:
    """Wait till no broker runs that cannot read what we write, before we write anything.

    `waits` is told once for whom. Raises StoreUnavailable, and OthersRun when one still runs
    after `patience_s`.
    """
    last, heard = store.run(metrics.published()), time.monotonic()
    end, told = heard + patience_s, False
    while store.run(Call(("GET", keys.INDEXED), _text)) != FORM:
        if not last or time.monotonic() > heard + quiet_s:
            return
        time.sleep(_LOOK_S)
        found = store.run(metrics.published())
        running = sorted(name for name in found if name in last and found[name].at > last[name].at)
        if not running:
            continue
        last, heard = found, time.monotonic()
        if not told:
            waits(", ".join(running))
            told = True
        if heard > end and store.run(Call(("GET", keys.INDEXED), _text)) != FORM:
            raise OthersRun(
                f"{', '.join(running)} of an earlier version run on this store and could not read "
                "what this one writes: stop the brokers of all hosts, then start this version"
            )


def refuse_another(store: Store) -> None:
    """Refuse a store whose brokers are of another version. Raises StoreUnavailable, OthersRun."""
    form = store.run(Call(("GET", keys.INDEXED), _text))
    if form in ("", FORM):
        return
    if form == _ALIKE or form in _EARLIER:
        raise OthersRun(
            "the store is that of an earlier version of the broker, which could not read what this "
            "command writes: restart the broker with this version, then try again"
        )
    raise OthersRun(
        "the store is that of a newer version of the broker: use the `broker` of that version"
    )


def ensure_indexed(store: Store, now: datetime) -> int:
    """Make the indexes of open steps anew if an earlier version made them; gives how many orders.

    Others that start wait for the one that does it; earlier versions must not run any more. It may
    be broken off and done again. Raises StoreUnavailable, IndexesTooNew.
    """
    while (form := store.run(Call(("GET", keys.INDEXED), _text))) != FORM:
        if form == _ALIKE:
            store.run(Call(("SET", keys.INDEXED, FORM), bool))
            return 0
        if form not in _EARLIER:
            raise IndexesTooNew(
                f"the store has indexes of form {form} and this version knows {FORM}: "
                "run the newer broker again"
            )
        if store.run(Call(("SET", keys.INDEXING, "1", "NX", "EX", _TURN_S), bool)):
            return _index(store, now)
        time.sleep(_LOOK_S)
    return 0


def _index(store: Store, now: datetime) -> int:
    stale = bool(store.run(Call(("EXISTS", keys.REVISION), int)))
    if stale:
        _remove(store)
    placed = _place_all(store, now) if stale else 0
    store.run(Call(("SET", keys.INDEXED, FORM), bool))
    store.run(Call(("UNLINK", keys.INDEXING), int))
    return placed


def _remove(store: Store) -> None:
    numbers = (f"{keys.PREFIX}by-*", keys.orders_of("*"), f"{keys.PREFIX}unlinked-*")
    for pattern in (f"{keys.starts('')}*", keys.steps_of("*"), *numbers):
        for found in scanned(store, pattern):
            store.run(Call(("UNLINK", *found), int))


def _place_all(store: Store, now: datetime) -> int:
    done = 0
    for names in scanned(store, keys.order("*")):
        _place(store, [name.removeprefix(keys.order("")) for name in names], now)
        done += len(names)
        store.run(Call(("EXPIRE", keys.INDEXING, _TURN_S), int))
    for names in scanned(store, keys.patient("*")):
        read = store.run(reads.patients(name.removeprefix(keys.patient("")) for name in names))
        for patient in read.known.patients.values():
            _enter(store, indexes.of_patient(patient))
        store.run(Call(("EXPIRE", keys.INDEXING, _TURN_S), int))
    for names in scanned(store, keys.mpps("*")):
        for name in names:
            exam, _ = store.run(reads.mpps(name.removeprefix(keys.mpps(""))))
            _enter(store, indexes.of_performed(exam))
    return done


def _enter(store: Store, entries: set[indexes.Entry]) -> None:
    for command in indexes.adding(entries):
        store.run(Call(command, int))


def _place(store: Store, order_keys: Sequence[str], now: datetime) -> None:
    """Put the steps of orders in their places, at the versions that they have."""
    for _ in range(_TRIES):
        read = store.run(reads.orders(order_keys))
        placed = [(read.revision(order), order) for order in read.known.orders.values()]
        if not isinstance(store.run(commit(Commit(at=now, placed=placed, frees=True))), Conflict):
            return
    raise StoreUnavailable("others write while the indexes are made anew; stop them")


def scanned(store: Store, pattern: str) -> Iterator[list[str]]:
    """Give the keys of a pattern, some at a time; one may come twice."""
    cursor = "0"
    while True:
        reply = store.run(Call(("SCAN", cursor, "MATCH", pattern, "COUNT", _SLICE), list))
        cursor = _text(reply[0])
        if found := texts(reply[1]):
            yield found
        if cursor == "0":
            return


def _text(reply: bytes | int | None) -> str:
    """A text, or a cursor that redis-py has made a number; '' of nothing."""
    if reply is None:
        return ""
    return reply.decode() if isinstance(reply, bytes) else f"{reply}"
