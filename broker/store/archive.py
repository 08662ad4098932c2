"""Every message that arrived, with what became of it; bounded by days and by bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from broker.store import keys
from broker.store.call import Call, Word, script
from broker.worklist.records import SCHEMA_VERSION


@dataclass(frozen=True)
class Archived:
    """One message: raw bytes as received (large payloads elided), answer, outcome and cause.

    `outcome` is applied | held | refused | ignored, `answers` what was sent back, `mapping` which
    one judged it, as name@version; @version when none of that version is for it.
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
    schema_version: int = SCHEMA_VERSION


def adding(message: Archived) -> Iterator[tuple[Word, ...]]:
    """Give the commands that archive a message, counting its bytes."""
    facts = asdict(message)
    raw, answers = facts.pop("raw"), facts.pop("answers")
    facts["answers"] = [answer.decode("latin-1") for answer in answers]
    packed = zlib.compress(json.dumps(facts, ensure_ascii=False).encode())
    body = zlib.compress(raw)
    size = len(packed) + len(body)
    yield ("XADD", keys.ARCHIVE, "*", "facts", packed, "raw", body, "size", size)
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


def _read(reply: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Archived]:
    return [_entry(fields) for _, fields in reply]


def _entry(fields: dict[bytes, bytes]) -> Archived:
    facts = json.loads(zlib.decompress(fields[b"facts"]))
    facts["answers"] = tuple(answer.encode("latin-1") for answer in facts["answers"])
    facts["orders"] = tuple(facts["orders"])
    return Archived(raw=zlib.decompress(fields[b"raw"]), **facts)
