"""One kept MLLP connection to a RIS: a message out, its acknowledgement in, the verdict on it."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from broker.hl7.acknowledgement import Acknowledgement, read_acknowledgement
from broker.hl7.framing import Block, Deframer, Oversize, frame
from broker.hl7.refusal import Refusal
from broker.settings import Ris, Verdict
from broker.settings.updates import NONSENSE, SILENCE, WRONG_ID
from broker.store.outbox import Event
from broker.updates.reaching import (
    READ_BYTES,
    SLICE_S,
    WRITE_DEADLINE_S,
    Outcome,
    connection_to,
    credentials_of,
    unasked,
)

MAX_ANSWER_BYTES = 2**20

CODES: Final = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
"""MSA-1 (table 0008)."""

log = structlog.get_logger("updates")


class NoAnswer(Exception):
    """The message went out, whole or in part, and no valid acknowledgement came.

    `kind` is its line in the table of answers.
    """

    def __init__(self, fact: str, kind: str = SILENCE) -> None:
        super().__init__(fact)
        self.kind = kind


class Line:
    """The connection to one RIS, opened when it is needed and kept; blocking."""

    def __init__(self, ris: Ris) -> None:
        self._ris = ris
        self.credentials = credentials_of(ris, "ris")
        self._socket: socket.socket | None = None
        self._deframer = Deframer(MAX_ANSWER_BYTES)
        self._blocks: deque[Block | Oversize] = deque()
        self._junk = 0
        self._judged: deque[str] = deque(maxlen=32)

    def connect(self) -> None:
        """Make sure that there is a connection which the RIS has not closed. Raises Unreachable."""
        if self.is_open():
            return
        self._socket = connection_to(self._ris, self.credentials)

    def is_open(self) -> bool:
        """Tell whether the connection is usable, and read what the RIS said unasked meanwhile."""
        said = unasked(self._socket) if self._socket is not None else b""
        if said == b"":
            self.close()
            return False
        if said is not None:
            self._blocks += self._deframer.receive(said)
        return True

    def send(self, event: Event, meanwhile: Callable[[], None], *, doubt: bool) -> Outcome:  # noqa: ARG002 - MSH-10 is the same, which is all that a RIS needs
        """Send one message and judge its acknowledgement.

        Whenever an answer may still come, the connection is closed: it would be taken for the next.
        """
        try:
            outcome = self._judgement(self._exchange(event.payload, event.control_id, meanwhile))
        except (NoAnswer, OSError) as failure:
            self.close()
            return self._unanswered(failure)
        except BaseException:
            self.close()
            raise
        self._judged.append(event.control_id)
        return outcome

    def _unanswered(self, failure: NoAnswer | OSError) -> Outcome:
        if isinstance(failure, OSError):
            failure = NoAnswer(failure.strerror or type(failure).__name__)
        verdict = self._ris.verdict(failure.kind) or Verdict.RETRY
        return Outcome(verdict, str(failure), doubt=True)

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
        self._junk = self._deframer.unframed
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
            if not self._blocks and self._deframer.unframed > self._junk:
                raise NoAnswer("answer is in no MLLP block (VT, FS, CR)", NONSENSE) from None
            return
        if not data:
            self._blocks += self._deframer.eof()
            if not self._blocks:
                raise NoAnswer("connection closed without an acknowledgement")
        self._blocks += self._deframer.receive(data)

    def _pass_over(self, answer: Acknowledgement) -> None:
        """An application answer may follow the accept answer that we judged; others are wrong."""
        if answer.control_id.strip() not in self._judged:
            raise NoAnswer("acknowledgement of another message (MSA-2)", WRONG_ID)
        log.warning("second answer ignored", destination=self._ris.name, code=answer.code[:2])

    def _judgement(self, answer: Acknowledgement) -> Outcome:
        verdict = self._ris.verdict(answer.code, answer.condition)
        if verdict is None or answer.code not in CODES:
            raise NoAnswer("acknowledgement with an unknown code (MSA-1)", NONSENSE)
        cause = f"{answer.code} {answer.condition}".strip()
        return Outcome(verdict, cause, answer.text)


def _read(block: Block | Oversize) -> Acknowledgement:
    try:
        if isinstance(block, Block):
            return read_acknowledgement(block.payload)
    except Refusal as unreadable:
        raise NoAnswer("answer is not an acknowledgement", NONSENSE) from unreadable
    raise NoAnswer(f"answer is longer than {MAX_ANSWER_BYTES} bytes", NONSENSE)
