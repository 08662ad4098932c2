"""MLLP release 1 blocks in and out of a byte stream, tolerant of what real senders do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

VT: Final = 0x0B  # start of block
FS: Final = 0x1C  # end of block, properly followed by CR
CR: Final = 0x0D
HEAD_BYTES: Final = 4096  # what is kept of a block that is too long
MOST_LOST: Final = 20  # of what comes in one read

_START: Final = bytes([VT])
_END: Final = bytes([FS])
_ENDS_AFTER_FS: Final = frozenset({CR, 0x0A, VT})
_FILLER: Final = re.compile(rb"[\r\n\x00\t \x1c\xef\xbb\xbf]*")  # seen between blocks
_BARE_HEADER: Final = re.compile(rb"MSH[^\w\s\x00-\x1f\x7f-\xff]")
_HEADER_WITHIN: Final = re.compile(rb"MSH[^\w\s\x00-\x1f\x7f-\xff]")


@dataclass(frozen=True, slots=True)
class Block:
    """The bytes between start and end; `bare` when the start byte was missing."""

    payload: bytes
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Oversize:
    """A block longer than allowed: its first 4 KiB and its whole length in bytes."""

    head: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What holds a message and is none: its first 4 KiB; `torn` by the start of another block."""

    head: bytes
    torn: bool


class Deframer:
    """Bytes in, blocks out; never blocks, never raises, holds at most one block of `max_bytes`.

    FS ends a block when CR, LF, VT, the end of the stream or an idle gap follows; else it is data.
    Between blocks anything is skipped, except an MSH with which a block begins that lacks its VT.
    Where an MSH was in what is skipped, `lost` has it till it is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds one payload."""
        self.max_bytes = max_bytes
        self.dropped_bytes = 0
        self._block = bytearray()
        self._size = 0  # of the block so far, also of the part that is not kept
        self._inside = False
        self._bare = False
        self._ending = False  # FS was the last byte seen
        self._fresh = True  # nothing but filler since the last block
        self._carry = b""  # a beginning of MSH that may yet be a bare block
        self._skipped = bytearray()  # the first bytes outside blocks since the last one
        self._lost: list[Lost] = []

    @property
    def in_block(self) -> bool:
        """Whether a block has begun and not ended."""
        return self._inside

    @property
    def ending(self) -> bool:
        """Whether an FS waits to be confirmed: call `idle()` after about 200 ms of silence."""
        return self._ending

    @property
    def head(self) -> bytes:
        """The first bytes of the block that has not ended."""
        return bytes(self._block[:HEAD_BYTES])

    @property
    def unframed(self) -> int:
        """How many bytes have come that are of no block, 0 while one with its VT is read."""
        if self._inside and not self._bare:
            return 0
        return self.dropped_bytes + len(self._carry) + (self._size if self._bare else 0)

    @property
    def held(self) -> int:
        """How many bytes of the block that has not ended are in memory."""
        return len(self._block)

    def receive(self, data: bytes) -> list[Block | Oversize]:
        """Take the next bytes of the stream; return the blocks that they complete, in order."""
        if not self._inside and not self._carry and self._is_one_block(data):
            self._fresh = True
            return [Block(data[1:-2])]
        found: list[Block | Oversize] = []
        if self._carry:
            data, self._carry = self._carry + data, b""
        at, size = 0, len(data)
        while at < size:
            at = self._read_inside(data, at, found) if self._inside else self._skip(data, at)
        return found

    def lost(self, *, ended: bool = False) -> list[Lost]:
        """Take what was skipped and held a message; where nothing more comes, of the rest too."""
        if ended:
            self._outside_ends()
            if self._inside:
                self._lose(bytes(self._block[:HEAD_BYTES]), torn=False)
        lost, self._lost = self._lost, []
        return lost

    def idle(self) -> list[Block | Oversize]:
        """Say that nothing came for a while: an FS at the end was the end."""
        found: list[Block | Oversize] = []
        if self._ending:
            self._finish(found)
        return found

    def eof(self) -> list[Block | Oversize]:
        """Say that the stream has ended: a block without any FS is broken off and dropped."""
        found = self.idle()
        if self._inside:
            self.dropped_bytes += self._size
            self._clear()
        self.dropped_bytes += len(self._carry)
        self._carry = b""
        return found

    def _is_one_block(self, data: bytes) -> bool:
        """Whether it is a proper block and nothing else, as nearly all reads are."""
        return (
            data[:1] == _START
            and data[-2:] == b"\x1c\r"
            and len(data) - 3 <= self.max_bytes
            and data.find(_END) == len(data) - 2
            and data.find(_START, 1) < 0
        )

    def _skip(self, data: bytes, at: int) -> int:
        """Skip to the next block; return where to go on."""
        if self._fresh:
            at = _filler_end(data, at)
            rest = data[at : at + 4]
            if len(rest) < 4 and rest and b"MSH".startswith(rest[:3]):
                self._carry = rest
                return len(data)
            if _BARE_HEADER.match(rest):
                self._inside = self._bare = True
                self._outside_ends()
                return at
        start = data.find(_START, at)
        end = len(data) if start < 0 else start
        if end > at:
            self._fresh = False
            self.dropped_bytes += end - at
            self._skipped += data[at : min(end, at + HEAD_BYTES - len(self._skipped))]
        if start < 0:
            return end
        self._inside = True
        self._outside_ends()
        return start + 1

    def _read_inside(self, data: bytes, at: int, found: list[Block | Oversize]) -> int:
        """Read up to the end of the block or of the data; return where to go on."""
        if self._ending:
            if data[at] in _ENDS_AFTER_FS:
                self._finish(found)
                return at  # a CR is filler now, a VT begins the next block
            self._ending = False
            self._keep(_END)
        end = data.find(_END, at)
        if end < 0:
            self._keep(memoryview(data)[at:])
            return len(data)
        self._keep(memoryview(data)[at:end])
        self._ending = True
        return end + 1

    def _keep(self, part: bytes | memoryview) -> None:
        self._size += len(part)
        # bytearray grows in proportion, so that many small parts stay linear
        self._block += part[: self.max_bytes - len(self._block)]

    def _finish(self, found: list[Block | Oversize]) -> None:
        if self._size > self.max_bytes:
            found.append(Oversize(bytes(self._block[:HEAD_BYTES]), self._size))
        else:
            found.append(Block(self._last_start(), self._bare))
        self._clear()

    def _last_start(self) -> bytes:
        # a sender that broke off and began again leaves two starts before one end; half a message
        # is none
        torn = self._block.rfind(b"\x0bMSH")
        self.dropped_bytes += torn + 1
        if torn > 0:
            self._lose(bytes(self._block[: min(torn, HEAD_BYTES)]), torn=True)
        return bytes(self._block[torn + 1 :])

    def _outside_ends(self) -> None:
        if self._skipped:
            self._lose(bytes(self._skipped), torn=False)
            self._skipped.clear()

    def _lose(self, head: bytes, *, torn: bool) -> None:
        at = _HEADER_WITHIN.search(head)
        if at and len(self._lost) < MOST_LOST:
            self._lost.append(Lost(head[at.start() :], torn))

    def _clear(self) -> None:
        self._block = bytearray()
        self._size = 0
        self._inside = self._bare = self._ending = False
        self._fresh = True


def _filler_end(data: bytes, at: int) -> int:
    match = _FILLER.match(data, at)
    return match.end() if match else at


def frame(payload: bytes) -> bytes:
    """Return the payload as one block: VT, payload, FS, CR."""
    return b"%c%b%c%c" % (VT, payload, FS, CR)
