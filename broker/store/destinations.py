"""How the way to each destination is: paused, unreachable, what waits and since when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from broker.store import keys
from broker.store.call import Call, script, text
from broker.store.outbox import Event, Trouble


@dataclass(frozen=True)
class Pause:
    """Since when (epoch s) nothing is sent, who has said so and why."""

    at: float
    by: str
    reason: str = ""


@dataclass(frozen=True)
class Away:
    """Since when (epoch s) a destination cannot be reached, and what the last try found."""

    since: float
    why: str


def pause(to: str, said: Pause) -> Call[bool]:
    """Send nothing from now on but what is on its way; False when it was paused already."""
    return Call(("HSETNX", keys.PAUSED, to, json.dumps(asdict(said))), bool)


def resume(to: str) -> Call[bool]:
    """Send again; False when it was not paused. A wake-up has to follow."""
    return Call(("HDEL", keys.PAUSED, to), bool)


def wake(to: str) -> Call[int]:
    """Let the worker of a destination look at its outbox."""
    return Call(("RPUSH", keys.WAKE, to), int)


def paused() -> Call[Mapping[str, Pause]]:
    """Give the destinations that are paused."""
    return Call(("HGETALL", keys.PAUSED), lambda reply: _by_name(reply, Pause))


def away() -> Call[Mapping[str, Away]]:
    """Give the destinations that cannot be reached."""
    return Call(("HGETALL", keys.UNREACHABLE), lambda reply: _by_name(reply, Away))


def note_away(to: str, said: Away) -> Call[int]:
    """Tell people that a destination cannot be reached."""
    return Call(("HSET", keys.UNREACHABLE, to, json.dumps(asdict(said))), int)


def note_back(to: str) -> Call[int]:
    """Tell people that it can be reached again."""
    return Call(("HDEL", keys.UNREACHABLE, to), int)


def some_with_messages(cursor: int) -> Call[tuple[int, list[str]]]:
    """Give destinations for which something waits, some at a time, and where to go on (0: end)."""
    words = ("SCAN", cursor, "MATCH", keys.dirty("*"), "COUNT", 1000)
    start = len(keys.dirty(""))
    return Call(words, lambda reply: (int(reply[0]), [text(key)[start:] for key in reply[1]]))


def boxes(to: str, *, limit: int) -> Call[list[tuple[str, float]]]:
    """Give the mailboxes with something to send and the time of their next try (epoch s, or inf).

    Those that are due first come first; a `limit` of -1 is all.
    """
    words = ("ZRANGE", keys.dirty(to), 0, max(limit - 1, -1), "WITHSCORES")
    return Call(words, _scored)


def is_taken(to: str, box: str) -> Call[bool]:
    """Tell whether a worker has a mailbox in its hand: its head is on its way, or about to be."""
    return Call(("EXISTS", keys.lease(to, box)), bool)


def troubles(to: str) -> Call[dict[str, Trouble]]:
    """Give what went wrong with the heads of mailboxes."""
    return Call(("HGETALL", keys.troubles(to)), lambda reply: _by_name(reply, Trouble))


def hurry(to: str, *, now_ms: int, box: str = "") -> Call[int]:
    """Let what waits for its next try be tried now, of one mailbox or all; gives how many."""
    return Call(("hurry", to, now_ms, box), int, script("decide"))


def withdraw(event: Event, *, now_ms: int) -> Call[int]:
    """Take a message that waits out of its list; 0 when it is not there, -1 while it is sent."""
    words = ("withdraw", event.ris, event.order, now_ms, event.control_id)
    return Call(words, int, script("decide"))


def _by_name(reply: Any, kind: type[Any]) -> dict[str, Any]:
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return {text(name): kind(**json.loads(raw)) for name, raw in pairs.items()}


def _scored(reply: list[Any]) -> list[tuple[str, float]]:
    if reply and isinstance(reply[0], list | tuple):
        return [(text(box), float(score) / 1000) for box, score in reply]
    return [
        (text(box), float(score) / 1000) for box, score in zip(reply[::2], reply[1::2], strict=True)
    ]
