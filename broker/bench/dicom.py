"""The C-FIND load client: `python -m broker.bench.dicom SECONDS HOST PORT ASKING < FILE`.

The file is the identifier, ASKING an `Asking` as JSON. PDUs are written and read by hand (PS3.8
§9.3), because pynetdicom's requestor would be the slower half.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from itertools import count, islice, repeat

from broker.bench.timings import Timings, print_timings, run_client

WORKLIST = "1.2.840.10008.5.1.4.31"
ANSWERS = 3
"""Of the short query."""
CALLED, CALLING = "BROKER", "BENCH"
IMPLICIT = "1.2.840.10008.1.2"
APPLICATION = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION = "1.2.276.0.76.999.4"
CONTEXT = 1
MAX_PDU = 65_536
READ = 1 << 20
PATIENCE_S = 30.0
ASSOCIATE_AC, P_DATA, RELEASE_RP = 2, 4, 6
COMMAND, LAST = 1, 2  # bits of a value's control header
HEADER = struct.Struct(">BxI5xB")
"""Of a PDU its type and length, and the control header of the value that is first in it."""
STATUS = struct.pack("<HHI", 0, 0x0900, 2)
LEAF = struct.Struct("<HHI")
STATUS_VALUE = struct.Struct("<H")
PENDING = (0xFF00, 0xFF01)
CANCELLED = 0xFE00
FIRST_DAY = b"19900101"
"""The first day of a range in an identifier that shall differ from query to query."""
LONG_AGO = date(1890, 1, 1).toordinal()


class How(StrEnum):
    """One association for all queries, or one for each; and what of a query is timed."""

    KEPT = "kept"
    POLLS = "polls"
    FIRST = "first"
    """To the first answer, on one association."""
    CANCEL = "cancel"
    """From a C-CANCEL, sent at the first answer, to the final status."""


@dataclass(frozen=True)
class Asking:
    """What a client does: `queries` in all over so many connections, each with so many answers.

    `different`: every identifier is another one, by the first day of its range.
    """

    how: How
    queries: int
    answers: int = ANSWERS
    connections: int = 1
    different: bool = False


def ask(address: tuple[str, int], asking: Asking, identifier: bytes, *, seconds: float) -> Timings:
    """Ask for at most `seconds`, from a process of its own."""
    host, port = address
    words = json.dumps(asdict(asking))
    return run_client("broker.bench.dicom", host, port, words, given=identifier, seconds=seconds)


class Association:
    """An association with one context, by default of the worklist, in Implicit VR Little Endian."""

    def __init__(
        self,
        address: tuple[str, int],
        own: str = "",
        abstract_syntax: str = WORKLIST,
        calling: str = CALLING,
    ) -> None:
        """Connect, from the address `own`, and associate. Raises OSError when it is refused."""
        self._peer = socket.create_connection(address, PATIENCE_S, source_address=(own, 0))
        self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""
        self._message_ids = count(1)
        self._peer.sendall(associate_request(abstract_syntax, calling))
        self._expect(ASSOCIATE_AC)

    def find(self, identifier: bytes) -> int:
        """Ask and read to the end; returns how many answers came, -1 if it ended in failure."""
        self.begin(identifier)
        answers, status = 0, PENDING[0]
        while status in PENDING:
            for status in self.statuses():  # noqa: B007 - the last one counts
                answers += 1
        return -1 if status else answers - 1

    def answers(self, identifier: bytes) -> list[bytes]:
        """Ask and read to the end; gives the data set of each answer.

        Raises ConnectionError where the last status is not Success.
        """
        self.begin(identifier)
        found, status, data = list[bytes](), PENDING[0], b""
        while status in PENDING:
            for control, value in _values(self._expect(P_DATA)):
                if control & COMMAND:
                    status = STATUS_VALUE.unpack_from(value, value.rfind(STATUS) + 8)[0]
                else:
                    data += value
                if control == LAST:
                    found.append(data)
                    data = b""
        if status:
            raise ConnectionError(f"a query ended with status {status:#06x}")
        return found

    def begin(self, identifier: bytes) -> int:
        """Send a C-FIND-RQ; returns its Message ID."""
        message_id = next(self._message_ids) & 0xFFFF
        self._peer.sendall(find_request(message_id, identifier))
        return message_id

    def request(self, command: Mapping[int, bytes], data: bytes) -> int:
        """Send a request with a data set, its Message ID excepted; returns the status."""
        message_id = struct.pack("<H", next(self._message_ids) & 0xFFFF)
        words = _command({**command, 0x0110: message_id, 0x0800: b"\1\0"})
        self._peer.sendall(_value(words, COMMAND | LAST) + _value(data, LAST))
        while not (found := self.statuses()):
            pass
        return found[-1]

    def cancel(self, message_id: int) -> None:
        """Send a C-CANCEL-RQ."""
        self._peer.sendall(cancel_request(message_id))

    def statuses(self) -> list[int]:
        """Wait for bytes; give the status of each response that they end. Data sets are not read.

        Neither server puts two responses into one PDU.
        """
        held = self._held + self._receive()
        offset, found, size = 0, list[int](), len(held)
        while size - offset >= HEADER.size:
            kind, length, control = HEADER.unpack_from(held, offset)
            end = offset + 6 + length
            if end > size:
                break
            if kind != P_DATA:
                raise ConnectionError(f"the server sent a PDU of type {kind}")
            if control & COMMAND:
                found.append(STATUS_VALUE.unpack_from(held, held.rfind(STATUS, offset, end) + 8)[0])
            offset = end
        self._held = held[offset:]
        return found

    def release(self) -> None:
        """Release and wait for the reply."""
        self._peer.sendall(_pdu(5, bytes(4)))
        self._expect(RELEASE_RP)

    def close(self) -> None:
        """Close the socket."""
        self._peer.close()

    def _expect(self, kind: int) -> bytes:
        header = self._take(6)
        body = self._take(int.from_bytes(header[2:], "big"))
        if header[0] != kind:
            raise ConnectionError(f"the server sent a PDU of type {header[0]} instead of {kind}")
        return body

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            self._held += self._receive()
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _receive(self) -> bytes:
        piece = self._peer.recv(READ)
        if not piece:
            raise ConnectionError("the server closed the connection instead of answering")
        return piece


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The control header and the content of each value of a P-DATA-TF (PS3.8 §9.3.5)."""
    offset = 0
    while offset < len(body):
        length = int.from_bytes(body[offset : offset + 4], "big")
        yield body[offset + 5], body[offset + 6 : offset + 4 + length]
        offset += 4 + length


