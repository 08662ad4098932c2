"""A DICOM door in this process with a toy worklist, and raw sockets to knock at it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from broker.dicom.dimse import IDENTIFIER_DOES_NOT_MATCH, PENDING, SUCCESS, DimseRequest, Response
from broker.dicom.encoding import encode
from broker.dicom.identifier import UnreadableIdentifier, decode
from broker.dicom.negotiation import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST,
    VERIFICATION,
)
from broker.modality.admission import Admission
from broker.modality.echo import answer_echo
from broker.modality.server import Association, Limits, Server
from tests.dicom.requestor import (
    associate_rq,
)

SHORT = Limits(association_s=0.3, message_s=0.3, idle_s=0.5, write_s=0.3, close_s=0.3)


@dataclass
class Scanners:
    """A toy worklist: how many answers, and what was asked and by whom."""

    answers: int = 3
    pause_s: float = 0.0
    size: int = 10
    stubborn: bool = False
    """Reports end as they should even where they are cancelled."""
    asked: list[tuple[str, Association]] = field(default_factory=list)
    set_steps: list[str] = field(default_factory=list)
    ended: int = 0

    async def find(self, request: DimseRequest, peer: Association) -> AsyncIterator[Response]:
        try:
            identifier = decode(request.dataset or b"", request.transfer_syntax)
        except UnreadableIdentifier as fault:
            yield Response(IDENTIFIER_DOES_NOT_MATCH, error_comment=fault.fact)
            return
        self.asked.append((str(identifier.keys.get("PatientID", "")), peer))
        try:
            for number in range(self.answers):
                answer = {"PatientID": f"P{number}", "PatientComments": "x" * self.size}
                yield Response(PENDING, encode(answer, request.transfer_syntax))
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
            yield Response(SUCCESS)
        finally:
            self.ended += 1

    async def set_step(self, request: DimseRequest, _peer: Association) -> AsyncIterator[Response]:
        with suppress(asyncio.CancelledError if self.stubborn else ()):
            await asyncio.sleep(self.pause_s)
        self.set_steps.append(request.sop_instance)
        yield Response(0x0110, error_comment="may no longer be updated", error_id=0xA710)

    async def fail(self, _request: DimseRequest, _peer: Association) -> AsyncIterator[Response]:
        raise ZeroDivisionError("Doe^Jane")
        yield Response(SUCCESS)

    async def stay_silent(self, _asked: DimseRequest, _by: Association) -> AsyncIterator[Response]:
        return
        yield Response(SUCCESS)


@dataclass
class Door:
    """A running server in a thread of its own, and how to knock."""

    port: int
    scanners: Scanners
    server: Server
    loop: asyncio.AbstractEventLoop
    observed: list[tuple[str, Mapping[str, str]]]
    broken: list[str] = field(default_factory=list)  # what nobody caught
    peers: list[socket.socket] = field(default_factory=list)

    def connect(self, *sent: bytes, host: str = "127.0.0.1") -> socket.socket:
        """A new socket from this address, which has sent this."""
        peer = socket.create_connection(
            ("127.0.0.1", self.port), timeout=30, source_address=(host, 0)
        )
        self.peers.append(peer)
        for data in sent:
            peer.sendall(data)
        return peer

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    @property
    def connections(self) -> int:
        return len(self.server._reception.connections)

    @property
    def held(self) -> int:
        """Bytes of all peers' messages that are not answered."""
        return self.server._reception.held

    @property
    def outcomes(self) -> list[str]:
        """How associations ended, in order."""
        return [labels["outcome"] for name, labels in self.observed if name == "association"]


@contextmanager
def serving_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that doors run on, in a thread of its own."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


Opener = Callable[..., Door]
Program = Callable[[str], Path]


@contextmanager
def running(
    limits: Limits | None = None, admission: Admission | None = None, **scanners: Any
) -> Iterator[Door]:
    toy = Scanners(**scanners)
    observed: list[tuple[str, Mapping[str, str]]] = []
    handlers = {
        (VERIFICATION, "C-ECHO"): answer_echo,
        (MODALITY_WORKLIST, "C-FIND"): toy.find,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-SET"): toy.set_step,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-CREATE"): toy.fail,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-GET"): toy.stay_silent,
    }
    with serving_loop() as loop:
        server = Server(
            handlers, admission, limits, lambda name, labels, _s: observed.append((name, labels))
        )
        _, port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(60)
        door = Door(port, toy, server, loop, observed)
        loop.set_exception_handler(lambda _, what: door.broken.append(repr(what)))
        yield door
        door.run(server.stop(0.5))
        for peer in door.peers:
            peer.close()
        assert door.connections == 0
        reception = server._reception
        assert not reception.tasks
        assert not reception.associated
        assert not reception.by_address
        assert not reception.silent
        assert reception.held == 0
        assert door.broken == []


def receive(peer: socket.socket, kind: int) -> bytes:
    """The next PDU, which must be of this type."""
    header = exactly(peer, 6)
    assert header[0] == kind, header
    return exactly(peer, int.from_bytes(header[2:], "big"))


def exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        assert more, "closed too early"
        data += more
    return data


def status(peer: socket.socket) -> int:
    """The status of the next response; its data set, if it has one, is skipped."""
    command = receive(peer, 4)[6:]
    if command[command.index(b"\0\0\0\x08\x02\0\0\0") + 8 :][:2] != b"\1\1":
        receive(peer, 4)
    return int.from_bytes(command[command.index(b"\0\0\0\x09\x02\0\0\0") + 8 :][:2], "little")


def associated(door: Door, host: str = "127.0.0.1", **request: Any) -> socket.socket:
    peer = door.connect(associate_rq(**request), host=host)
    receive(peer, 2)
    return peer


def closed_within(peer: socket.socket, seconds: float) -> bool:
    """Whether the broker closes; whatever it still says is read."""
    peer.settimeout(seconds)
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def wait_until(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
