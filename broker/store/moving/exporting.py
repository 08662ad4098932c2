"""Everything that another store needs to go on with our work, kind by kind."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from broker.store import archive, dead, destinations, held, keys, outbox, recall, refused, stored
from broker.store.call import Call, pairs, script
from broker.store.executors import Store
from broker.store.indexing import scanned
from broker.store.moving.portable import Body, Writer
from broker.worklist.records import Order

SLICE: Final = 100
ROUNDS: Final = 5
"""Looks at everything while others write; the last one usually finds nothing new."""
OF_IMPORT: Final = "import:"
"""Begins the digest of what remembers that a line was imported."""

Names = dict[str, list[str]]


class Kind(NamedTuple):
    """One kind of record: which there are, and what some of them hold (None: gone meanwhile)."""

    name: str
    names: Callable[[Store, Names], Iterable[str]]
    bodies: Callable[[Store, Sequence[str]], list[Body | None]]


def export(
    store: Store, writer: Writer, *, whole_archive: bool, seen: Callable[[str, int, int], None]
) -> list[str]:
    """Write every record till a look finds nothing new; names what this version cannot read.

    `seen` is told the kind, how many of it were seen and how many there are.
    Raises StoreUnavailable, OSError.
    """
    unreadable: list[str] = []
    kinds = [*KINDS, Kind("message", _message_ids if whole_archive else _refused_ids, _messages)]
    for _ in range(ROUNDS):
        unreadable.clear()
        if not _look(store, writer, kinds, seen, unreadable):
            break
    return sorted(set(unreadable))


def _look(
    store: Store,
    writer: Writer,
    kinds: Sequence[Kind],
    seen: Callable[[str, int, int], None],
    unreadable: list[str],
) -> int:
    """Look at everything once; gives how many records were new, changed or gone."""
    written, names = 0, _names(store)
    for kind in kinds:
        there = sorted(set(kind.names(store, names)))
        for at in range(0, len(there), SLICE):
            for name, body in _bodies(kind, store, there[at : at + SLICE], unreadable):
                written += writer.tell(kind.name, name, body)
            seen(kind.name, min(at + SLICE, len(there)), len(there))
        for name in writer.told.get(kind.name, set()).difference(there):
            written += writer.tell(kind.name, name, None)
    return written


def _bodies(
    kind: Kind, store: Store, names: Sequence[str], unreadable: list[str]
) -> Iterator[tuple[str, Body | None]]:
    """Read some records; where one cannot be read the others are read one by one."""
    try:
        yield from zip(names, kind.bodies(store, names), strict=True)
    except archive.UNREADABLE:
        if len(names) == 1:
            unreadable.append(f"{kind.name} {names[0]}")
            return
        for name in names:
            yield from _bodies(kind, store, [name], unreadable)


def _names(store: Store) -> Names:
    """Give the keys of the store by the word behind the prefix."""
    found: Names = defaultdict(list)
    for some in scanned(store, f"{keys.PREFIX}*"):
        for key in some:
            word, _, rest = key.removeprefix(keys.PREFIX).partition(":")
            found[word].append(rest)
    return found


def _keyed(word: str) -> Callable[[Store, Names], Iterable[str]]:
    return lambda _store, names: names.get(word, [])


def _raw(store: Store, names: Iterable[str]) -> list[bytes | None]:
    found: list[bytes | None] = store.run(Call(("MGET", *names), list))
    return found


def _scores(store: Store, lists: Sequence[str], names: Sequence[str]) -> list[int]:
    """Give since when each stands on one of these lists (epoch s), 0 on none."""
    found = [store.run(Call(("ZMSCORE", each, *names), list)) for each in lists]
    return [max(int(float(score or 0)) for score in scores) for scores in zip(*found, strict=True)]


def _records(
    key: Callable[[str], str], read: Callable[[bytes], Any], *lists: str
) -> Callable[[Store, Sequence[str]], list[Body | None]]:
    def bodies(store: Store, names: Sequence[str]) -> list[Body | None]:
        raws = _raw(store, map(key, names))
        since = _scores(store, lists, names)
        return [
            {"since": at, "record": stored.versioned(raw, read)[0].model_dump(mode="json")}
            if raw
            else None
            for raw, at in zip(raws, since, strict=True)
        ]

    return bodies


def _exams(store: Store, names: Sequence[str]) -> list[Body | None]:
    found = _records(keys.mpps, stored.performed, keys.MPPS_BY_TIME)(store, names)
    for name, body in zip(names, found, strict=True):
        if body is not None:
            received = store.run(Call(("HGETALL", keys.mpps_received(name)), _hash))
            body["received"] = {
                which: b64encode(stored.received(packed)).decode()
                for which, packed in sorted(received.items())
            }
    return found


def _hash(reply: Any) -> dict[str, bytes]:
    flat = [each for pair in reply.items() for each in pair] if isinstance(reply, dict) else reply
    return dict(pairs(flat))


def _passing(
    key: Callable[[str], str], told: Callable[[bytes], Body]
) -> Callable[[Store, Sequence[str]], list[Body | None]]:
    """Read what expires: `until` is when (epoch s)."""

    def bodies(store: Store, names: Sequence[str]) -> list[Body | None]:
        now = int(store.run(Call(("TIME",), lambda reply: reply[0])))
        found = store.run(Call(tuple(map(key, names)), list, script("lasting")))
        return [
            {**told(raw), "until": now + seconds} if seconds > 0 else None
            for raw, seconds in zip(found[::2], found[1::2], strict=True)
        ]

    return bodies


def _events(store: Store, names: Sequence[str]) -> list[Body | None]:
    waiting = [store.run(Call(("LRANGE", keys.outbox(*_pair(n)), 0, -1), list)) for n in names]
    return [
        {"events": [outbox.plain(outbox.loaded(each)) for each in some]} if some else None
        for some in waiting
    ]


def _pair(name: str) -> tuple[str, str]:
    ris, _, order = name.partition(":")
    return ris, order


def _held(store: Store, names: Sequence[str]) -> list[Body | None]:
    found = {each.digest: each for each in store.run(held.read(names))}
    return [{"message": held.plain(found[n])} if n in found else None for n in names]


def _letter(store: Store, names: Sequence[str]) -> list[Body | None]:
    found = store.run(dead.kept(names)) if names else []
    return [{"letter": each} if each else None for each in found]


def _message_ids(store: Store, _names: Names) -> Iterator[str]:
    last = "0-0"
    while page := store.run(recall.after(last)):
        yield from (each.stream_id for each in page)
        last = page[-1].stream_id


def _refused_ids(store: Store, _names: Names) -> list[str]:
    return list(_digests(store))


def _digests(store: Store) -> dict[str, str]:
    """Name the messages that could not be applied, by the stream IDs of their first and last."""
    listed = store.run(refused.listed())
    return {name: each.digest for each in listed for name in (each.first, each.last)}


def _messages(store: Store, names: Sequence[str]) -> list[Body | None]:
    digests = _digests(store)
    found = {each.stream_id: each.message for each in store.run(recall.named(names))}
    bodies: list[Body | None] = []
    for name in names:
        if name in found and (message := found[name]) is None:
            raise ValueError(name)
        body = {"message": archive.plain(message)} if name in found and message else None
        refused_as = {"refused": digests[name]} if name in digests else {}
        bodies.append({**body, **refused_as} if body else None)
    return bodies


def _pauses(store: Store, names: Sequence[str]) -> list[Body | None]:
    paused = store.run(destinations.paused())
    return [{"pause": asdict(paused[name])} if name in paused else None for name in names]


def _given(store: Store, _names: Sequence[str]) -> list[Body | None]:
    (raw,) = _raw(store, [keys.GIVEN])
    return [{"count": int(raw[stored.REVISION_LENGTH :])} if raw else None]


def _guards(_store: Store, names: Names) -> Iterator[str]:
    return (name for name in names.get("guard", []) if not name.startswith(OF_IMPORT))


def _alias(name: str) -> str:
    kind, _, former = name.partition(":")
    return keys.alias(kind, former)


_orders: Callable[[bytes], Order] = stored.order
KINDS: Final = (
    Kind("pause", lambda store, _names: store.run(destinations.paused()), _pauses),
    Kind("numbers given", lambda _store, _names: ["accession"], _given),
    Kind("order", _keyed("order"), _records(keys.order, _orders, keys.CLOSED, keys.UNPERFORMED)),
    Kind("patient", _keyed("patient"), _records(keys.patient, stored.patient, keys.IDLE)),
    Kind("performed step", _keyed("mpps"), _exams),
    Kind("alias", _keyed("alias"), _passing(_alias, lambda raw: {"to": raw.decode()})),
    Kind(
        "tombstone",
        _keyed("tombstone"),
        _passing(keys.tombstone, lambda raw: {"sent": json.loads(raw)}),
    ),
    Kind("answer", _guards, _passing(keys.guard, lambda raw: {"answer": raw.decode("latin-1")})),
    Kind("status message", _keyed("outbox"), _events),
    Kind("held message", lambda store, _names: store.run(held.digests()), _held),
    Kind("dead letter", lambda store, _names: store.run(dead.ids()), _letter),
)
"""All but the archive. What is not carried is made anew: sightings, queries, metrics, mappings."""
