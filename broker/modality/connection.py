"""One scanner's connection: what asyncio says, what it means, and how long it may last."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import cast

import structlog

from broker.dicom.association import (
    Aborted,
    Accepted,
    Acceptor,
    CancelReceived,
    Event,
    ProtocolFault,
    Rejected,
    Released,
    RequestReceived,
    State,
)
from broker.dicom.dimse import DimseRequest
from broker.dicom.negotiation import Agreement, AssociationRequest, Rejection
from broker.modality.deadline import Deadline
from broker.modality.reception import Association, Reception
from broker.modality.sending import Sending
from broker.modality.serving import Serving
from broker.modality.warned import remedy
from broker.tls.peers import names_of

__all__ = ["Association", "Connection"]

log = structlog.get_logger("modality")

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class Connection(asyncio.Protocol):
    """Serves one peer: requests strictly one after the other, C-CANCEL and release at any time."""

    def __init__(self, reception: Reception) -> None:
        limits = reception.limits
        self._reception = reception
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._address = "?"
        self._certificate: frozenset[str] = frozenset()
        self._acceptor = Acceptor(self._judge, reception.negotiate, limits.sizes)
        self._sending = Sending(limits.write_block, limits.write_s, self._stopped_reading)
        self._serving = Serving(reception, self._acceptor, self._sending, self._served)
        self._deadline = Deadline(self._expired)
        self._association: Association | None = None
        self._began = self._loop.time()
        self._over = False
        self._held = 0
        self.closed = asyncio.Event()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self._address, self._serving.port = str(peer[0]), int(peer[1])
        self._certificate = names_of(transport.get_extra_info("peercert"))
        if not self._reception.arrived(self, self._address):
            say = log.warning if self._reception.warns(self._address, "too many") else log.info
            say("connection closed", address=self._address, reason="too many connections")
            self._reception.observe("connection", {"outcome": "too many"}, 0.0)
            self._over = True
            self._transport.abort()
            return
        self._sending.opened(self._transport)
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._acknowledge_quickly()
        self._deadline.arm("association", self._limits.association_s)

    def data_received(self, data: bytes) -> None:
        events = self._acceptor.receive(data)
        for event in events:
            self._on(event)
        self._sending.flush()
        self._acknowledge_quickly()
        self._weigh()
        self._watch(progress=bool(events))

    def pause_writing(self) -> None:
        self._sending.pause()

    def resume_writing(self) -> None:
        self._sending.resume()

    def connection_lost(self, _error: Exception | None) -> None:
        self._deadline.disarm()
        self._ended("lost")
        self._acceptor.lost()
        self._socket = None
        self._sending.lost()
        self._weigh()
        self.closed.set()
        self._reception.left(self)
        self._let_go()

    # What the server calls

    @property
    def busy(self) -> bool:
        """A request is being served."""
        return self._serving.busy

    def abort(self, outcome: str) -> None:
        """Send A-ABORT if an association stands, and close; nothing is waited for."""
        if self._transport is None or self._transport.is_closing():
            return
        if goodbye := self._acceptor.abort():
            self._sending.write(goodbye)
            self._sending.flush()
        self._ended(outcome)
        self._transport.close()
        # close() waits for a peer that reads; this one may not.
        self._deadline.arm_once("close", self._limits.close_s)

    def drop(self, outcome: str) -> None:
        """Close without a word, for a peer that does not listen; unsent bytes are thrown away."""
        self._ended(outcome)
        self._acceptor.lost()
        if self._transport is not None:
            self._transport.abort()

    # Events of the association

    def _judge(self, request: AssociationRequest) -> Rejection | None:
        return self._reception.judge(request, self._address, self._certificate)

    def _on(self, event: Event) -> None:
        if event.reply:
            self._sending.write(event.reply)
        if self._over:
            return
        match event:
            case Accepted():
                self._accepted(event.request, event.agreement)
            case Rejected(request, rejection):
                titles = {"calling": request.calling_ae, "called": request.called_ae}
                self._ended("rejected", **titles, reason=rejection.fact)
            case RequestReceived(request):
                self._enqueue(request)
            case CancelReceived(message_id):
                self._serving.cancel(message_id)
            case Released():
                self._ended("released")
            case Aborted(source, reason):
                self._ended("aborted by peer", source=source, reason=reason)
            case ProtocolFault(fact):
                self._ended("protocol fault", reason=fact)

    def _accepted(self, request: AssociationRequest, agreed: Agreement) -> None:
        self._association = Association(
            request.calling_ae,
            request.called_ae,
            self._address,
            request.implementation_class,
            request.implementation_version,
            agreed.fuzzy,
            agreed.zoned,
        )
        self._serving.begin(self._association)
        self._reception.came(self, self._association)

    def _enqueue(self, request: DimseRequest) -> None:
        if self._reception.stopping:
            self.abort("stopping")
        elif request.message_id is None and self._reception.admission.message_id_needed:
            self.abort("request without Message ID")
        elif not self._serving.enqueue(request):
            self.abort("too many requests at once")

    def _served(self, bug: BaseException | None) -> None:
        """A request is done: go on to the next, unless it was the last."""
        if bug is not None:
            self.abort("bug")
        if self._reception.stopping:
            self.abort("stopping")
        self._serving.next()
        self._weigh()
        self._watch(progress=True)
        self._let_go()

    def _ended(self, outcome: str, **facts: object) -> None:
        """The association is over; the first outcome counts and is the one line in the log."""
        if self._over:
            return
        self._over = True
        if self._association is not None:
            self._reception.went(self._association)
            facts["calling"] = self._association.calling
        seconds = self._loop.time() - self._began
        self._say(outcome, seconds, facts)
        self._reception.observe("association", self._labels(outcome, facts), seconds)
        self._serving.peer_left()

    def _say(self, outcome: str, seconds: float, facts: Mapping[str, object]) -> None:
        """Write the one line of an association, as loud as what has to be done about it."""
        reason = str(facts.get("reason", ""))
        mend = remedy(outcome, reason)
        # Whoever only opens a port is a health check or a scan, every few seconds.
        say = log.info if self._association or facts else log.debug
        if mend is not None and self._reception.warns(self._address, reason or outcome):
            say = log.warning
        say(
            "association",
            outcome=outcome,
            address=self._address,
            port=self._serving.port,
            requests=self._serving.count,
            ms=round(seconds * 1000, 1),
            **facts,
            **({"remedy": mend} if mend else {}),
        )

    def _labels(self, outcome: str, facts: Mapping[str, object]) -> dict[str, str]:
        labels = {"outcome": outcome, "address": self._address}
        if self._association is not None:
            labels["called"] = self._association.called
        return labels | {name: str(fact) for name, fact in facts.items()}

    def _let_go(self) -> None:
        """Once it is over, cut the circles with our parts: memory is free now, not rounds later.

        Scanners that associate for each list leave thousands of connections an hour.
        """
        if self.closed.is_set() and not self.busy:
            self._transport = None
            del self._acceptor, self._serving, self._sending, self._deadline

    # Limits

    def _weigh(self) -> None:
        """Keep the books of what this peer makes us hold, and end what is too much for us all."""
        held = self._acceptor.held + self._serving.held
        self._reception.held += held - self._held
        self._held = held
        if held > self._limits.held_freely and self._reception.held > self._limits.held:
            self.abort("too much at once")

    def _watch(self, *, progress: bool) -> None:
        """Set the deadline that fits the state; `progress`: something whole has come or gone."""
        state = self._acceptor.state
        if self._transport is None or self._transport.is_closing():
            return
        if state is State.CLOSED:
            self._transport.abort()
        elif state is State.AWAITING_ASSOCIATE:
            return
        elif state is not State.ESTABLISHED:
            self._deadline.arm_once("close", self._limits.close_s)
        elif self._acceptor.unfinished:
            start = self._deadline.arm if progress else self._deadline.arm_once
            start("message", self._limits.message_s)
        elif self.busy:
            self._deadline.disarm()
        else:
            self._deadline.arm("idle", self._limits.idle_s)

    def _expired(self, name: str) -> None:
        if name in ("association", "close"):
            self.drop("no association asked for in time" if name == "association" else "lost")
        else:
            self.abort(f"{name} deadline")

    def _stopped_reading(self) -> None:
        self.drop("peer stopped reading")

    def _acknowledge_quickly(self) -> None:
        """Switch delayed ACK off until the next read, when Linux switches it on again.

        DCMTK sends header and body of a PDU apart and waits for our ACK between: 40 ms a query.
        """
        if QUICKACK is None or self._socket is None:
            return
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
