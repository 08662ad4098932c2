"""Status messages on their way to a RIS: one list per RIS and order, in the order they arose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from broker.store import keys
from broker.store.call import Call, Word, script, texts
from broker.worklist.records import SCHEMA_VERSION

WAKE_UPS = 1000
DEAD_LETTERS = 100_000


@dataclass(frozen=True)
class Event:
    """One status message, rendered once with its final MSH-10.

    `created` is in epoch seconds, `mapping` as name@version.
    """

    ris: str
    order: str
    control_id: str
    created: float
    mapping: str
    note: str
    payload: bytes = field(repr=False)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Popped:
    """Whether the head was removed: not so when the lease is lost or the head is another."""

    done: bool
    following: Event | None


def adding(event: Event) -> Iterator[tuple[Word, ...]]:
    """Give the commands that append an event, mark the pair dirty and push a wake-up."""
    yield ("RPUSH", keys.outbox(event.ris, event.order), _dump(event))
    yield ("ZADD", keys.dirty(event.ris), "NX", int(event.created * 1000), event.order)
    yield ("RPUSH", keys.WAKE, event.ris)
    yield ("LTRIM", keys.WAKE, -WAKE_UPS, -1)


def wakeups(timeout_s: float) -> Call[list[str]]:
    """Wait for a wake-up and give the names of the RIS that have something, [] on time-out.

    The wait must stay below the executor's socket time-out.
    """
    return Call(("BLPOP", keys.WAKE, timeout_s), lambda reply: texts(reply[1:]) if reply else [])


def dirty(ris: str, *, now_ms: int, limit: int) -> Call[list[str]]:
    """Give the orders that are due and that nobody sends for, those waiting longest first."""
    return Call((ris, now_ms, limit), texts, script("dirty"))


def take(ris: str, order: str, token: str, *, ttl_ms: int) -> Call[Event | None]:
    """Take the order for one worker, for so long, and give its oldest event.

    None when another worker has it or nothing is left to send; then there is nothing to release.
    """
    return Call(("take", ris, order, token, ttl_ms), _load, script("deliver"))


def renew(ris: str, order: str, token: str, *, ttl_ms: int) -> Call[bool]:
    """Keep the order for so long from now; False when the lease is lost."""
    return Call(("renew", ris, order, token, ttl_ms), bool, script("deliver"))


def pop(ris: str, order: str, token: str, control_id: str) -> Call[Popped]:
    """Remove the head that was delivered, and give the next; after the last the order is free."""
    return Call(("pop", ris, order, token, control_id), _popped, script("deliver"))


def park(ris: str, order: str, token: str, event: Event, *, cause: str, at: float) -> Call[Popped]:
    """Move the refused head to the dead letters, where people see it; else as `pop`."""
    letter = _letter(event, cause, at)
    words = ("park", ris, order, token, event.control_id, letter, DEAD_LETTERS)
    return Call(words, _popped, script("deliver"))


def hold(
    ris: str, order: str, token: str, event: Event, *, cause: str, at: float, until_ms: int
) -> Call[bool]:
    """Note the refused head among the dead letters, keep it, and postpone the order."""
    letter = _letter(event, cause, at)
    words = ("hold", ris, order, token, event.control_id, letter, DEAD_LETTERS, until_ms)
    return Call(words, bool, script("deliver"))


def release(ris: str, order: str, token: str) -> Call[bool]:
    """Give the order back; it stays dirty while it has events."""
    return Call(("release", ris, order, token), bool, script("deliver"))


def postpone(ris: str, order: str, token: str, *, until_ms: int) -> Call[bool]:
    """Give the order back, not to be tried before `until_ms` (epoch)."""
    return Call(("postpone", ris, order, token, until_ms), bool, script("deliver"))


def pending(ris: str) -> Call[int]:
    """Count the orders with something to send to a RIS."""
    return Call(("ZCARD", keys.dirty(ris)), int)


def events(ris: str, order: str) -> Call[list[Event]]:
    """Give everything that waits for one RIS about one order."""
    return Call(("LRANGE", keys.outbox(ris, order), 0, -1), _loads)


def dead() -> Call[int]:
    """Count the dead letters."""
    return Call(("XLEN", keys.DEAD), int)


def dead_letters(limit: int) -> Call[list[dict[str, Any]]]:
    """Give the newest dead letters: an event's fields with `cause` and `parked` (epoch s)."""
    return Call(("XREVRANGE", keys.DEAD, "+", "-", "COUNT", limit), _letters)


def _dump(event: Event) -> str:
    facts = asdict(event)
    facts["payload"] = event.payload.decode("latin-1")
    return json.dumps(facts)


def _letter(event: Event, cause: str, at: float) -> str:
    return json.dumps({**json.loads(_dump(event)), "cause": cause, "parked": at})


def _load(reply: bytes | None) -> Event | None:
    if reply is None:
        return None
    facts = json.loads(reply)
    return Event(**{**facts, "payload": facts["payload"].encode("latin-1")})


def _popped(reply: Any) -> Popped:
    return Popped(bool(reply), _load(reply[0] if reply else None))


def _loads(reply: list[bytes]) -> list[Event]:
    return [event for event in map(_load, reply) if event]


def _letters(reply: list[tuple[bytes, dict[bytes, bytes]]]) -> list[dict[str, Any]]:
    return [json.loads(fields[b"letter"]) for _, fields in reply]
