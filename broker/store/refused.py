"""Messages that could not be applied: which they are, till they are accepted or given up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from broker.store import archive, keys
from broker.store.archive import Archived
from broker.store.call import Call, Word, pairs, script
from broker.store.commit import MOST_REFUSED, Committed, Conflict, Repeat, outcome_of
from broker.store.recall import place

MOST: Final = MOST_REFUSED


@dataclass(frozen=True)
class Listed:
    """One message, by the digest of its bytes as received, refused once or often.

    `first` and `last` are the stream IDs of its entries in the archive; the last one says why.
    """

    digest: str
    first: str
    last: str


def refusing(
    message: Archived, digest: str, stream_id: str = "*"
) -> Call[Committed | Conflict | Repeat]:
    """Archive a message that is refused, and list it: all in one, unless it was accepted before."""
    words = (digest, MOST, *_flat(archive.adding(message, stream_id)))
    return Call(words, outcome_of, script("refuse"), (keys.PREFIX, keys.guard(digest)), message)


def count() -> Call[int]:
    """Count the messages that could not be applied."""
    return Call(("ZCARD", keys.REFUSED_BY_TIME), int)


def listed() -> Call[list[Listed]]:
    """Give all of them, those refused last at the end."""
    return Call(("HGETALL", keys.REFUSED), _listed)


def forget(digest: str) -> Call[int]:
    """Take a message off the list: it was applied after all, or nobody wants it."""
    return Call((digest,), int, script("settle"))


def _flat(commands: Iterator[tuple[Word, ...]]) -> Iterator[Word]:
    for command in commands:
        yield len(command)
        yield from command


def _listed(reply: Any) -> list[Listed]:
    flat = [each for pair in reply.items() for each in pair] if isinstance(reply, dict) else reply
    found = (Listed(digest, *spans.decode().split()) for digest, spans in pairs(flat))
    return sorted(found, key=lambda each: place(each.last))
