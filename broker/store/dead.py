"""Dead letters: what a destination refused, or nobody can read, till a person decides."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.store import keys
from broker.store.call import Call, Word, script, text, texts
from broker.store.outbox import Event, dumped, loaded, of_plain, plain, refusal

SLICE: Final = 500


@dataclass(frozen=True)
class Letter:
    """One message that was refused; `id` is its MSH-10, or one of ours.

    `event` is None of what nobody can read: `damaged` has its first bytes. `cause` is ours, `words`
    those of the destination, which may quote the message. `holds` says that its mailbox waits for a
    decision, `overtaken` names a later message of it that was delivered.
    """

    id: str
    to: str
    box: str
    cause: str
    parked: float
    words: str = field(default="", repr=False)
    event: Event | None = field(default=None, repr=False)
    damaged: bytes = field(default=b"", repr=False)
    holds: bool = False
    overtaken: str = ""


def count() -> Call[int]:
    """Count the dead letters."""
    return Call(("HLEN", keys.DEAD_LETTERS), int)


def holding(to: str) -> Call[int]:
    """Count the mailboxes of a destination that wait for a decision."""
    return Call(("HLEN", keys.holding(to)), int)


def ids() -> Call[list[str]]:
    """Give the IDs of all, in no order."""
    return Call(("HKEYS", keys.DEAD_LETTERS), texts)


def read(wanted: Sequence[str]) -> Call[list[Letter]]:
    """Give those of these IDs that are still there; what overtook them is told by `overtaken`."""
    return Call(("HMGET", keys.DEAD_LETTERS, *wanted), _letters)


def of(to: str, box: str) -> Call[list[str]]:
    """Give the IDs of those of a mailbox."""
    return Call(("HKEYS", keys.parked(to, box)), texts)


def overtaken(to: str, box: str) -> Call[dict[str, str]]:
    """Give what was delivered after letters of a mailbox, by their ID."""
    return Call(("HGETALL", keys.parked(to, box)), _overtaken)


def replay(to: str, box: str, again: Iterable[tuple[str, Event]], *, now_ms: int) -> Call[int]:
    """Put letters back in front of their mailbox, the oldest first; gives how many.

    What holds the mailbox holds it no more, where it is among them.
    """
    words = (word for id, event in again for word in (id, dumped(event)))
    return Call(("replay", to, box, now_ms, *words), int, script("decide"))


def drop(to: str, box: str, gone: Iterable[str], *, now_ms: int) -> Call[int]:
    """Remove letters for good; what was held after them may go."""
    return Call(("drop", to, box, now_ms, *gone), int, script("decide"))


def kept(wanted: Sequence[str]) -> Call[list[dict[str, Any] | None]]:
    """Give letters as plain values, None for those that are gone; `burying` takes them."""
    words = ("HMGET", keys.DEAD_LETTERS, *wanted)
    return Call(words, lambda reply: [_plain(raw) if raw else None for raw in reply])


def is_there(id: str) -> Call[bool]:
    """Tell whether a letter is there."""
    return Call(("HEXISTS", keys.DEAD_LETTERS, id), bool)


def burying(letter: Mapping[str, Any]) -> Iterator[tuple[Word, ...]]:
    """Give the commands that put a letter of another store among ours, and what it holds."""
    id, to, box = letter["control_id"], letter["ris"], letter["order"]
    if "damaged" in letter:
        yield ("HSET", keys.DEAD_LETTERS, id, json.dumps(letter))
    else:
        event = of_plain(letter)
        said = {name: letter.get(name, "") for name in ("cause", "words", "parked", "holds")}
        before = json.dumps(refusal(event, at=said.pop("parked"), **said))
        yield ("HSET", keys.DEAD_LETTERS, id, before.encode() + b"\n" + dumped(event))
    yield ("HSET", keys.parked(to, box), id, letter["created"])
    if letter.get("holds"):
        yield ("HSET", keys.holding(to), box, id)
        yield ("ZADD", keys.dirty(to), "+inf", box)
    else:
        yield ("ZADD", keys.DEAD_LETTERS_BY_TIME, int(letter["parked"] * 1000), id)


def expire(*, before_ms: int, at_most: int) -> Call[int]:
    """Remove those parked before `before_ms` (epoch), but for what holds a mailbox."""
    return Call(("expire", before_ms, at_most), int, script("decide"))


def adopt() -> Call[int]:
    """Take over some of what an earlier version has parked; 0 when there is none left."""
    return Call(("adopt",), int, script("decide"))


def slices(wanted: Sequence[str]) -> Iterator[Sequence[str]]:
    """Give IDs in the portions that one call takes."""
    return (wanted[at : at + SLICE] for at in range(0, len(wanted), SLICE))


def _letters(reply: list[bytes | None]) -> list[Letter]:
    return [_letter(raw) for raw in reply if raw is not None]


def _letter(raw: bytes) -> Letter:
    first, _, message = raw.partition(b"\n")
    facts = json.loads(first)
    damaged = bytes.fromhex(facts.get("damaged", ""))
    cause, _, words = facts["cause"].partition(": ")
    return Letter(
        id=facts["control_id"],
        to=facts["ris"],
        box=facts["order"],
        cause=cause,
        parked=facts["parked"],
        words=facts.get("words", words),
        # one of an earlier version is a line of its own
        event=None if damaged else loaded(message or first),
        damaged=damaged,
        holds=facts.get("holds", False),
    )


def _plain(raw: bytes) -> dict[str, Any]:
    first, _, message = raw.partition(b"\n")
    facts: dict[str, Any] = json.loads(first)
    return {**plain(loaded(message)), **facts} if message else facts


def _overtaken(reply: Any) -> dict[str, str]:
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    marks = {text(id): text(mark) for id, mark in pairs.items()}
    begins = "overtaken by "
    return {id: mark[len(begins) :] for id, mark in marks.items() if mark.startswith(begins)}
