"""Where audit messages go: a file that begins anew in time, or a syslog collector (RFC 5424)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import ssl
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from broker.settings import Address
from broker.settings.tls import ClientTls
from broker.tls.credentials import Credentials

PRIORITY: Final = 85
"""Facility 10 (security), severity 5 (notice), as PS3.15 A.6 has it."""
MESSAGE_ID: Final = "DICOM+RFC3881"
LARGEST_DATAGRAM: Final = 65_000
PATIENCE_S: Final = 5.0
BOM: Final = b"\xef\xbb\xbf"


class TooLong(Exception):
    """A message that its transport cannot hold; no use in trying again."""


class Place(Protocol):
    """Where messages go."""

    def write(self, message: bytes, at: datetime) -> None:
        """Deliver one message. Raises OSError when it can be tried again, TooLong when not."""

    def close(self) -> None:
        """Give back what is open."""


class File:
    """A file of messages, one a line, that processes share; older ones are PATH.1, PATH.2 …"""

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        """Nothing is opened before there is something to write."""
        self._path, self._max_bytes, self._files = path, max_bytes, files
        self._descriptor = -1

    def write(self, message: bytes, at: datetime) -> None:  # noqa: ARG002 - Place
        """Append one line, in one write, so that no other process comes between."""
        if self._descriptor < 0 or self._moved():
            self._open()
        if os.fstat(self._descriptor).st_size + len(message) >= self._max_bytes:
            self._begin_anew()
        line = message + b"\n"
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> None:
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        if os.geteuid() == 0:  # a command of root must not take the file from the doors
            folder = self._path.parent.stat()
            os.fchown(self._descriptor, folder.st_uid, folder.st_gid)

    def _moved(self) -> bool:
        """Whether another process, or logrotate, has taken the file away."""
        try:
            return self._path.stat().st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return True

    def _begin_anew(self) -> None:
        """Move the files on by one, the oldest out, unless another process has just done so."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if not self._moved():
                for number in range(self._files - 1, 0, -1):
                    older = self._named(number - 1)
                    with suppress(FileNotFoundError):
                        older.replace(self._named(number))
                if self._files == 1:
                    self._path.unlink()
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._open()

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class Datagrams:
    """A collector that hears UDP (RFC 5426); nobody says whether a message came."""

    def __init__(self, to: Address, process: str) -> None:
        """Nothing is opened before there is something to send."""
        self._to, self._process = to, process
        self._socket: socket.socket | None = None

    def write(self, message: bytes, at: datetime) -> None:
        """Send one datagram."""
        data = framed(message, at, self._process)
        if len(data) > LARGEST_DATAGRAM:
            raise TooLong
        if self._socket is None:
            family, kind, _, _, place = socket.getaddrinfo(*self._to, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind)
            self._socket.connect(place)
        try:
            self._socket.send(data)
        except OSError:
            self.close()  # its name may mean another address by now
            raise

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


class Stream:
    """A collector that hears TLS (RFC 5425); the connection is kept."""

    def __init__(self, to: Address, tls: ClientTls, process: str) -> None:
        """Nothing is opened before there is something to send. Raises tls Unusable."""
        self._to, self._name, self._process = to, tls.server_name or to.host, process
        self._credentials = Credentials("audit", tls)
        self._socket: socket.socket | None = None

    def write(self, message: bytes, at: datetime) -> None:
        """Send one frame: its length, a blank, and the message."""
        data = framed(message, at, self._process)
        connection = self._socket
        if connection is None or _hung_up(connection):
            connection = self._connected()
        try:
            connection.sendall(b"%d %s" % (len(data), data))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None

    def _connected(self) -> socket.socket:
        self.close()
        plain = socket.create_connection(self._to, PATIENCE_S)
        try:
            wrap = self._credentials.context().wrap_socket
            secured = self._socket = wrap(plain, server_hostname=self._name)
        except OSError:
            plain.close()
            raise
        return secured


def _hung_up(connection: socket.socket) -> bool:
    """A collector says nothing, so whatever can be read is its end."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(PATIENCE_S)


def framed(message: bytes, at: datetime, process: str) -> bytes:
    """A message behind the header of RFC 5424."""
    moment = at.isoformat(timespec="milliseconds")
    header = f"<{PRIORITY}>1 {moment} {socket.gethostname()} broker {process} {MESSAGE_ID} - "
    return header.encode("ascii", "replace") + BOM + message
