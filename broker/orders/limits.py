"""What one listener puts up with, and what it says to whoever asks for more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import uuid4

from broker.hl7.acknowledgement import answers
from broker.hl7.framing import Lost
from broker.hl7.header import Header, read_header
from broker.hl7.refusal import NotHL7, Refusal


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, and to which port of ours it came.

    `certificate` are the names of the one it has shown, folded.
    """

    host: str
    port: int
    listener: int = 0
    certificate: frozenset[str] = frozenset()


NOBODY = Peer("", 0)
"""Where a message came over no connection."""
WHOLE = "send it again, with its end byte"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener puts up with. Sizes in bytes, times in seconds."""

    max_frame_bytes: int = 16 * 1024 * 1024
    max_held_bytes: int = 256 * 1024 * 1024  # of all connections' messages that are not answered
    max_noise_bytes: int = 64 * 1024  # outside blocks, before a connection is no sender of HL7
    frame_deadline_s: float = 60.0  # from the start byte to the end byte
    end_gap_s: float = 0.2  # silence after an FS without CR that makes it the end
    idle_s: float = 48 * 3600.0  # many systems keep one connection for days
    write_deadline_s: float = 10.0
    connections: int = 512
    messages_a_second: float | None = None  # of one address
    connections_per_ip: int = 256  # an integration engine is one address with many senders
    backlog: int = 256
    keepalive_s: tuple[int, int, int] = (60, 10, 6)  # idle, interval, probes


Accept: TypeAlias = Callable[[bytes, Peer], Awaitable[list[bytes] | None]]


class Reject(Protocol):
    """Answers what never became a message, with the first bytes of it."""

    async def __call__(self, refusal: Refusal, head: bytes, peer: Peer) -> list[bytes] | None:
        """Return the answers to send, None to close without any."""


Lose: TypeAlias = Callable[[Lost, Peer], Awaitable[None]]
"""Keeps what was no message, and whom nobody can answer about it."""


async def lose(lost: Lost, peer: Peer) -> None:
    """Keep nothing."""


async def reject(refusal: Refusal, head: bytes, peer: Peer) -> list[bytes] | None:  # noqa: ARG001 - Reject
    """Answer with the refusal, addressed to the sender where its MSH can be read."""
    header: Header | None
    try:
        header = read_header(head)
    except NotHL7:
        header = None
    own_ids = iter(lambda: uuid4().hex[:20], "")
    now = datetime.now().astimezone()
    return answers(header, refusal, stored=False, control_ids=own_ids, now=now)


def too_long(limit: int) -> Refusal:
    """Beyond `max_frame_bytes`."""
    return Refusal(
        f"message is longer than {limit} bytes",
        code="207",
        acknowledgement="AR",
        remedy="send less, or raise hl7.limits.max_message",
    )


def too_slow(deadline_s: float) -> Refusal:
    """Beyond `frame_deadline_s`."""
    return _again(f"message did not end within {deadline_s:g} seconds", WHOLE)


def broken_off() -> Refusal:
    """The sender ended its side in the middle of a block."""
    return _again("message was broken off before its end byte", WHOLE)


def too_fast() -> Refusal:
    """Beyond `messages_a_second`, by more than can be waited for."""
    remedy = "send it again later, or raise hl7.limits.messages_per_second"
    return _again("too many messages a second come from this address", remedy)


def too_much() -> Refusal:
    """Beyond `max_held_bytes`."""
    return _again("too much is being sent at once", "send it again, or raise hl7.limits.held")


def _again(text: str, remedy: str) -> Refusal:
    """Not the fault of what the message says: a sender that takes AR for final shall try again."""
    return Refusal(text, code="207", acknowledgement="AE", remedy=remedy)


def our_fault() -> Refusal:
    """A bug of ours."""
    return Refusal("the broker failed on this message", code="207", remedy="see the broker's log")
