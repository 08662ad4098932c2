"""A pretend RIS: a client that sends and waits for the answers, a sink that records and answers."""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from types import TracebackType
from typing import Self

from broker.hl7.acknowledgement import Acknowledgement, read_acknowledgement
from broker.hl7.framing import Block, Deframer, frame
from broker.hl7.header import read_header
from broker.hl7.refusal import Refusal
from broker.probe.address import Address, Unreachable
from broker.probe.secure import Secure, hung_up
from broker.probe.sink import QUIET_S, READ_BYTES, Answer, Received, Sink, listening

__all__ = [
    "Answer",
    "Received",
    "Sender",
    "Sink",
    "accepted",
    "listening",
    "read_messages",
    "send",
]

MAX_ANSWER_BYTES = 1 << 20
_ACCEPTED = {"AA", "CA"}
# MSH-15/16 (table 0155): never, and on error only, which no success will ever end
_NOT_AWAITED = {"", "NE", "ER"}
_MESSAGE_START = re.compile(rb"(?:^|(?<=[\r\n\x0b\xbf]))MSH(?=[^A-Za-z0-9\r\n])")


def accepted(acknowledgement: Acknowledgement) -> bool:
    """Whether the peer took the message: AA, or CA where only the accept level was asked for."""
    return acknowledgement.code in _ACCEPTED


def read_messages(raw: bytes) -> list[bytes]:
    """The HL7 messages of a file: framed or not, one or several, segments ended by CR, LF, CRLF."""
    starts = [found.start() for found in _MESSAGE_START.finditer(raw)]
    return [_with_cr(raw[start:end]) for start, end in pairwise([*starts, len(raw)])]


def _with_cr(piece: bytes) -> bytes:
    segments = piece.strip(b"\x0b\x1c\r\n").replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    return segments + b"\r"


def send(
    to: Address,
    messages: Iterable[bytes],
    *,
    deadline_s: float = 10.0,
    secure: Secure | None = None,
) -> list[Acknowledgement]:
    """Send over one connection, each message after the answer to the one before; all answers.

    Raises Unreachable when the peer cannot be reached, hangs up, or is silent past the deadline.
    """
    with Sender(to, deadline_s=deadline_s, secure=secure) as sender:
        return [answer for message in messages for answer in sender.send(message)]


class Sender:
    """One kept MLLP connection of a RIS, over TLS where it is `secure`; blocking."""

    def __init__(
        self, to: Address, *, deadline_s: float = 10.0, secure: Secure | None = None
    ) -> None:
        self.to = to
        self._deadline_s = deadline_s
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._pending: deque[bytes] = deque()
        self._unheard = secure is not None
        try:
            self._socket = socket.create_connection(to, timeout=deadline_s)
        except OSError as error:
            raise _nobody(to, error) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure is not None:
            self._socket = secure.wrapped(self._socket, to)

    def send(self, message: bytes) -> list[Acknowledgement]:
        """Send one message and wait for every answer that its MSH-15/16 ask for.

        Original mode: one. Enhanced mode: the accept level, then after CA the application level. An
        application answer "on error only" (ER) cannot be awaited and is not.
        """
        self.send_raw(frame(message))
        answers: list[Acknowledgement] = []
        while _awaits_another(message, answers):
            answers.append(read_acknowledgement(self._next_block()))
        return answers

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are: half frames, rubbish, whatever a test needs."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Unreachable(self.to, "hung up while we were sending", _SEE_LOG) from error

    def receive(self) -> Acknowledgement:
        """Wait for one more answer."""
        return read_acknowledgement(self._next_block())

    def close(self) -> None:
        self._socket.close()

    def _next_block(self) -> bytes:
        deadline = time.monotonic() + self._deadline_s
        while not self._pending:
            self._take(self._read(deadline))
        return self._pending.popleft()

    def _take(self, data: bytes | None) -> None:
        blocks = self._deframer.idle() if data is None else self._deframer.receive(data)
        self._pending += [block.payload for block in blocks if isinstance(block, Block)]

    def _read(self, deadline: float) -> bytes | None:
        """The next bytes, or None after a short silence; raises Unreachable past the deadline."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise Unreachable(
                self.to, f"no acknowledgement within {self._deadline_s:g} s", _SEE_LOG
            )
        self._socket.settimeout(min(QUIET_S, left_s))
        try:
            data = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return None
        except OSError as error:
            if self._unheard:
                raise hung_up(self.to) from error
            raise Unreachable(self.to, "reset the connection", _SEE_LOG) from error
        if not data and self._unheard:
            raise hung_up(self.to)
        if not data:
            raise Unreachable(self.to, "closed the connection without an acknowledgement", _SEE_LOG)
        self._unheard = False
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_SEE_LOG = "the peer's log says why"


def _nobody(to: Address, error: OSError) -> Unreachable:
    fact = "timed out" if isinstance(error, TimeoutError) else (error.strerror or str(error))
    return Unreachable(to, f"cannot connect ({fact.lower()})", "is it running, is the port right?")


def _awaits_another(message: bytes, answers: list[Acknowledgement]) -> bool:
    accept, application = _asked_for(message)
    if not answers:
        return not {accept, application} <= _NOT_AWAITED
    return answers[-1].code == "CA" and application not in _NOT_AWAITED


def _asked_for(message: bytes) -> tuple[str, str]:
    """MSH-15 and MSH-16; original mode is an application answer always (standards 4.2)."""
    try:
        header = read_header(message)
    except Refusal:
        return "", "AL"
    if not header.accept_ack and not header.application_ack:
        return "", "AL"
    return header.accept_ack, header.application_ack
