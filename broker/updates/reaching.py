"""How a destination is reached: a TCP connection that notices when its peer is gone, and TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from broker.settings import Destination, Verdict
from broker.store.outbox import Event
from broker.tls.credentials import Credentials
from broker.tls.handshakes import fact_of

READ_BYTES = 2**16
SLICE_S = 0.2
"""How long we wait before looking around; also how long after a lone FS a block has ended."""
WRITE_DEADLINE_S = 5.0
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))


@dataclass(frozen=True)
class Outcome:
    """The verdict with its cause; `words` are the peer's own and may quote the message: no log.

    `doubt` says that the peer may have taken the message all the same.
    """

    verdict: Verdict
    cause: str
    words: str = ""
    doubt: bool = False


class Unreachable(Exception):
    """Nobody answers where the destination should be; nothing was sent."""


class Way(Protocol):
    """The connection to a destination, opened when it is needed and kept; blocking."""

    credentials: Credentials | None

    def connect(self) -> None:
        """Make sure that there is a connection that the peer has not closed. Raises Unreachable."""

    def is_open(self) -> bool:
        """Tell whether the connection is usable."""

    def send(self, event: Event, meanwhile: Callable[[], None], *, doubt: bool) -> Outcome:
        """Send one message and judge its answer; `doubt` as of the try before.

        Calls `meanwhile` several times a second while waiting; what it raises ends the attempt.
        """

    def close(self) -> None:
        """Close the connection."""


def unasked(connection: socket.socket) -> bytes | None:
    """Read what a peer has said meanwhile, b"" where it has closed; None where it said nothing."""
    try:
        connection.setblocking(False)
        return connection.recv(READ_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""


def credentials_of(to: Destination, key: str) -> Credentials | None:
    """Give the certificates for a destination under `key` of the settings, None without TLS."""
    return Credentials(f"{key}.{to.name}", to.tls) if to.tls else None


def connection_to(to: Destination, credentials: Credentials | None) -> socket.socket:
    """Open a connection, within the time for connecting. Raises Unreachable."""
    try:
        connection = socket.create_connection(to.to, to.connect_timeout_s)
    except OSError as error:
        raise Unreachable(error.strerror or str(error) or type(error).__name__) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if credentials is None or to.tls is None:
        return connection
    name = to.tls.server_name or to.to.host
    try:
        return credentials.context().wrap_socket(connection, server_hostname=name)
    except OSError as error:  # ssl.SSLError and TimeoutError are OSErrors
        connection.close()
        raise Unreachable(f"TLS: {fact_of(error)}") from error
