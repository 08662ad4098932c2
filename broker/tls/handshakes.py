"""A listener that shakes hands connection by connection, each with a deadline of its own."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

PAUSE_S: Final = 0.1
"""Before another try, as when the system has no descriptor left for one more connection."""

FACTS: Final = {
    "HTTP_REQUEST": "it speaks HTTP, not TLS",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it offers no TLS 1.2 or 1.3",
    "NO_SHARED_CIPHER": "it offers no cipher of ours",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not trust our certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not trust our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired",
}
"""What OpenSSL says of a handshake that failed, in the words of our logs."""

Contexts = Callable[[], ssl.SSLContext]
"""Gives the context for the next connection."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a handshake may take, and how many may go on: of all, and of one address."""

    deadline_s: float = 10.0
    together: int = 200
    of_one_address: int = 50


class SecureListener:
    """Accepts, and gives a door's protocol its connection when the handshake is done.

    `welcome` says whether an address may connect at all, before it costs anything; `failed` is
    told address and fact of a handshake that came to nothing. Whoever has shaken longest makes way.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        contexts: Contexts,
        bounds: Bounds,
        *,
        welcome: Callable[[str], bool] = lambda address: True,  # noqa: ARG005 - everybody is
        failed: Callable[[str, str], None] = lambda address, fact: None,  # noqa: ARG005 - told nobody
    ) -> None:
        """Nothing is opened before `start`."""
        self._make, self._contexts, self._bounds = make, contexts, bounds
        self._welcome, self._failed = welcome, failed
        self._shaking: dict[asyncio.Task[None], str] = {}  # oldest first
        self._listening: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._closing = False

    def start(
        self, host: str, port: int, *, backlog: int = 256, reuse_port: bool = False
    ) -> tuple[str, int]:
        """Listen; return the address that was bound. Raises OSError when it cannot be."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        own = socket.create_server(
            (host, port), family=family, backlog=backlog, reuse_port=reuse_port
        )
        own.setblocking(False)
        self._listening = own
        self._accepting = asyncio.create_task(self._accept(own))
        bound = own.getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Take no more connections, and leave the handshakes that go on."""
        self._closing = True
        tasks = [each for each in (self._accepting, *self._shaking) if each]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, name = await loop.sock_accept(listening)
            except OSError as error:
                await asyncio.sleep(0 if error.errno == errno.ECONNABORTED else PAUSE_S)
                continue
            address = str(name[0])
            if not self._welcome(address):
                peer.close()
                continue
            self._make_room(address)
            task = loop.create_task(self._shake(peer, address))
            self._shaking[task] = address
            task.add_done_callback(self._done)

    def _make_room(self, address: str) -> None:
        of_it = [task for task, at in self._shaking.items() if at == address]
        if len(of_it) >= self._bounds.of_one_address:
            oldest = of_it[0]
        elif len(self._shaking) >= self._bounds.together:
            oldest = next(iter(self._shaking))
        else:
            return
        self._done(oldest)
        oldest.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._shaking.pop(task, None)

    async def _shake(self, peer: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(self._bounds.deadline_s):
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._make,
                    peer,
                    ssl=self._contexts(),
                    ssl_handshake_timeout=2 * self._bounds.deadline_s,  # ours is the first
                )
        except (OSError, EOFError) as problem:  # ssl.SSLError and TimeoutError are OSErrors
            self._failed(address, fact_of(problem))
            with suppress(OSError):
                peer.close()
        except asyncio.CancelledError:
            if not self._closing:
                self._failed(address, "it made way for others")
            with suppress(OSError):
                peer.close()
            raise


def fact_of(problem: BaseException) -> str:
    """Say of a failed handshake what the peer did, in words that hold nothing of its bytes."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {problem.verify_message}"
    if isinstance(problem, TimeoutError):
        return "it did not finish the handshake in time"
    if isinstance(problem, ssl.SSLError) and problem.reason:
        words = problem.reason.lower().replace("_", " ")
        return FACTS.get(problem.reason, f"the handshake failed: {words}")
    return "it hung up during the handshake"
