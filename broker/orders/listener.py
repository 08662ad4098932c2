"""The MLLP listener: sockets, deadlines and limits; what a message means is asked of `accept`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias
from uuid import uuid4

import structlog

from broker.hl7.acknowledgement import answers
from broker.hl7.framing import Block, Deframer, Oversize, frame
from broker.hl7.header import Header, read_header
from broker.hl7.refusal import NotHL7, Refusal

READ_BYTES: Final = 256 * 1024
TLS_HANDSHAKE_S: Final = 10.0

log = structlog.get_logger("orders")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener puts up with. Sizes in bytes, times in seconds."""

    max_frame_bytes: int = 16 * 1024 * 1024
    max_noise_bytes: int = 64 * 1024  # outside blocks, before a connection is no sender of HL7
    frame_deadline_s: float = 60.0  # from the start byte to the end byte
    end_gap_s: float = 0.2  # silence after an FS without CR that makes it the end
    idle_s: float = 48 * 3600.0  # many systems keep one connection for days
    write_deadline_s: float = 10.0
    connections: int = 512
    connections_per_ip: int = 256  # an integration engine is one address with many senders
    backlog: int = 256
    keepalive_s: tuple[int, int, int] = (60, 10, 6)  # idle, interval, probes


Accept: TypeAlias = Callable[[bytes, Peer], Awaitable[list[bytes] | None]]


class Reject(Protocol):
    """Answers what never became a message, with the first bytes of it."""

    async def __call__(self, refusal: Refusal, head: bytes, peer: Peer) -> list[bytes] | None:
        """Return the answers to send, None to close without any."""


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