def leaf(data: bytes, tag: int) -> bytes:
    """What a data set in Implicit VR Little Endian says, if no sequence comes before it."""
    offset = 0
    while offset < len(data):
        group, element, length = LEAF.unpack_from(data, offset)
        if group << 16 | element == tag:
            return data[offset + 8 : offset + 8 + length].rstrip(b" \0")
        offset += 8 + length
    return b""


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_request(abstract_syntax: str, calling: str = CALLING) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 §9.3.2) with one context."""
    context = _item(0x30, abstract_syntax.encode()) + _item(0x40, IMPLICIT.encode())
    user = _item(0x51, struct.pack(">I", MAX_PDU)) + _item(0x52, IMPLEMENTATION.encode())
    titles = CALLED.ljust(16).encode() + calling.ljust(16).encode()
    return _pdu(
        1,
        struct.pack(">HH", 1, 0)
        + titles
        + bytes(32)
        + _item(0x10, APPLICATION.encode())
        + _item(0x20, bytes((CONTEXT, 0, 0, 0)) + context)
        + _item(0x50, user),
    )


ASSOCIATE_RQ = associate_request(WORKLIST)


def find_request(message_id: int, identifier: bytes) -> bytes:
    """A C-FIND-RQ (PS3.7 §9.3.2.1) with its identifier, to be sent in one write."""
    uid = WORKLIST.encode() + b"\0" * (len(WORKLIST) % 2)
    # Command Field, Message ID, Priority, Command Data Set Type
    numbers = {0x0100: 0x0020, 0x0110: message_id, 0x0700: 0, 0x0800: 1}
    words = {0x0002: uid, **{tag: struct.pack("<H", n) for tag, n in numbers.items()}}
    return _value(_command(words), COMMAND | LAST) + _value(identifier, LAST)


def cancel_request(message_id: int) -> bytes:
    """A C-CANCEL-RQ (PS3.7 §9.3.2.3)."""
    numbers = {0x0100: 0x0FFF, 0x0120: message_id, 0x0800: 0x0101}
    words = {tag: struct.pack("<H", n) for tag, n in numbers.items()}
    return _value(_command(words), COMMAND | LAST)


def _command(words: Mapping[int, bytes]) -> bytes:
    """A command set (PS3.7 §6.3.1) of these elements of group 0000."""
    elements = b"".join(_element(tag, words[tag]) for tag in sorted(words))
    return _element(0x0000, struct.pack("<I", len(elements))) + elements


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(value)) + value


def _value(data: bytes, control: int) -> bytes:
    return _pdu(P_DATA, struct.pack(">IBB", len(data) + 2, CONTEXT, control) + data)


Asked = Iterator[tuple[float, int]]
"""Seconds and answers of each query, for ever."""


def kept(address: tuple[str, int], identifiers: Iterator[bytes]) -> Asked:
    """Ask on one association."""
    association = Association(address)
    with closing(association):
        for identifier in identifiers:
            began = time.perf_counter()
            answers = association.find(identifier)
            yield time.perf_counter() - began, answers


def polls(address: tuple[str, int], identifiers: Iterator[bytes]) -> Asked:
    """Connect, associate, ask, release."""
    for identifier in identifiers:
        began = time.perf_counter()
        with closing(Association(address)) as association:
            answers = association.find(identifier)
            association.release()
        yield time.perf_counter() - began, answers


def first(address: tuple[str, int], identifiers: Iterator[bytes]) -> Asked:
    """Ask on one association, and time the first answer; the others are read and counted."""
    association = Association(address)
    with closing(association):
        for identifier in identifiers:
            began = time.perf_counter()
            association.begin(identifier)
            statuses = association.statuses()
            while not statuses:
                statuses = association.statuses()
            seconds = time.perf_counter() - began
            while statuses[-1] in PENDING:
                statuses += association.statuses()
            yield seconds, -1 if statuses[-1] else len(statuses) - 1


def cancel(address: tuple[str, int], identifiers: Iterator[bytes]) -> Asked:
    """Ask, cancel at the first answer, and time the final status; one that was too late is counted.

    The number of answers is not judged.
    """
    association = Association(address)
    with closing(association):
        for identifier in identifiers:
            message_id = association.begin(identifier)
            statuses = association.statuses()
            while not statuses:
                statuses = association.statuses()
            began = time.perf_counter()
            association.cancel(message_id)
            while statuses[-1] in PENDING:
                statuses += association.statuses()
            yield time.perf_counter() - began, 0 if statuses[-1] in (0, CANCELLED) else -1


WAYS = {How.KEPT: kept, How.POLLS: polls, How.FIRST: first, How.CANCEL: cancel}


def identifiers(given: bytes, asking: Asking, number: int) -> Iterator[bytes]:
    """The identifiers that one connection of several sends, for ever."""
    if not asking.different:
        yield from repeat(given)
    low = bytes(given.partition(FIRST_DAY)[1])
    for day in count(number, asking.connections):
        other = f"{date.fromordinal(LONG_AGO + day % 36_000):%Y%m%d}"
        yield given.replace(low, other.encode(), 1)


def drive(asked: Asked, asking: Asking, seconds: float) -> Timings:
    """Take a connection's part of the queries, fewer when time is over; count wrong answers."""
    latencies, faults, began = [], 0, time.perf_counter()
    for latency, answers in islice(asked, -(-asking.queries // asking.connections)):
        latencies.append(latency)
        faults += answers != (asking.answers if asking.how is not How.CANCEL else 0)
        if time.perf_counter() - began > seconds:
            break
    return Timings(latencies, time.perf_counter() - began, faults)


def together(address: tuple[str, int], asking: Asking, given: bytes, seconds: float) -> Timings:
    """All connections at once, a thread each; the slowest counts."""

    def one(number: int) -> Timings:
        return drive(WAYS[asking.how](address, identifiers(given, asking, number)), asking, seconds)

    with ThreadPoolExecutor(asking.connections) as pool:
        parts = list(pool.map(one, range(asking.connections)))
    return Timings(
        [latency for part in parts for latency in part.latencies_s],
        max(part.elapsed_s for part in parts),
        sum(part.faults for part in parts),
    )


def main() -> None:
    """Be the client process."""
    seconds, host, port, words = sys.argv[1:]
    said = json.loads(words)
    asking = Asking(**{**said, "how": How(said["how"])})
    given = sys.stdin.buffer.read()
    print_timings(together((host, int(port)), asking, given, float(seconds)))


if __name__ == "__main__":
    main()
