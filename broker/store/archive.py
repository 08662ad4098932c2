"""Every message that arrived, with what became of it; bounded by days and by bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from broker.store import keys
from broker.store.call import Call, Word, entries, script
from broker.store.packing import packed, unpacked
from broker.worklist.records import SCHEMA_VERSION

BY_HAND = "by hand"
"""Outcome of what a person has changed."""
IN_PART = "in part"
"""Outcome of a message of which the bad groups were left out."""
UNREADABLE = (ValueError, TypeError, KeyError)
"""What reading an entry raises that is damaged, or that a newer version wrote."""


@dataclass  # frozen ones are slow to make, and every message has one
class Archived:
    """One message: raw bytes as received (large payloads elided), answer, outcome and cause.

    `outcome` is applied | IN_PART | stale | held | refused | ignored | repeat, or BY_HAND for what
    a person has changed and no message asked for; `answers` what was sent back, `mapping` which one
    judged it, as name@version; @version when none of that version is for it. `replay_of` is the
    stream ID of the message that was judged again, '' for one that came over the wire; `came` when
    that one had come (epoch s), 0 for others. `port` is that of the listener, 0 for none.
    `digest` is that of the bytes as received, where `raw` is not all of them, and `cut` says that
    more is missing than large payloads. Of what was refused `issuer` scopes the numbers, and `sent`
    is MSH-7 as an instant.
    """

    source: str
    control_id: str
    message_type: str
    outcome: str
    cause: str
    received: float
    orders: tuple[str, ...]
    mapping: str
    raw: bytes = field(repr=False)
    answers: tuple[bytes, ...] = field(default=(), repr=False)
    replay_of: str = ""
    port: int = 0
    digest: str = ""
    cut: bool = False
    came: float = 0.0
    issuer: str = ""
    sent: str = ""
    schema_version: int = SCHEMA_VERSION


def digest_of(message: Archived) -> str:
    """Give the digest of a message's bytes as received."""
    return message.digest or hashlib.sha256(message.raw).hexdigest()


def adding(message: Archived, stream_id: str = "*") -> Iterator[tuple[Word, ...]]:
    """Give the commands that archive a message, counting its bytes.

    One from another store may keep its `stream_id`, where that is newer than all that are here.
    """
    body = packed(_dumped(message), "message")
    size = len(body)
    yield ("XADD", keys.ARCHIVE, stream_id, "packed", body, "size", size)
    yield ("INCRBY", keys.ARCHIVE_BYTES, size)


def count() -> Call[int]:
    """Count the archived messages."""
    return Call(("XLEN", keys.ARCHIVE), int)


def size_bytes() -> Call[int]:
    """Give the compressed size of the archive in bytes."""
    return Call(("GET", keys.ARCHIVE_BYTES), lambda reply: int(reply or 0))


def newest(limit: int) -> Call[list[Archived]]:
    """Give the newest messages, newest first."""
    return Call(("XREVRANGE", keys.ARCHIVE, "+", "-", "COUNT", limit), _read)


def trim(*, before_ms: int, max_bytes: int, at_most: int = 500) -> Call[int]:
    """Remove what is older than `before_ms` (epoch) or over `max_bytes`; gives how many went."""
    return Call((before_ms, max_bytes, at_most), int, script("trim"))


def _read(reply: list[Any]) -> list[Archived]:
    return [entry(fields) for _, fields in entries(reply)]


def entry(fields: dict[bytes, bytes]) -> Archived:
    """Read the fields of an entry of the stream; raises one of UNREADABLE."""
    return _loaded(unpacked(fields[b"packed"], "message"))


def plain(message: Archived) -> dict[str, Any]:
    """Give a message as plain values; `of_plain` reads them."""
    answers = [answer.decode("latin-1") for answer in message.answers]
    return {**vars(message), "raw": message.raw.decode("latin-1"), "answers": answers}


def of_plain(facts: dict[str, Any]) -> Archived:
    """Read plain values; raises one of UNREADABLE."""
    answers = tuple(answer.encode("latin-1") for answer in facts["answers"])
    told = {"answers": answers, "orders": tuple(facts["orders"])}
    return Archived(**{**facts, "raw": facts["raw"].encode("latin-1"), **told})


_SELDOM = ("replay_of", "digest", "cut", "came", "issuer", "sent")


def _dumped(message: Archived) -> bytes:
    """Write the facts as one line of JSON; after it come the raw bytes."""
    answers = [answer.decode("latin-1") for answer in message.answers]
    facts = {**vars(message), "answers": answers}
    raw: bytes = facts.pop("raw")
    for seldom in _SELDOM:
        if not facts[seldom]:
            del facts[seldom]
    return to_json(facts) + b"\n" + raw  # a quarter of what an encoder of json takes


def _loaded(content: bytes) -> Archived:
    line, _, raw = content.partition(b"\n")
    return of_plain({**json.loads(line), "raw": raw.decode("latin-1")})
