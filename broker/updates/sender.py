"""One kept MLLP connection to a RIS: a message out, its acknowledgement in, the verdict on it."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import structlog

from broker.hl7.acknowledgement import Acknowledgement, read_acknowledgement
from broker.hl7.framing import Block, Deframer, Oversize, frame
from broker.hl7.refusal import Refusal
from broker.settings import Ris

MAX_ANSWER_BYTES = 2**20
READ_BYTES = 2**16
SLICE_S = 0.2
"""How long we wait before looking around; also how long after a lone FS a block has ended."""
WRITE_DEADLINE_S = 5.0
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))

log = structlog.get_logger("updates")


class Verdict(StrEnum):
    """What becomes of a message."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    RETRY = "retry"


VERDICTS: Mapping[str, Verdict] = {
    "AA": Verdict.DELIVERED,
    "CA": Verdict.DELIVERED,
    "AE": Verdict.REFUSED,
    "CE": Verdict.REFUSED,
    "AR": Verdict.RETRY,
    "CR": Verdict.RETRY,
}
"""By MSA-1 (table 0008): E is the content's fault, R is not (standards 4.2)."""


@dataclass(frozen=True)
class Outcome:
    """The verdict with its cause; `words` are the RIS's own and may quote the message: no log."""

    verdict: Verdict
    cause: str
    words: str = ""


class Unreachable(Exception):
    """Nobody answers where the RIS should be; nothing was sent."""


class NoAnswer(Exception):
    """The message went out, whole or in part, and no valid acknowledgement came."""


class Line:
    """The connection to one RIS, opened when it is needed and kept; blocking."""

    def __init__(self, ris: Ris) -> None:
        self._ris = ris
        self._socket: socket.socket | None = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._blocks: deque[Block | Oversize] = deque()
        self._judged: deque[str] = deque(maxlen=32)

    def connect(self) -> None:
        """Make sure that there is a connection which the RIS has not closed. Raises Unreachable."""
        if self.is_open():
            return
        try:
            connection = socket.create_connection(self._ris.to, self._ris.connect_timeout_s)
        except OSError as error:
            raise Unreachable(error.strerror or str(error) or type(error).__name__) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._socket = connection

    def is_open(self) -> bool:
        """Tell whether the connection is usable, and read what the RIS said unasked meanwhile."""
        if self._socket is None:
            return False
        try:
            self._socket.setblocking(False)
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._blocks += self._deframer.receive(data)
        return True

    def send(self, payload: bytes, control_id: str, meanwhile: Callable[[], None]) -> Outcome:
        """Send one message and judge its acknowledgement.

        Calls `meanwhile` several times a second while waiting; what it raises ends the attempt.
        Whenever an answer may still come, the connection is closed: it would be taken for the next.
        """
        try:
            outcome = self._judgement(self._exchange(payload, control_id, meanwhile))
        except (NoAnswer, OSError) as failure:
            self.close()
            reason = failure if isinstance(failure, NoAnswer) else type(failure).__name__
            return Outcome(Verdict.RETRY, str(reason))
        except BaseException:
            self.close()
            raise
        self._judged.append(control_id)
        return outcome

    def close(self) -> None:
        """Close the connection and forget what came over it."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._blocks.clear()
        self._judged.clear()

    def _exchange(
        self, payload: bytes, control_id: str, meanwhile: Callable[[], None]
    ) -> Acknowledgement:
        if self._socket is None:
            raise NoAnswer("not connected")
        self._socket.settimeout(WRITE_DEADLINE_S)
        self._socket.sendall(frame(payload))
        deadline = time.monotonic() + self._ris.ack_timeout_s
        while True:
            while self._blocks:
                answer = _read(self._blocks.popleft())
                if answer.control_id.strip() == control_id:
                    return answer
                self._pass_over(answer)
            meanwhile()
            self._receive(self._socket, deadline)

    def _receive(self, connection: socket.socket, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise NoAnswer(f"no acknowledgement within {self._ris.ack_timeout_s:g} s")
        connection.settimeout(min(SLICE_S, left_s))
        try:
            data = connection.recv(READ_BYTES)
        except TimeoutError:
            self._blocks += self._deframer.idle()
            return
        if not data:
            self._blocks += self._deframer.eof()
            if not self._blocks:
                raise NoAnswer("connection closed without an acknowledgement")
        self._blocks += self._deframer.receive(data)

    def _pass_over(self, answer: Acknowledgement) -> None:
        """An application answer may follow the accept answer that we judged; others are wrong."""
        if answer.control_id.strip() not in self._judged:
            raise NoAnswer("acknowledgement of another message (MSA-2)")
        log.warning("second answer ignored", ris=self._ris.name, code=answer.code[:2])

    def _judgement(self, answer: Acknowledgement) -> Outcome:
        verdict = VERDICTS.get(answer.code)
        if verdict is None:
            raise NoAnswer("acknowledgement with an unknown code (MSA-1)")
        return Outcome(verdict, answer.code, answer.text)


def _read(block: Block | Oversize) -> Acknowledgement:
    try:
        if isinstance(block, Block):
            return read_acknowledgement(block.payload)
    except Refusal as unreadable:
        raise NoAnswer("answer is not an acknowledgement") from unreadable
    raise NoAnswer(f"answer is longer than {MAX_ANSWER_BYTES} bytes")
