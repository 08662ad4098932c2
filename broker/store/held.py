"""Messages that were accepted and wait for a row in a table of the mapping: on no list so far."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from broker.store import keys
from broker.store.call import Call, Word, texts
from broker.worklist.changes import Unmapped
from broker.worklist.records import SCHEMA_VERSION

MOST = 4_000
LARGEST = 64 * 1024
"""Compressed bytes of one message; with `MOST`, no more than 256 MB wait."""
SLICE = 100


@dataclass(frozen=True)
class Waiting:
    """One message with the codes that no table has; `mapping` judged it, as name@version.

    `digest` is that of its bytes as received, `received` in epoch seconds.
    """

    digest: str
    source: str
    control_id: str
    received: float
    mapping: str
    unmapped: tuple[Unmapped, ...]
    raw: bytes = field(repr=False)
    port: int = 0
    schema_version: int = SCHEMA_VERSION


def fits(message: Waiting) -> bool:
    """Tell whether a message is small enough to be kept waiting."""
    return len(_dump(message)) <= LARGEST


def adding(message: Waiting) -> Iterator[tuple[Word, ...]]:
    """Give the commands that keep a message; one that waits already keeps its turn."""
    yield ("HSET", keys.HELD, message.digest, _dump(message))
    yield ("ZADD", keys.HELD_BY_TIME, "NX", message.received, message.digest)


def count() -> Call[int]:
    """Count the messages that wait."""
    return Call(("HLEN", keys.HELD), int)


def waits(digest: str) -> Call[bool]:
    """Tell whether a message waits."""
    return Call(("HEXISTS", keys.HELD, digest), bool)


def digests() -> Call[list[str]]:
    """Name all that wait, in the order in which they came."""
    return Call(("ZRANGE", keys.HELD_BY_TIME, 0, -1), texts)


def read(wanted: Iterable[str]) -> Call[list[Waiting]]:
    """Read some of those that wait (one at least), leaving out what does not wait any more."""
    return Call(("HMGET", keys.HELD, *wanted), _loads)


def forget(digest: str) -> Call[int]:
    """Remove a message; its turn goes with `growth.unlist`."""
    return Call(("HDEL", keys.HELD, digest), int)


def plain(message: Waiting) -> dict[str, Any]:
    """Give a message as plain values; `of_plain` reads them."""
    return {**asdict(message), "raw": message.raw.decode("latin-1")}


def _dump(message: Waiting) -> bytes:
    return zlib.compress(json.dumps(plain(message), ensure_ascii=False).encode())


def _loads(reply: list[bytes | None]) -> list[Waiting]:
    return [of_plain(json.loads(zlib.decompress(packed))) for packed in reply if packed]


def of_plain(facts: dict[str, Any]) -> Waiting:
    """Read plain values. Raises TypeError, ValueError, KeyError."""
    unmapped = tuple(Unmapped(**each) for each in facts["unmapped"])
    raw = facts["raw"].encode("latin-1")
    return Waiting(**{**facts, "unmapped": unmapped, "raw": raw})
