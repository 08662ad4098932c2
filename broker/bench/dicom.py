"""The C-FIND load client: `python -m broker.bench.dicom SECONDS HOST PORT HOW QUERIES < FILE`.

The file is the identifier. PDUs are written and read by hand (PS3.8 §9.3), because pynetdicom's
requestor would be the slower half.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from enum import StrEnum
from itertools import count, islice

from broker.bench.entries import ANSWERS, WORKLIST
from broker.bench.timings import Timings, print_timings, run_client

CALLED, CALLING = "BROKER", "BENCH"
IMPLICIT = "1.2.840.10008.1.2"
APPLICATION = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION = "1.2.276.0.76.999.4"
CONTEXT = 1
MAX_PDU = 65_536
PATIENCE_S = 30.0
ASSOCIATE_AC, P_DATA, RELEASE_RP = 2, 4, 6
COMMAND, LAST = 1, 2  # bits of a value's control header
STATUS = struct.pack("<HHI", 0, 0x0900, 2)
PENDING = (0xFF00, 0xFF01)


class How(StrEnum):
    """One association for all queries, or one for each."""

    KEPT = "kept"
    POLLS = "polls"


def ask(
    address: tuple[str, int], how: How, identifier: bytes, *, queries: int, seconds: float
) -> Timings:
    """Ask the same question `queries` times, for at most `seconds`, from a process of its own."""
    host, port = address
    return run_client(
        "broker.bench.dicom", host, port, how, queries, given=identifier, seconds=seconds
    )


class Association:
    """An association with one context: Modality Worklist in Implicit VR Little Endian."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Connect and associate. Raises OSError when the server does not want to."""
        self._peer = socket.create_connection(address, PATIENCE_S)
        self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = bytearray()
        self._message_ids = count(1)
        self._peer.sendall(ASSOCIATE_RQ)
        self._expect(ASSOCIATE_AC)

    def find(self, identifier: bytes) -> int:
        """Ask and read to the end; returns how many answers came, -1 if it ended in failure."""
        self._peer.sendall(find_request(next(self._message_ids) & 0xFFFF, identifier))
        answers = 0
        while (status := self._next_status()) in PENDING:
            answers += 1
        return -1 if status else answers

    def release(self) -> None:
        """Release and wait for the reply."""
        self._peer.sendall(_pdu(5, bytes(4)))
        self._expect(RELEASE_RP)

    def close(self) -> None:
        """Close the socket."""
        self._peer.close()

    def _next_status(self) -> int:
        """The status of the next response; its data set, which comes after it, is not looked at."""
        while True:
            body = self._expect(P_DATA)
            offset = 0
            while offset < len(body):
                length, _, control = struct.unpack_from(">IBB", body, offset)
                value = body[offset + 6 : offset + 4 + length]
                offset += 4 + length
                if control & COMMAND:
                    # Neither server puts two responses into one PDU.
                    return int.from_bytes(value.partition(STATUS)[2][:2], "little")

    def _expect(self, kind: int) -> bytes:
        header = self._take(6)
        body = self._take(int.from_bytes(header[2:], "big"))
        if header[0] != kind:
            raise ConnectionError(f"the server sent a PDU of type {header[0]} instead of {kind}")
        return body

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            piece = self._peer.recv(MAX_PDU)
            if not piece:
                raise ConnectionError("the server closed the connection instead of answering")
            self._held += piece
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _associate_request() -> bytes:
    context = _item(0x30, WORKLIST.encode()) + _item(0x40, IMPLICIT.encode())
    user = _item(0x51, struct.pack(">I", MAX_PDU)) + _item(0x52, IMPLEMENTATION.encode())
    titles = CALLED.ljust(16).encode() + CALLING.ljust(16).encode()
    return _pdu(
        1,
        struct.pack(">HH", 1, 0)
        + titles
        + bytes(32)
        + _item(0x10, APPLICATION.encode())
        + _item(0x20, bytes((CONTEXT, 0, 0, 0)) + context)
        + _item(0x50, user),
    )


ASSOCIATE_RQ = _associate_request()


def find_request(message_id: int, identifier: bytes) -> bytes:
    """A C-FIND-RQ (PS3.7 §9.3.2.1) with its identifier, to be sent in one write."""
    uid = WORKLIST.encode() + b"\0" * (len(WORKLIST) % 2)
    # Command Field, Message ID, Priority, Command Data Set Type
    numbers = {0x0100: 0x0020, 0x0110: message_id, 0x0700: 0, 0x0800: 1}
    elements = _element(0x0002, uid)
    for tag, number in numbers.items():
        elements += _element(tag, struct.pack("<H", number))
    command = _element(0x0000, struct.pack("<I", len(elements))) + elements
    return _value(command, COMMAND | LAST) + _value(identifier, LAST)


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value


def _value(data: bytes, control: int) -> bytes:
    return _pdu(P_DATA, struct.pack(">IBB", len(data) + 2, CONTEXT, control) + data)


def kept(address: tuple[str, int], identifier: bytes) -> Iterator[tuple[float, int]]:
    """Ask on one association, for ever; yields (seconds, answers) of each query."""
    association = Association(address)
    with closing(association):
        while True:
            began = time.perf_counter()
            answers = association.find(identifier)
            yield time.perf_counter() - began, answers


def polls(address: tuple[str, int], identifier: bytes) -> Iterator[tuple[float, int]]:
    """Connect, associate, ask, release, for ever; yields (seconds, answers) of each poll."""
    while True:
        began = time.perf_counter()
        with closing(Association(address)) as association:
            answers = association.find(identifier)
            association.release()
        yield time.perf_counter() - began, answers


def drive(asked: Iterator[tuple[float, int]], queries: int, seconds: float) -> Timings:
    """Take `queries` answers, fewer when time is over; a wrong number of entries is a fault."""
    latencies, faults, began = [], 0, time.perf_counter()
    for latency, answers in islice(asked, queries):
        latencies.append(latency)
        faults += answers != ANSWERS
        if time.perf_counter() - began > seconds:
            break
    return Timings(latencies, time.perf_counter() - began, faults)


def main() -> None:
    """Be the client process."""
    seconds, host, port, how, queries = sys.argv[1:]
    ways = {How.KEPT: kept, How.POLLS: polls}
    asked = ways[How(how)]((host, int(port)), sys.stdin.buffer.read())
    print_timings(drive(asked, int(queries), float(seconds)))


if __name__ == "__main__":
    main()
