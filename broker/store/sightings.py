"""What is known of AEs: who has called, what each asked last, and who has received an entry."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from broker.store import keys
from broker.store.call import Call, pairs, script, text, texts
from broker.store.indexes import STEP_MARK

AES_AT_MOST: Final = 1000
REJECTED_AT_MOST: Final = 200
KINDS: Final = 4
"""Queries remembered of an AE: its last one of each kind, by the keys that have a value."""
SIGHTINGS_OF_ORDER: Final = 128
SLOT_S: Final = 300
"""Queries are counted by slots of five minutes; the last twelve are an hour."""


class Heard(NamedTuple):
    """What one AE did since it was written last; times in epoch seconds, `asked` of its last query.

    `empty` counts the queries without an answer at the end, `streak_ended` tells that one before
    them had some. Failures are neither.
    """

    title: str
    at: float
    asked: float
    address: str
    called: str
    queries: int = 0
    failures: int = 0
    answers: int = 0
    empty: int = 0
    streak_ended: bool = False


class Refused(NamedTuple):
    """Associations that were rejected since it was written last, all of the same peer."""

    calling: str
    called: str
    address: str
    reason: str
    at: float
    times: int


@dataclass(frozen=True)
class AskedOnce:
    """One query as it came, and what it got: the members of the entries sent, in their order.

    `fuzzy` and `zoned` are what was negotiated for it.
    """

    at: float
    identifier: bytes
    transfer_syntax: str
    status: int
    answered: tuple[bytes, ...]
    address: str = ""
    fuzzy: bool = False
    zoned: bool = False


class Sighting(NamedTuple):
    """When an AE received an entry first and last, epoch seconds."""

    procedure: str
    step: str
    aet: str
    first: float
    last: float


class Ae(NamedTuple):
    """What is known of one AE that has called; `per_hour` counts the queries of the last hour."""

    title: str
    address: str
    called: str
    first: float
    last: float
    asked: float
    queries: int
    failures: int
    streak: int
    per_hour: int


def heard(aes: Iterable[Heard], *, forget_before: float) -> Call[int]:
    """Add what was heard of AEs; those heard last before `forget_before` are forgotten."""
    words = [word for ae in aes for word in (ae.title, json.dumps(_heard(ae)))]
    return Call(("aes", AES_AT_MOST, int(forget_before), *words), int, script("noted"))


def refused(peers: Iterable[Refused], *, forget_before: float) -> Call[int]:
    """Add associations that were rejected."""
    words: list[str] = []
    for peer in peers:
        said = {"at": peer.at, "set": {"reason": peer.reason}, "add": {"times": peer.times}}
        name = STEP_MARK.join((peer.calling, peer.called, peer.address))
        words += (name, json.dumps(said))
    prefix = ("rejected-aes", REJECTED_AT_MOST, int(forget_before))
    return Call((*prefix, *words), int, script("noted"))


def asked(title: str, queries: Mapping[str, AskedOnce], *, keep_s: float) -> Call[int]:
    """Remember the last query of each kind of an AE."""
    words = [
        word for kind, each in queries.items() for word in (kind, f"{each.at:.3f}", _dumped(each))
    ]
    return Call((title, KINDS, int(keep_s), *words), int, script("asked"))


def sighted(title: str, received: Iterable[tuple[bytes, float]], *, keep_s: float) -> Call[int]:
    """Note when an AE received entries, by their members."""
    words: list[str | bytes | int] = []
    for member, at in received:
        order, _, step = unversioned(member).partition(_MARK)
        words += (order, step + _MARK + title.encode(), f"{at:.3f}")
    return Call((SIGHTINGS_OF_ORDER, int(keep_s), *words), int, script("sighted"))


def known_aes(now: float) -> Call[list[Ae]]:
    """Give every AE that has called, by its title."""
    return Call(("HGETALL", keys.AES), lambda reply: _aes(reply, now))


def rejected() -> Call[list[dict[str, Any]]]:
    """Give the peers whose associations were rejected, the last one first."""
    return Call(("HGETALL", keys.REJECTED_AES), _rejected)


def last_asked(title: str) -> Call[list[AskedOnce]]:
    """Give the remembered queries of an AE, the last one first."""
    return Call(("HGETALL", keys.asked(title)), _asked)


def sightings(order_key: str) -> Call[list[Sighting]]:
    """Give who has received the entries of an order, those that were the first one first."""
    return Call(("HGETALL", keys.sightings(order_key)), _sightings)


def unversioned(member: bytes) -> bytes:
    """Give a member of an index without the versions that may follow its step."""
    head, mark, step = member.rpartition(_MARK)
    name, at, versions = step.rpartition(b"@")
    if at and versions.replace(b".", b"", 1).isalnum() and b"." in versions:
        return head + mark + name
    return member


_MARK: Final = STEP_MARK.encode()


def _heard(ae: Heard) -> dict[str, Any]:
    said: dict[str, Any] = {"at": ae.at, "set": {"address": ae.address, "called": ae.called}}
    if ae.queries:
        said["set"]["asked"] = ae.asked
        said["add"] = {"queries": ae.queries, "failures": ae.failures, "answers": ae.answers}
        said |= {"streak": ae.empty, "reset": ae.streak_ended}
        said |= {"slot": int(ae.asked // SLOT_S), "count": ae.queries}
    return said


def _dumped(once: AskedOnce) -> bytes:
    said = {
        "identifier": b64encode(once.identifier).decode(),
        "syntax": once.transfer_syntax,
        "status": once.status,
        "answered": b64encode(zlib.compress(b"\n".join(once.answered), 1)).decode(),
        "address": once.address,
        "fuzzy": once.fuzzy,
        "zoned": once.zoned,
    }
    return json.dumps(said).encode()


def _loaded(raw: bytes) -> AskedOnce:
    at, _, said = raw.partition(b" ")
    once = json.loads(said)
    answered = zlib.decompress(b64decode(once["answered"]))
    return AskedOnce(
        float(at),
        b64decode(once["identifier"]),
        once["syntax"],
        once["status"],
        tuple(answered.split(b"\n")) if answered else (),
        once["address"],
        once["fuzzy"],
        once["zoned"],
    )


def _asked(reply: Any) -> list[AskedOnce]:
    found = [_loaded(raw) for _, raw in _pairs(reply)]
    return sorted(found, key=lambda once: once.at, reverse=True)


def _aes(reply: Any, now: float) -> list[Ae]:
    return sorted(_ae(title, json.loads(raw), now) for title, raw in _pairs(reply))


def _ae(title: str, known: Mapping[str, Any], now: float) -> Ae:
    oldest = int(now // SLOT_S) - 12
    slots: Mapping[str, int] = known.get("slots") or {}
    return Ae(
        title,
        known.get("address", ""),
        known.get("called", ""),
        known["first"],
        known["last"],
        known.get("asked", 0.0),
        known.get("queries", 0),
        known.get("failures", 0),
        known.get("streak", 0),
        sum(count for slot, count in slots.items() if int(slot) > oldest),
    )


def _rejected(reply: Any) -> list[dict[str, Any]]:
    found = []
    for name, raw in _pairs(reply):
        calling, called, address = name.split(STEP_MARK)
        said = {"calling": calling, "called": called, "address": address, **json.loads(raw)}
        found.append(said)
    return sorted(found, key=lambda each: float(each["last"]), reverse=True)


def _sightings(reply: Any) -> list[Sighting]:
    found = []
    for field, raw in _pairs(reply):
        procedure, step, aet = field.split(STEP_MARK, 2)
        first, last = map(float, texts(raw.split()))
        found.append(Sighting(procedure, step, aet, first, last))
    return sorted(found, key=lambda each: (each.first, each.aet))


def _pairs(reply: Any) -> Sequence[tuple[str, bytes]]:
    """redis-py makes a dict of a hash, our own line a flat list."""
    if isinstance(reply, dict):
        return [(text(name), value) for name, value in reply.items()]
    return pairs(reply)