class Listener:
    """Accepts connections and hands each block to `accept`, one at a time per connection.

    `accept` returns the payloads to send in order, [] to send nothing, None to close without an
    answer. `observe` is called with: connection_opened, connection_closed, connection_refused,
    connection_evicted, oversize, deadline, idle, noise, bare, broken_off, write_deadline, failure.
    """

    def __init__(
        self,
        accept: Accept,
        limits: Limits | None = None,
        *,
        reject: Reject = reject,
        observe: Callable[[str], None] = lambda event: None,  # noqa: ARG005 - counts nothing
    ) -> None:
        """Nothing is opened before `start`."""
        self.accept = accept
        self.reject = reject
        self.limits = limits or Limits()
        self.observe = observe
        self.stopping = False
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}  # oldest first

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> tuple[str, int]:
        """Listen; return the address that was bound. Raises OSError when it cannot be."""
        self._server = await asyncio.start_server(
            self._connected,
            host,
            port,
            limit=READ_BYTES,
            backlog=self.limits.backlog,
            reuse_port=reuse_port or None,
            ssl=tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_S if tls else None,
        )
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, finish the messages in hand, close the rest after `grace_s`."""
        self.stopping = True
        if self._server is None:
            return
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.finish()
        tasks = [connection.task for connection in connections]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        if self.stopping or not self._has_room(connection.peer):
            self.observe("connection_refused")
            log.warning("connection refused", peer=connection.peer.host, open=self.connections)
            writer.transport.abort()
            return
        self._connections[connection] = None
        self.observe("connection_opened")
        try:
            await connection.serve()
        finally:
            del self._connections[connection]
            self.observe("connection_closed")
            await connection.close()

    def _has_room(self, peer: Peer) -> bool:
        """Whether one more is allowed; one that never said anything gives way to a newcomer."""
        neighbours = [one for one in self._connections if one.peer.host == peer.host]
        if len(neighbours) >= self.limits.connections_per_ip:
            return self._evict(neighbours)
        if len(self._connections) >= self.limits.connections:
            return self._evict(list(self._connections))
        return True

    def _evict(self, candidates: list[_Connection]) -> bool:
        silent = next((one for one in candidates if one.silent), None)
        if silent is None:
            return False
        silent.evict()
        self.observe("connection_evicted")
        return True


class _Connection:
    """One sender: reads, hands over and answers strictly in order."""

    def __init__(
        self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name = writer.get_extra_info("peername") or ("", 0)
        self.peer = Peer(str(name[0]), int(name[1]))
        self.silent = True  # has never sent a byte
        self.task = _current_task()
        self._listener = listener
        self._limits = listener.limits
        self._reader = reader
        self._writer = writer
        self._deframer = Deframer(listener.limits.max_frame_bytes)
        self._noise = 0
        self._began: float | None = None  # when the block in hand, or the noise, began
        self._wait: asyncio.Timeout | None = None
        self._set_socket()

    def _set_socket(self) -> None:
        self._writer.transport.set_write_buffer_limits(high=0)  # drain means: with the kernel
        own = self._writer.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle, interval, probes = self._limits.keepalive_s
        for option, value in (
            ("TCP_KEEPIDLE", idle),
            ("TCP_KEEPINTVL", interval),
            ("TCP_KEEPCNT", probes),
        ):
            if hasattr(socket, option):  # not everywhere under these names
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    async def serve(self) -> None:
        """Speak until either side is done."""
        try:
            while await self._turn():
                pass
        except (ConnectionError, ssl.SSLError) as error:
            log.info("connection lost", peer=self.peer.host, error=type(error).__name__)

    def finish(self) -> None:
        """End after the message in hand; at once when there is none."""
        if self._wait is not None and not self._deframer.in_block:
            self._wait.reschedule(asyncio.get_running_loop().time())

    def evict(self) -> None:
        """Break the connection off; its task ends by itself."""
        self.silent = False  # leaves the choice, it is on its way out
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close politely, but not for longer than a write may take."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._limits.write_deadline_s):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    async def _turn(self) -> bool:
        """Read once and deal with what that completed; False ends the connection."""
        if self._listener.stopping and not self._deframer.in_block:
            return False
        dropped = self._deframer.dropped_bytes
        found = await self._read()
        if found is None:
            return False
        for block in found:
            if not await self._answer(block):
                return False
        return self._account(self._deframer.dropped_bytes - dropped, bool(found))

    async def _read(self) -> list[Block | Oversize] | None:
        """Return what the next bytes, or their absence, completed; None when nothing more comes."""
        now = asyncio.get_running_loop().time()
        until, reason = self._deadline(now)
        try:
            async with asyncio.timeout_at(until) as self._wait:
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            return self._silence(reason)
        finally:
            self._wait = None
        if data:
            self.silent = False
            return self._deframer.receive(data)
        broken_off = self._deframer.in_block and not self._deframer.ending
        last = self._deframer.eof()
        if broken_off:
            self._note("broken_off")
        return last or None

    def _deadline(self, now: float) -> tuple[float, str]:
        if self._began is None:
            return now + self._limits.idle_s, "idle"
        until = self._began + self._limits.frame_deadline_s
        if self._deframer.ending:
            return min(until, now + self._limits.end_gap_s), "gap"
        return until, "deadline"

    def _silence(self, reason: str) -> list[Block | Oversize] | None:
        if reason == "gap":
            return self._deframer.idle()
        if not self._listener.stopping:
            self._note(reason)
        return None

    def _account(self, dropped: int, completed: bool) -> bool:
        """Keep the clock of the block or noise in hand; False when there was too much noise."""
        if completed:
            self._noise = 0
            self._began = None
        if dropped:
            if not self._noise:
                self._note("noise", dropped=dropped)
            self._noise += dropped
        if self._began is None and (self._deframer.in_block or self._noise):
            self._began = asyncio.get_running_loop().time()
        elif not self._deframer.in_block and not self._noise:
            self._began = None
        return self._noise <= self._limits.max_noise_bytes

    async def _answer(self, block: Block | Oversize) -> bool:
        payloads = await self._judged(block)
        if payloads is None:
            return False
        if not payloads:
            return True
        self._writer.write(b"".join(map(frame, payloads)))  # in one segment: some read only once
        try:
            async with asyncio.timeout(self._limits.write_deadline_s):
                await self._writer.drain()
        except TimeoutError:
            self._note("write_deadline")
            self._writer.transport.abort()
            return False
        return True

    async def _judged(self, block: Block | Oversize) -> list[bytes] | None:
        if isinstance(block, Oversize):
            self._note("oversize", size=block.size)
            return await self._listener.reject(
                _too_long(self._limits.max_frame_bytes), block.head, self.peer
            )
        if block.bare:
            self._note("bare")
        try:
            return await self._listener.accept(block.payload, self.peer)
        except Exception as error:  # the door's outermost catch: a bug of ours
            # neither the message of an unknown error nor its values may reach a log
            self._note("failure", error=type(error).__name__, at=_place(error))
            return await self._listener.reject(_our_fault(), block.payload, self.peer)

    def _note(self, event: str, **facts: object) -> None:
        self._listener.observe(event)
        log.warning(event, peer=self.peer.host, **facts)


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a connection lives in a task")
    return task


def _too_long(limit: int) -> Refusal:
    return Refusal(
        f"message is longer than {limit} bytes",
        code="207",
        acknowledgement="AR",
        remedy="send less, or raise the listener's size limit",
    )


def _our_fault() -> Refusal:
    return Refusal("the broker failed on this message", code="207", remedy="see the broker's log")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
