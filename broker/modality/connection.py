"""One scanner's connection: deadlines, back-pressure, order of requests around an `Acceptor`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections import Counter, deque
from collections.abc import AsyncGenerator
from pathlib import PurePath
from typing import cast

import structlog

from broker.dicom import dimse
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
from broker.dicom.dimse import DimseRequest, Response
from broker.dicom.negotiation import AssociationRequest, Rejection
from broker.modality.reception import Association, Reception

__all__ = ["Association", "Connection"]

log = structlog.get_logger("modality")

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class Connection(asyncio.Protocol):
    """Serves one peer: requests strictly one after the other, C-CANCEL and release at any time.

    A request that has begun is never torn: when its peer goes, its responses are dropped and the
    handler ends by itself, so that what a scanner reports just before it leaves is kept.
    """

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._limits = reception.limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._address = "?"
        self._acceptor = Acceptor(self._judge, reception.services, reception.limits.sizes)
        self._association: Association | None = None
        self._began = self._loop.time()
        self._over = False
        self._served = 0
        self._answers = 0
        self._current: DimseRequest | None = None
        self._answered = False  # the current request has its final response, only not yet drained
        self._waiting: deque[DimseRequest] = deque()
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_name = ""
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._flush_due = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else "?"
        admitted = self._reception.admits(self._address)
        self._reception.connections.add(self)
        self._reception.by_address[self._address] += 1
        if not admitted:
            log.warning("connection closed", address=self._address, reason="too many connections")
            self._reception.observe("connection", {"outcome": "too many"}, 0.0)
            self._over = True
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=2 * self._limits.write_block)
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._acknowledge_quickly()
        self._arm_once("association", self._limits.association_s)

    def data_received(self, data: bytes) -> None:
        events = self._acceptor.receive(data)
        for event in events:
            self._on(event)
        self._flush()
        self._acknowledge_quickly()
        self._watch(progress=bool(events))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._disarm()
        self._ended("lost")
        self._acceptor.lost()
        self._socket = None
        self._outgoing.clear()
        self._writable.set()
        self.closed.set()
        self._reception.connections.discard(self)
        self._reception.by_address -= Counter([self._address])

    # What the server calls

    @property
    def busy(self) -> bool:
        """A request is being served."""
        return self._current is not None

    def abort(self, outcome: str) -> None:
        """Send A-ABORT if an association stands, and close; nothing is waited for."""
        if self._transport is None or self._transport.is_closing():
            return
        stands = self._acceptor.established
        goodbye = self._acceptor.abort()
        if stands:
            self._write(goodbye)
            self._flush()
        self._ended(outcome)
        self._transport.close()
        # close() waits for a peer that reads; this one may not.
        self._arm_once("close", self._limits.close_s)

    def close_now(self) -> None:
        """Close without waiting for anything."""
        self._drop("stopping")

    # Events of the association

    def _judge(self, request: AssociationRequest) -> Rejection | None:
        return self._reception.judge(request, self._address)

    def _on(self, event: Event) -> None:
        if event.reply:
            self._write(event.reply)
        if self._over:
            return
        match event:
            case Accepted():
                self._accepted(event.request)
            case Rejected(request, rejection):
                self._ended("rejected", calling=request.calling_ae, reason=rejection.fact)
            case RequestReceived(request):
                self._enqueue(request)
            case CancelReceived(message_id):
                self._cancel(message_id)
            case Released():
                self._ended("released")
            case Aborted(source, reason):
                self._ended("aborted by peer", source=source, reason=reason)
            case ProtocolFault(fact):
                self._ended("protocol fault", reason=fact)

    def _accepted(self, request: AssociationRequest) -> None:
        self._association = Association(
            request.calling_ae,
            request.called_ae,
            self._address,
            request.implementation_class,
            request.implementation_version,
        )
        self._reception.associated[self._address] += 1

    def _enqueue(self, request: DimseRequest) -> None:
        if self._reception.stopping:
            self.abort("stopping")
            return
        self._waiting.append(request)
        held = sum(len(waiting.dataset or b"") for waiting in self._waiting)
        if len(self._waiting) > self._limits.waiting_requests or held > self._limits.waiting_bytes:
            self._waiting.pop()
            self.abort("too many requests at once")
            return
        if self._current is None:
            self._serve_next()

    def _cancel(self, message_id: int) -> None:
        """Remember a C-CANCEL, but only of a request that is here: IDs are used again."""
        here = [*self._waiting] if self._answered else [self._current, *self._waiting]
        if self._association and any(r and (r.message_id or 0) == message_id for r in here):
            self._association.cancel(message_id)

    def _ended(self, outcome: str, **facts: object) -> None:
        """The association is over; the first outcome counts and is the one line in the log."""
        if self._over:
            return
        self._over = True
        if self._association is not None:
            self._reception.associated -= Counter([self._address])
            facts["calling"] = self._association.calling
        seconds = self._loop.time() - self._began
        # Whoever only opens a port is a health check or a scan, every few seconds.
        say = log.info if self._association or facts else log.debug
        say(
            "association",
            outcome=outcome,
            address=self._address,
            requests=self._served,
            ms=round(seconds * 1000, 1),
            **facts,
        )
        self._reception.observe("association", {"outcome": outcome}, seconds)
        # Reports are carried out even if nobody waits for the answer; questions are not.
        self._waiting = deque(r for r in self._waiting if r.kind.startswith("N-"))

    # Requests

    def _serve_next(self) -> None:
        if not self._waiting or self._association is None:
            return
        self._current, self._answered = self._waiting.popleft(), False
        task = self._loop.create_task(self._serve(self._current, self._association))
        self._reception.tasks.add(task)
        task.add_done_callback(self._served_one)

    def _served_one(self, task: asyncio.Task[None]) -> None:
        self._reception.tasks.discard(task)
        self._current = None
        if task.cancelled():
            self._waiting.clear()
        elif (bug := task.exception()) is not None:
            log.error("request", outcome="bug in the door", **_where(bug))
            self.abort("bug")
        if self._reception.stopping:
            self.abort("stopping")
        self._serve_next()
        self._watch(progress=True)

    async def _serve(self, request: DimseRequest, association: Association) -> None:
        began, self._answers = self._loop.time(), 0
        final = await self._respond(request, association)
        association.forget(request.message_id)
        self._answered = True
        self._send(request, final)
        self._flush()
        seconds = self._loop.time() - began
        self._served += 1
        log.info(
            "request",
            kind=request.kind,
            status=f"{final.status:04X}",
            answers=self._answers,
            calling=association.calling,
            ms=round(seconds * 1000, 1),
        )
        labels = {"kind": request.kind, "status": f"{final.status:04X}"}
        self._reception.observe("request", labels, seconds)
        await self._drain()

    async def _respond(self, request: DimseRequest, association: Association) -> Response:
        """Send the pending responses; return the final one, whatever happens."""
        try:
            async with asyncio.timeout(self._limits.request_s):
                return self._refusal(request) or await self._stream(request, association)
        except TimeoutError:
            return _failure(request, "the request took too long")
        except Exception as bug:  # the outermost catch: the association outlives a handler's bug
            log.error("request", outcome="bug in a handler", kind=request.kind, **_where(bug))
            return _failure(request, f"internal error: {type(bug).__name__}")

    async def _stream(self, request: DimseRequest, association: Association) -> Response:
        handler = self._reception.handlers[request.sop_class, request.kind]
        # Handlers are async generator functions: closing runs their `finally` now, not some day.
        responses = cast("AsyncGenerator[Response, None]", handler(request, association))
        async with contextlib.aclosing(responses):
            async for response in responses:
                if not response.pending:
                    return response
                if association.cancelled(request.message_id) or not self._acceptor.established:
                    return Response(dimse.CANCELLED)
                self._send(request, response)
                self._answers += 1
                await self._breathe()
        if request.kind == "C-FIND":
            return Response(dimse.SUCCESS)
        return _failure(request, "the request was left unanswered")

    def _refusal(self, request: DimseRequest) -> Response | None:
        """Return the answer to a request that no handler takes (PS3.7 Annex C.5)."""
        if request.sop_class != request.abstract_syntax:
            return Response(
                dimse.SOP_CLASS_NOT_SUPPORTED, error_comment="SOP class is not the context's"
            )
        if (request.sop_class, request.kind) not in self._reception.handlers:
            return Response(
                dimse.UNRECOGNISED_OPERATION, error_comment=f"{request.kind} is not provided here"
            )
        return None

    # Bytes out

    def _send(self, request: DimseRequest, response: Response) -> None:
        if self._acceptor.established:
            self._write(self._acceptor.respond(request, response))

    def _write(self, data: bytes) -> None:
        """Collect what one turn of the loop produces: many responses go out in one write."""
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        self._outgoing_bytes = 0

    async def _breathe(self) -> None:
        """Between blocks of answers: wait for a slow peer, let a C-CANCEL or an abort in."""
        if self._outgoing_bytes < self._limits.write_block and self._writable.is_set():
            return
        self._flush()
        await asyncio.sleep(0)
        await self._drain()

    async def _drain(self) -> None:
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(self._limits.write_s):
                await self._writable.wait()
        except TimeoutError:
            self._drop("peer stopped reading")

    # Time

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
            self._arm_once("close", self._limits.close_s)
        elif self._acceptor.unfinished:
            if progress:
                self._disarm()
            self._arm_once("message", self._limits.message_s)
        elif self.busy:
            self._disarm()
        else:
            self._disarm()
            self._arm_once("idle", self._limits.idle_s)

    def _arm_once(self, name: str, seconds: float) -> None:
        """Start the deadline `name`; if it already runs, more bytes do not prolong it."""
        if name == self._deadline_name:
            return
        self._disarm()
        self._deadline_name = name
        self._deadline = self._loop.call_later(seconds, self._expired, name)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._deadline_name = None, ""

    def _expired(self, name: str) -> None:
        if name in ("association", "close"):
            self._drop("no association asked for in time" if name == "association" else "lost")
        else:
            self.abort(f"{name} deadline")

    def _drop(self, outcome: str) -> None:
        """Close without a word, for a peer that does not listen; unsent bytes are thrown away."""
        self._ended(outcome)
        self._acceptor.lost()
        if self._transport is not None:
            self._transport.abort()

    def _acknowledge_quickly(self) -> None:
        """Switch delayed ACK off until the next read, when Linux switches it on again.

        DCMTK sends header and body of a PDU apart and waits for our ACK between: 40 ms a query.
        """
        if QUICKACK is None or self._socket is None:
            return
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)


def _failure(request: DimseRequest, comment: str) -> Response:
    """Return "unable to process" in the words of the request's service."""
    find = request.kind == "C-FIND"
    status = dimse.UNABLE_TO_PROCESS if find else dimse.PROCESSING_FAILURE
    return Response(status, error_comment=comment)


def _where(bug: BaseException) -> dict[str, str]:
    """Say what kind of error and in which line, never its text: that may hold patient data."""
    frames = traceback.extract_tb(bug.__traceback__)
    at = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return {"error": type(bug).__name__, "at": at}
