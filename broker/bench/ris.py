"""A RIS that answers at once, and remembers which status message came when."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event as Flag
from threading import Thread
from typing import NamedTuple

END = b"\x1c\r"
PIECE = 65_536
LOOK_S = 0.05
ACKNOWLEDGED = b"\x0bMSH|^~\\&|BENCHRIS|NORTH|BROKER||%b||ACK|1|P|2.3.1\rMSA|AA|%b\r\x1c\r"


class Heard(NamedTuple):
    """A message and when it came (monotonic seconds)."""

    at: float
    message: bytes

    @property
    def control_id(self) -> bytes:
        """MSH-10."""
        return self.message.split(b"|", 10)[9]

    @property
    def accession(self) -> bytes:
        """OBR-18."""
        return self._field(b"OBR", 18)

    @property
    def state(self) -> bytes:
        """ORC-5."""
        return self._field(b"ORC", 5)

    def _field(self, segment: bytes, number: int) -> bytes:
        line = self.message.split(b"\r" + segment + b"|", 1)[1].split(b"\r", 1)[0]
        return line.split(b"|", number)[number - 1]


class Ris:
    """Listens from a thread, always on the same port; while it is `mute` it answers nothing."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.mute = False
        self.port = 0
        self._thread: Thread | None = None
        self._stop = Flag()

    def open(self) -> None:
        """Listen."""
        self._stop.clear()
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._thread = Thread(target=self._serve, args=(listener,), name="bench-ris", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more, and close every connection."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        self._thread = None

    def _serve(self, listener: socket.socket) -> None:
        held: dict[socket.socket, bytes] = {}
        with selectors.DefaultSelector() as selector, listener:
            selector.register(listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(LOOK_S):
                    peer = key.fileobj
                    if peer is listener:
                        peer, _ = listener.accept()
                        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        selector.register(peer, selectors.EVENT_READ)
                        held[peer] = b""
                    elif isinstance(peer, socket.socket) and (piece := _received(peer)):
                        held[peer] = self._taken(peer, held[peer] + piece)
                    elif isinstance(peer, socket.socket):
                        selector.unregister(peer)
                        peer.close()
                        del held[peer]
            for peer in held:
                peer.close()

    def _taken(self, peer: socket.socket, said: bytes) -> bytes:
        """Take what came over a connection; gives what is not whole yet."""
        *whole, rest = said.split(END)
        for block in whole:
            heard = Heard(time.monotonic(), block.lstrip(b"\x0b"))
            self.heard.append(heard)
            if not self.mute:
                with suppress(OSError):
                    peer.sendall(ACKNOWLEDGED % (b"20260316", heard.control_id))
        return rest


@contextmanager
def listening() -> Iterator[Ris]:
    """A RIS that is open, and closed at the end."""
    ris = Ris()
    ris.open()
    try:
        yield ris
    finally:
        ris.close()


def _received(peer: socket.socket) -> bytes:
    """What came; empty at the end of a connection."""
    with suppress(OSError):
        return peer.recv(PIECE)
    return b""
