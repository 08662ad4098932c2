"""The requests of one association: strictly one after the other, each with a final response."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable
from pathlib import PurePath
from typing import cast

import structlog

from broker.dicom import dimse
from broker.dicom.association import Acceptor
from broker.dicom.dimse import Answers, DimseRequest, Response
from broker.modality.reception import Association, Reception
from broker.modality.sending import Sending

LONGEST_UID = 64

log = structlog.get_logger("modality")


class Serving:
    """Serves what one peer asks; `served` is called after each request, with a bug in our own code.

    It then calls `next`, once it has judged whether the association goes on.

    A request that has begun is never torn: when its peer goes, its responses are dropped and the
    handler ends by itself, so that what a scanner reports just before it leaves is kept.
    """

    def __init__(
        self,
        reception: Reception,
        acceptor: Acceptor,
        sending: Sending,
        served: Callable[[BaseException | None], None],
    ) -> None:
        self._reception = reception
        self._limits = reception.limits
        self._acceptor = acceptor
        self._sending = sending
        self._served = served
        self._loop = asyncio.get_running_loop()
        self._association: Association | None = None
        self._answers = 0
        self._current: DimseRequest | None = None
        self._answered = False  # the current request has its final response, only not yet drained
        self._waiting: deque[DimseRequest] = deque()
        self.count = 0
        self.port = 0
        """Of the peer: the lines of its requests and of its association have it."""

    @property
    def busy(self) -> bool:
        """A request is being served."""
        return self._current is not None

    @property
    def held(self) -> int:
        """Bytes of the data sets that wait or are being worked on."""
        return self._ahead + _size(self._current)

    @property
    def _ahead(self) -> int:
        return sum(map(_size, self._waiting))

    def begin(self, association: Association) -> None:
        """Requests may come."""
        self._association = association

    def enqueue(self, request: DimseRequest) -> bool:
        """Serve it when its turn comes; False where too much is sent ahead of its answers."""
        limits = self._limits
        full = len(self._waiting) >= limits.waiting_requests
        if full or self._ahead + _size(request) > limits.waiting_bytes:
            return False
        self._waiting.append(request)
        if self._current is None:
            self.next()
        return True

    def cancel(self, message_id: int) -> None:
        """Remember a C-CANCEL, but only of a request that is here: IDs are used again."""
        here = [*self._waiting] if self._answered else [self._current, *self._waiting]
        if self._association and any(r and (r.message_id or 0) == message_id for r in here):
            self._association.cancel(message_id)

    def peer_left(self) -> None:
        """Reports are carried out even if nobody waits for the answer; questions are not."""
        self._waiting = deque(r for r in self._waiting if r.kind.startswith("N-"))

    def next(self) -> None:
        """Begin with the request that waits longest, if there is one."""
        if not self._waiting or self._association is None:
            return
        self._current, self._answered = self._waiting.popleft(), False
        task = self._loop.create_task(self._serve(self._current, self._association))
        self._reception.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._reception.tasks.discard(task)
        self._current = None
        bug = None
        if task.cancelled():
            self._waiting.clear()
        elif (bug := task.exception()) is not None:
            log.error("request", outcome="bug in the door", **_where(bug))
        self._served(bug)

    async def _serve(self, request: DimseRequest, association: Association) -> None:
        began, self._answers = self._loop.time(), 0
        final = await self._respond(request, association)
        association.forget(request.message_id)
        self._answered = True
        self._send(request, final)
        self._sending.flush()
        seconds = self._loop.time() - began
        self.count += 1
        log.info(
            "request",
            kind=request.kind,
            status=f"{final.status:04X}",
            answers=self._answers,
            calling=association.calling,
            port=self.port,
            ms=round(seconds * 1000, 1),
        )
        labels = {"kind": request.kind, "status": f"{final.status:04X}"}
        self._reception.observe("request", labels, seconds)
        await self._sending.drain()

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
        responses = cast("AsyncGenerator[Response | Answers, None]", handler(request, association))
        async with contextlib.aclosing(responses):
            async for response in responses:
                if isinstance(response, Response) and not response.pending:
                    return response
                if association.cancelled(request.message_id) or not self._acceptor.established:
                    return Response(dimse.CANCELLED)
                self._send(request, response)
                await self._sending.breathe()
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
        instance = request.sop_instance if request.kind.startswith("N-") else ""
        if len(instance) > LONGEST_UID or not (instance.isascii() and instance.isprintable()):
            # It would become a key and stand in logs; an odd UID of a real device may (PS3.5 §9.1).
            return Response(
                dimse.INVALID_OBJECT_INSTANCE, error_comment="SOP Instance UID is not a UID"
            )
        return None

    def _send(self, request: DimseRequest, response: Response | Answers) -> None:
        if not self._acceptor.established:
            return
        if isinstance(response, Answers):
            self._sending.write(self._acceptor.respond_all(request, response))
            self._answers += len(response.datasets)
        else:
            self._sending.write(self._acceptor.respond(request, response))
            self._answers += response.pending


def _size(request: DimseRequest | None) -> int:
    return len(request.dataset or b"") if request is not None else 0


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
