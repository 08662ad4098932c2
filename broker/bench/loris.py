"""A good sender among many that never finish a message: what is left of its rate."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self

from broker.bench.entries import entries, order_frame
from broker.bench.mllp import send_orders
from broker.bench.report import OURS, Row, row
from broker.bench.timings import MeasurementFailed

HEAD = b"\x0bMSH|^~\\&|LORIS|NORTH|"
DRIP_S = 0.5
PER_ADDRESS = 100
WARM_UP = 50
NEEDED = 0.5
"""What must be left of the good sender's rate."""


def said(slow: int) -> Mapping[str, str]:
    """Settings that leave room for so many slow connections beside the good one."""
    return {
        "BROKER_HL7__LIMITS__CONNECTIONS": f"{slow + 100}",
        "BROKER_HL7__LIMITS__CONNECTIONS_PER_HOST": f"{PER_ADDRESS + 50}",
    }


def measure(
    address: tuple[str, int], *, slow: int, messages: int, seconds: float, now: datetime
) -> Iterator[Row]:
    """Yield the good sender's row alone, then among `slow` connections; nothing else differs."""
    count = WARM_UP + 2 * messages
    sent = [order_frame(entry, sent=now) for entry in entries(1, count, now.date())]
    send_orders(address, sent[:WARM_UP], connections=1, seconds=seconds)
    first, second = sent[WARM_UP : WARM_UP + messages], sent[WARM_UP + messages :]
    yield row("alone", OURS, send_orders(address, first, connections=1, seconds=seconds))
    with Slow(address, slow) as crowd:
        timings = send_orders(address, second, connections=1, seconds=seconds)
        if (held := crowd.held()) < slow:
            raise MeasurementFailed(f"only {held} of {slow} slow connections were kept")
    yield row(f"beside {slow} slow ones", OURS, timings)


class Slow:
    """Connections that are each in the middle of a message, a byte of it every half second.

    They come from 127.0.0.2 and on, since a listener bounds the connections of one address.
    """

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._peers = [_connected(address, number) for number in range(count)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for peer in self._peers:
            peer.close()

    def held(self) -> int:
        """How many the listener has not closed."""
        return sum(map(_is_open, self._peers))

    def _drip(self) -> None:
        while not self._stop.wait(DRIP_S):
            for peer in self._peers:
                with suppress(OSError):
                    peer.send(b"A")


def _connected(address: tuple[str, int], number: int) -> socket.socket:
    own = (f"127.0.0.{2 + number // PER_ADDRESS}", 0)
    peer = socket.create_connection(address, 10, source_address=own)
    peer.sendall(HEAD)
    peer.setblocking(False)
    return peer


def _is_open(peer: socket.socket) -> bool:
    try:
        return peer.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
