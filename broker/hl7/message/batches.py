"""The messages of one block: several in a batch (FHS, BHS … BTS, FTS), or one after the other."""

from __future__ import annotations

import re
from typing import Final

from broker.hl7.header import trim_start
from broker.hl7.refusal import Refusal

BATCH_LIMIT: Final = 5_000  # messages of one block, all answered in one go
_BATCH_SEGMENT: Final = re.compile(rb"(?:FHS|BHS|BTS|FTS)\W")


def batch(raw: bytes) -> list[bytes]:
    """Return the messages of one block: wrappers (FHS, BHS) are taken off, each MSH starts one.

    Raises Refusal AR 200 for a wrapper without a message, AR 207 for more than 5,000 of them.
    """
    start = trim_start(raw)
    if start.startswith(b"MSH") and start.find(b"MSH", 3) < 0:
        return [raw]  # nearly every block: found thrice as fast as by a pattern
    wrapped = bool(_BATCH_SEGMENT.match(start))
    if not wrapped and not re.search(rb"[\r\n]MSH\W", start):
        return [raw]
    end = b"\r" if b"\r" in start else b"\n"
    messages: list[list[bytes]] = []
    for line in start.split(end):
        bare = line.lstrip(b"\n \t\x00")
        if re.match(rb"MSH\W", bare):
            messages.append([bare])
        elif messages and bare and not _BATCH_SEGMENT.match(bare):
            messages[-1].append(line)
    if len(messages) > BATCH_LIMIT:
        raise Refusal(
            f"batch holds more than {BATCH_LIMIT} messages",
            code="207",
            remedy="send several batches, or the messages one by one",
        )
    if not messages:
        raise Refusal("batch holds no message", code="200", remedy="send the messages one by one")
    return [end.join(lines) + end for lines in messages]


def said_count(raw: bytes) -> int | None:
    """Return how many messages the trailers (BTS-1) say that a block holds, None if they do not."""
    counts = re.findall(rb"[\r\n]BTS\W(\d{1,9})(?!\d)", raw)
    return sum(map(int, counts)) if counts else None
