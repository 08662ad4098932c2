"""What goes out to one peer: collected within a turn of the loop, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Sending:
    """Writes to a peer that may read slowly or not at all; `gave_up` is called after `write_s`.

    Many responses go out in one write of about `block` bytes; a peer that reads slower than we
    answer makes the answering wait, never our memory grow.
    """

    def __init__(self, block: int, write_s: float, gave_up: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._block = block
        self._write_s = write_s
        self._gave_up = gave_up
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._flush_due = False
        self._writable = asyncio.Event()
        self._writable.set()

    def opened(self, transport: asyncio.Transport) -> None:
        """The peer is here."""
        transport.set_write_buffer_limits(high=2 * self._block)
        self._transport = transport

    def lost(self) -> None:
        """The peer is gone: nobody waits for it any more."""
        self._outgoing.clear()
        self._writable.set()

    def pause(self) -> None:
        """The transport holds as much as it should."""
        self._writable.clear()

    def resume(self) -> None:
        """The transport has room again."""
        self._writable.set()

    def write(self, data: bytes) -> None:
        """Collect what one turn of the loop produces."""
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand what is collected to the transport."""
        self._flush_due = False
        if self._outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        self._outgoing_bytes = 0

    async def breathe(self) -> None:
        """Between blocks of answers: wait for a slow peer, let a C-CANCEL or an abort in."""
        if self._outgoing_bytes < self._block and self._writable.is_set():
            return
        self.flush()
        await asyncio.sleep(0)
        await self.drain()

    async def drain(self) -> None:
        """Wait until the peer has read enough, at most `write_s`."""
        if self._writable.is_set():
            return
        try:
            async with asyncio.timeout(self._write_s):
                await self._writable.wait()
        except TimeoutError:
            self._gave_up()
