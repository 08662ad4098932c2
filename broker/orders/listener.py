"""The MLLP listener: who may connect, and how many; what a message means is asked of `accept`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, TypeAlias

import structlog

from broker.orders.connection import Connection
from broker.orders.limits import Accept, Limits, Lose, Peer, Reject, lose, reject
from broker.pacing import Pacing, Seldom
from broker.tls.handshakes import Bounds, Contexts, SecureListener

TLS_HANDSHAKE_S: Final = 10.0
QUIET_S: Final = 1.0
"""A flood of the same event from one address is one line of the log in that time; all count."""

REMEDIES: Final = {
    "noise": "frame each message as 0x0B, message, 0x1C, 0x0D: what stands outside is skipped",
    "bare": "the start byte 0x0B is missing: the sender should write it",
    "broken_off": "a message without its end byte is not taken: its sender has to send it again",
    "oversize": "send less, or raise hl7.limits.max_message",
    "deadline": "the end bytes 0x1C 0x0D did not come: see the sender, or raise message_deadline",
    "torn": "a message was broken off and another begun: its sender has to send it again",
    "idle": "nothing came for hl7.limits.idle: the sender may connect again",
    "memory": "send one message after the other, or raise hl7.limits.held",
    "slowed": "it sends faster than hl7.limits.messages_per_second: its messages wait",
    "too_fast": "send slower, or raise hl7.limits.messages_per_second",
    "write_deadline": "the sender does not read its answers",
    "handshake_failed": "see the reason; the peer may not be the one it should be",
    "connection_refused": "see hl7.limits.connections, connections_per_host and peers",
}
"""What whoever reads the log can do."""

Network: TypeAlias = IPv4Network | IPv6Network
log = structlog.get_logger("orders")


class Listener:
    """Accepts connections and hands each block to `accept`, one at a time per connection.

    `accept` returns the payloads to send in order, [] to send nothing, None to close without an
    answer. `peers` are the networks that may connect, all when empty. `observe` is called with:
    connection_opened, connection_closed, connection_refused, connection_evicted, oversize,
    deadline, idle, noise, bare, broken_off, torn, write_deadline, memory, failure,
    handshake_failed, slowed, too_fast. `alarm` is told the host and the fact of a failed handshake.
    """

    def __init__(
        self,
        accept: Accept,
        limits: Limits | None = None,
        *,
        reject: Reject = reject,
        lose: Lose = lose,
        peers: Iterable[Network] = (),
        observe: Callable[[str], None] = lambda event: None,  # noqa: ARG005 - counts nothing
        alarm: Callable[[str, str], None] = lambda host, fact: None,  # noqa: ARG005 - tells nobody
    ) -> None:
        """Nothing is opened before `start`."""
        self.accept = accept
        self.reject = reject
        self.lose = lose
        self.limits = limits or Limits()
        self.peers = tuple(peers)
        self.observe = observe
        self.alarm = alarm
        self.port = 0
        self.stopping = False
        self.held_bytes = 0
        self.pacing = Pacing()
        self._server: asyncio.Server | None = None
        self._secure: SecureListener | None = None
        self._connections: dict[Connection, None] = {}  # oldest first
        self._empty = asyncio.Event()
        self._said = Seldom(QUIET_S)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: Contexts | None = None,
        reuse_port: bool = False,
    ) -> tuple[str, int]:
        """Listen; return the address that was bound. Raises OSError when it cannot be."""
        if tls is not None:
            return self._start_securely(host, port, tls, reuse_port=reuse_port)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            host,
            port,
            backlog=self.limits.backlog,
            reuse_port=reuse_port or None,
            start_serving=False,
        )
        bound = self._server.sockets[0].getsockname()
        self.port = int(bound[1])
        await self._server.start_serving()
        return bound[0], bound[1]

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, finish the messages in hand, close the rest after `grace_s`."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        if self._secure is not None:
            await self._secure.close()
        for connection in list(self._connections):
            connection.finish()
        await self._until_empty(grace_s)
        late = [connection.work for connection in self._connections]
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*(work for work in late if work), return_exceptions=True)
        await self._until_empty(1.0)
        if self._server is not None:
            await self._server.wait_closed()

    def _start_securely(
        self, host: str, port: int, tls: Contexts, *, reuse_port: bool
    ) -> tuple[str, int]:
        limits = self.limits
        self._secure = SecureListener(
            lambda: Connection(self),
            tls,
            Bounds(TLS_HANDSHAKE_S, limits.connections, limits.connections_per_ip),
            welcome=self._may_shake_hands,
            failed=self._not_secure,
        )
        bound = self._secure.start(host, port, backlog=limits.backlog, reuse_port=reuse_port)
        self.port = bound[1]
        return bound

    def _not_secure(self, host: str, fact: str) -> None:
        self.note("handshake_failed", Peer(host, 0), reason=fact)
        self.alarm(host, fact)

    def _may_shake_hands(self, host: str) -> bool:
        if welcome := self._welcome(Peer(host, 0)):
            return welcome
        self.note("connection_refused", Peer(host, 0), open=self.connections)
        return False

    async def _until_empty(self, patience_s: float) -> None:
        if not self._connections:
            return
        self._empty.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._empty.wait()

    # --- what a connection asks

    def admit(self, connection: Connection) -> bool:
        """Whether one more is allowed; one that never sent a whole message gives way to it."""
        peer = connection.peer
        if self.stopping or not self._welcome(peer) or not self._has_room(peer):
            self.note("connection_refused", peer, open=self.connections)
            return False
        self._connections[connection] = None
        self.observe("connection_opened")
        return True

    def release(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        del self._connections[connection]
        self.observe("connection_closed")
        if not self._connections:
            self._empty.set()

    def note(self, event: str, peer: Peer, **facts: object) -> None:
        """Count what happened, and say so in the log, but not for every one of a flood."""
        self.observe(event)
        now = asyncio.get_running_loop().time()
        if event != "failure" and not self._said.first((event, peer.host), now):
            return
        if event in REMEDIES:
            facts["remedy"] = REMEDIES[event]
        log.warning(event.replace("_", " "), peer=peer.host, **facts)

    def _welcome(self, peer: Peer) -> bool:
        if not self.peers:
            return True
        address = ip_address(peer.host.partition("%")[0])
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self.peers)

    def _has_room(self, peer: Peer) -> bool:
        neighbours = [one for one in self._connections if one.peer.host == peer.host]
        if len(neighbours) >= self.limits.connections_per_ip:
            return self._evict(neighbours)
        if len(self._connections) >= self.limits.connections:
            return self._evict(list(self._connections))
        return True

    def _evict(self, candidates: list[Connection]) -> bool:
        silent = next((one for one in candidates if one.silent), None)
        victim = silent or next((one for one in candidates if not one.proven), None)
        if victim is None:
            return False
        self.observe("connection_evicted")
        victim.abort()
        return True
