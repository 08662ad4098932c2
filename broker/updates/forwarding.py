"""One kept association to another SCP: an N-CREATE or N-SET out, its status and verdict in."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from broker.dicom.dimse import DUPLICATE_INSTANCE, PROCESSING_FAILURE
from broker.dicom.pdu import release_request
from broker.dicom.requesting import Answered, NotAssociated, Requestor
from broker.settings import Forward, Verdict
from broker.store.outbox import Event
from broker.updates.reaching import (
    READ_BYTES,
    SLICE_S,
    WRITE_DEADLINE_S,
    Outcome,
    Unreachable,
    connection_to,
    credentials_of,
    unasked,
)

MODALITY_PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
IDLE_S: Final = 30.0
"""Many an SCP minds an association that does nothing: after so long a new one is begun."""
KNOWN_ALREADY: Final = {"N-CREATE": DUPLICATE_INSTANCE, "N-SET": PROCESSING_FAILURE}
"""What says of a request that was sent before, and whose answer was lost, that it was taken."""


class Relay:
    """The association to one SCP, begun when it is needed and kept for a while; blocking."""

    def __init__(self, forward: Forward) -> None:
        self._to = forward
        self.credentials = credentials_of(forward, "updates.forward")
        self._socket: socket.socket | None = None
        self._requestor = self._new()
        self._used = 0.0

    def connect(self) -> None:
        """Make sure that there is an association. Raises Unreachable."""
        if time.monotonic() - self._used > IDLE_S:
            self.close()
        if self.is_open():
            return
        self._socket, self._requestor = connection_to(self._to, self.credentials), self._new()
        deadline = time.monotonic() + self._to.connect_timeout_s
        try:
            self._socket.sendall(self._requestor.associate())
            while not self._requestor.established:
                self._receive(self._socket, deadline)
        except (NotAssociated, OSError) as failure:
            self.close()
            raise Unreachable(str(failure) or type(failure).__name__) from failure
        self._used = time.monotonic()

    def is_open(self) -> bool:
        """Tell whether the association stands, as far as the peer has said."""
        if self._socket is not None and unasked(self._socket) is None:
            return True
        self.close()  # an abort or a release: whatever comes unasked ends it
        return False

    def send(self, event: Event, meanwhile: Callable[[], None], *, doubt: bool) -> Outcome:
        """Send one request and judge its status.

        A request whose answer was lost is done with when the peer says that it has it already.
        """
        try:
            answer = self._exchange(event, meanwhile)
        except (NotAssociated, OSError) as failure:
            self.close()
            return Outcome(Verdict.RETRY, str(failure) or type(failure).__name__, doubt=True)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        cause = f"{answer.status:04X}"
        if answer.error_id is not None:
            cause += f" {answer.error_id:04X}"
        if doubt and KNOWN_ALREADY.get(event.facts["operation"]) == answer.status:
            return Outcome(Verdict.DONE, f"{cause} to a repeat")
        return Outcome(self._to.verdict(answer.status), cause, answer.comment)

    def close(self) -> None:
        """Release the association, without waiting for the answer."""
        if self._socket is not None:
            with suppress(OSError):
                if self._requestor.established:
                    self._socket.settimeout(SLICE_S)
                    self._socket.sendall(release_request())
            with suppress(OSError):
                self._socket.close()
        self._socket = None

    def _exchange(self, event: Event, meanwhile: Callable[[], None]) -> Answered:
        if self._socket is None:
            raise NotAssociated("no association")
        operation, syntax = event.facts["operation"], event.facts["syntax"]
        request = self._requestor.request(operation, event.order, event.payload, syntax)
        self._socket.settimeout(WRITE_DEADLINE_S)
        self._socket.sendall(request)
        deadline = time.monotonic() + self._to.ack_timeout_s
        while True:
            meanwhile()
            if answers := self._receive(self._socket, deadline):
                return answers[0]

    def _receive(self, connection: socket.socket, deadline: float) -> list[Answered]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise NotAssociated("no answer in time")
        connection.settimeout(min(SLICE_S, left_s))
        try:
            data = connection.recv(READ_BYTES)
        except TimeoutError:
            return []
        if not data:
            raise NotAssociated("it has closed the connection")
        return self._requestor.receive(data)

    def _new(self) -> Requestor:
        return Requestor(
            MODALITY_PERFORMED_PROCEDURE_STEP,
            calling=self._to.ae_title,
            called=self._to.called,
        )
