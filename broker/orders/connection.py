"""One sender: reads, hands over and answers strictly in order, and is never waited for too long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

import structlog

from broker.hl7.framing import Block, Deframer, Lost, Oversize, frame
from broker.hl7.refusal import Refusal
from broker.orders.limits import (
    Accept,
    Limits,
    Lose,
    Peer,
    Reject,
    broken_off,
    our_fault,
    reject,
    too_fast,
    too_long,
    too_much,
    too_slow,
)
from broker.orders.wire import prepare, says_to_whom
from broker.pacing import Pacing
from broker.tls.peers import names_of

log = structlog.get_logger("orders")


class Host(Protocol):
    """What a connection asks of its listener."""

    accept: Accept
    reject: Reject
    lose: Lose
    limits: Limits
    port: int
    stopping: bool
    held_bytes: int
    pacing: Pacing

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for one more; it is counted then."""

    def release(self, connection: Connection) -> None:
        """Forget a connection that is closed."""

    def note(self, event: str, peer: Peer, **facts: object) -> None:
        """Count what happened, and say so in the log."""


class Connection(asyncio.Protocol):
    """One sender; a single timer looks after all of its deadlines."""

    def __init__(self, host: Host) -> None:
        """Made by the server for each newcomer."""
        self.peer = Peer("", 0)
        self.silent = True  # has never sent a byte
        self.proven = False  # has been answered: it is a sender of HL7
        self._host = host
        self._limits = host.limits
        self._loop = asyncio.get_running_loop()
        self._deframer = Deframer(host.limits.max_frame_bytes)
        self._waiting: deque[Block | Oversize | Lost] = deque()
        self._work: asyncio.Task[None] | None = None
        self._admitted = False
        self._ended = False  # nothing more is read: the other side is done, or we are
        self._reading = True
        self._noise = 0
        self._held = 0  # bytes of messages that are not answered
        self._began: float | None = None  # when the block in hand, or the noise, began
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None  # awaited while the peer reads nothing
        self._close_by: float | None = None
        self._lost = False

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a newcomer in, or refuse it where there is no room."""
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername") or ("", 0)
        shown = names_of(transport.get_extra_info("peercert"))
        self.peer = Peer(str(name[0]), int(name[1]), self._host.port, shown)
        self._admitted = self._host.admit(self)
        if not self._admitted:
            self._ended = True
            self._transport.abort()
            return
        prepare(self._transport, self._limits)
        self._look_after()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; what is being judged is judged to its end."""
        self._ended = True
        self._waiting.clear()  # unanswered, so they will be sent again
        if exc is not None:
            log.info("connection lost", peer=self.peer.host, error=type(exc).__name__)
        if self._deframer.in_block:
            self._host.note("broken_off", self.peer)
        lost = self._deframer.lost(ended=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._lost = True
        self._hand_over(lost)
        self._settle()

    def data_received(self, data: bytes) -> None:
        """Deal with the next bytes of the stream."""
        self.silent = False
        self._heard = self._loop.time()
        if self._ended:
            return
        deframer = self._deframer
        dropped = deframer.dropped_bytes
        found = deframer.receive(data)
        self._account(deframer.dropped_bytes - dropped, completed=bool(found))
        busy = self._work is not None
        self._hand_over([*found, *deframer.lost()])
        if self._noise > self._limits.max_noise_bytes:
            self._hand_over(deframer.lost(ended=True))
            self._end()
        elif deframer.in_block or busy:
            self._hold_more(busy=busy)
        if self._began is not None or deframer.ending:
            self._look_after()

    def eof_received(self) -> bool:
        """The other side is done sending; it may still be reading what we have to answer."""
        if self._deframer.in_block and not self._deframer.ending:
            self._host.note("broken_off", self.peer)
            if b"\r" in self._deframer.head.strip():  # its header is whole: it says to whom
                self._give_up(broken_off())
        lost = self._deframer.lost(ended=not self._ended)
        self._hand_over([*self._deframer.eof(), *lost])
        self._ended = True
        # a TLS connection cannot stay half open
        return self._work is not None and self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """The peer is not reading."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """The peer has read everything."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # --- what the listener calls

    @property
    def work(self) -> asyncio.Task[None] | None:
        """What is being judged and answered, if anything is."""
        return self._work

    def finish(self) -> None:
        """End after the message in hand; at once when there is none."""
        if self._work is None and not self._deframer.in_block:
            self._end()

    def abort(self) -> None:
        """Break the connection off."""
        self.silent, self.proven = False, True  # leaves the choice, it is on its way out
        self._ended = True
        self._waiting.clear()
        self._transport.abort()
        if self._work is not None:
            self._work.cancel()

    # --- in order

    def _hand_over(self, found: Sequence[Block | Oversize | Lost]) -> None:
        if not found:
            return
        self._waiting.extend(found)
        if self._work is None:
            self._work = self._loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        """Answer what waits, one after the other."""
        going = True
        try:
            while going and self._waiting:
                going = await self._answer(self._waiting.popleft())
        finally:
            self._work = None
            self._settle()
        self._go_on(to_the_next=going)

    def _go_on(self, *, to_the_next: bool) -> None:
        if not to_the_next or self._ended:
            self._end()
        elif self._host.stopping:
            self.finish()
        elif not self._reading:
            self._reading = True
            self._heard = self._loop.time()
            if self._began is not None:
                self._began = self._heard  # it was not read meanwhile, which is our doing
            self._transport.resume_reading()
        self._look_after()

    def _settle(self) -> None:
        """Count what is still in memory; a connection is over when nothing works for it either."""
        self._hold(0 if self._lost else self._deframer.held)
        if self._lost and self._work is None and self._admitted:
            self._admitted = False
            self._host.release(self)

    async def _answer(self, block: Block | Oversize | Lost) -> bool:
        if isinstance(block, Lost):
            await self._archived(block)
            return True
        payloads = await self._judged(block)
        if payloads is None:
            return False
        self.proven = True
        return not payloads or await self._sent(payloads)

    async def _sent(self, payloads: list[bytes]) -> bool:
        if self._transport.is_closing():
            return False
        self._transport.write(b"".join(map(frame, payloads)))  # in one segment: some read once
        if self._drained is None:
            return True
        try:
            async with asyncio.timeout(self._limits.write_deadline_s):
                await self._drained
        except TimeoutError:
            self._host.note("write_deadline", self.peer)
            self._transport.abort()
            return False
        return True

    async def _judged(self, block: Block | Oversize) -> list[bytes] | None:
        if isinstance(block, Oversize):
            self._host.note("oversize", self.peer, size=block.size)
            return await self._refused(too_long(self._limits.max_frame_bytes), block.head)
        if block.bare:
            self._host.note("bare", self.peer)
        if self._limits.messages_a_second and not await self._has_turn():
            return await self._refused(too_fast(), block.payload)
        try:
            return await self._host.accept(block.payload, self.peer)
        except Exception as error:  # the door's outermost catch: a bug of ours
            self._failed(error)
            return await self._refused(our_fault(), block.payload)

    async def _has_turn(self) -> bool:
        """Wait where this address sends too fast; False where it would be too long."""
        a_second = self._limits.messages_a_second or 0.0
        wait_s = self._host.pacing.wait_s(self.peer.host, a_second, self._loop.time())
        if wait_s is None:
            self._host.note("too_fast", self.peer)
            return False
        if wait_s:
            self._host.note("slowed", self.peer)
            await asyncio.sleep(wait_s)
        return True

    async def _archived(self, lost: Lost) -> None:
        """Keep what nobody can be answered about, so that it can be found."""
        if lost.torn:
            self._host.note("torn", self.peer)
        try:
            await self._host.lose(lost, self.peer)
        except Exception as error:  # the door's outermost catch: a bug of ours
            self._failed(error)

    async def _refused(self, refusal: Refusal, head: bytes) -> list[bytes] | None:
        try:
            return await self._host.reject(refusal, head, self.peer)
        except Exception as error:  # then it is answered, if not archived
            self._failed(error)
            return await reject(refusal, head, self.peer)

    def _failed(self, error: Exception) -> None:
        # neither the message of an unknown error nor its values may reach a log
        self._host.note("failure", self.peer, error=type(error).__name__, at=_place(error))

    def _end(self) -> None:
        self._ended = True
        if self._close_by is None:
            self._close_by = self._loop.time() + self._limits.write_deadline_s
            self._transport.close()
            self._look_after()  # closing waits for what is not sent yet, but not for ever

    # --- bounds

    def _account(self, dropped: int, *, completed: bool) -> None:
        """Keep the clock of the block or the noise in hand."""
        if completed:
            self._noise = 0
            self._began = None
        if dropped:
            if not self._noise:
                self._host.note("noise", self.peer, dropped=dropped)
            self._noise += dropped
        if not self._deframer.in_block and not self._noise:
            self._began = None
        elif self._began is None:
            self._began = self._heard

    def _hold_more(self, *, busy: bool) -> None:
        """Count what is held in memory; while an earlier message is judged, read no more."""
        if busy and self._reading:
            self._reading = False
            self._transport.pause_reading()
        waiting = sum(len(one.payload) for one in self._waiting if isinstance(one, Block))
        self._hold(self._deframer.held + waiting)
        if self._host.held_bytes > self._limits.max_held_bytes and self._deframer.in_block:
            self._host.note("memory", self.peer, held=self._host.held_bytes)
            self._give_up(too_much())

    def _hold(self, size: int) -> None:
        self._host.held_bytes += size - self._held
        self._held = size

    def _look_after(self) -> None:
        """Have the timer ring no later than the next deadline; it may ring early and look again."""
        if self._lost:
            return
        due = self._due()
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _due(self) -> float:
        if self._close_by is not None:
            return self._close_by
        if self._work is not None:
            return self._loop.time() + self._limits.idle_s
        if self._deframer.ending:
            return self._heard + self._limits.end_gap_s
        if self._began is not None:
            return self._began + self._limits.frame_deadline_s
        return self._heard + self._limits.idle_s

    def _ring(self) -> None:
        self._timer = None
        if self._due() > self._loop.time():
            self._look_after()
        elif self._close_by is not None:
            self._transport.abort()
        elif self._deframer.ending:
            self._account(0, completed=True)
            self._hand_over(self._deframer.idle())
            self._look_after()
        elif self._began is not None:
            self._late()
        elif not self._host.stopping:
            self._host.note("idle", self.peer)
            self._end()

    def _late(self) -> None:
        self._host.note("deadline", self.peer)
        if self._deframer.in_block:
            self._give_up(too_slow(self._limits.frame_deadline_s))
        else:
            self._hand_over(self._deframer.lost(ended=True))
            self._end()

    def _give_up(self, refusal: Refusal) -> None:
        """Refuse a message that has not ended, where its header says to whom, then close."""
        head = self._deframer.head
        self._deframer = Deframer(self._limits.max_frame_bytes)
        self._ended = True
        self._settle()  # at once, or the next one who sends would be over the bound as well
        if self._work is None:
            self._work = self._loop.create_task(self._refuse(refusal, head))

    async def _refuse(self, refusal: Refusal, head: bytes) -> None:
        try:
            if says_to_whom(head) and (payloads := await self._refused(refusal, head)):
                await self._sent(payloads)
        finally:
            self._work = None
            self._settle()
        self._end()


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
