"""The listening side of the pretend RIS: records every message and answers as programmed."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from broker.hl7.framing import Block, Deframer, frame
from broker.probe.address import Address

MAX_MESSAGE_BYTES = 16 << 20
READ_BYTES = 1 << 16
# A block whose FS came without CR counts as complete after this silence (hazards 1.1).
QUIET_S = 0.2
HANDSHAKE_S = 5.0


class Answer(StrEnum):
    """What the sink does with a message: the first six are MSA-1 codes."""

    AA = "AA"
    AE = "AE"
    AR = "AR"
    CA = "CA"
    CE = "CE"
    CR = "CR"
    SILENCE = "silence"
    GARBAGE = "garbage"
    WRONG_CONTROL_ID = "wrong control id"
    CLOSE = "close"


@dataclass(frozen=True)
class Received:
    """One message as it reached the sink; `monotonic_s` is for measuring hops."""

    payload: bytes
    arrived: datetime
    monotonic_s: float
    connection: int
    answer: Answer

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", errors="replace")

    def field(self, segment: str, number: int) -> str:
        """The raw text of one field of the first such segment, '' when absent."""
        offset = 1 if segment == "MSH" else 0
        for line in self.text.split("\r"):
            fields = line.split("|")
            if fields[0] == segment and len(fields) > number - offset:
                return fields[number - offset]
        return ""


@dataclass
class Sink:
    """A RIS that listens: records every message with its arrival time and answers as programmed.

    `answer` is the default; `answer_next` queues answers for the next messages, whichever
    connection they come on. It speaks TLS where it has `tls`. Use `listening()` or start/stop.
    """

    answer: Answer = Answer.AA
    delay_s: float = 0.0
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    _programme: deque[Answer] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _server: _SinkServer | None = None
    _thread: threading.Thread | None = None

    def start(self, host: str = "127.0.0.1", port: int = 0) -> Address:
        """Listen; returns the bound address."""
        self._server = _SinkServer((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="ris-sink"
        )
        self._thread.start()
        return self.address

    def stop(self) -> None:
        """Stop listening and close every connection; what was received stays."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server = self._thread = None

    @property
    def address(self) -> Address:
        if self._server is None:
            raise RuntimeError("the sink is not listening; call start() first")
        host, port = self._server.server_address[:2]
        return Address(str(host), int(port))

    def answer_next(self, *answers: Answer) -> None:
        """Answer the next messages so, one after the other, then by the default again."""
        with self._changed:
            self._programme.extend(answers)

    def clear(self) -> None:
        """Forget what was received."""
        with self._changed:
            self.received.clear()

    def wait_for(self, count: int, *, deadline_s: float = 10.0) -> list[Received]:
        """Block until `count` messages are there; raises TimeoutError with how many came."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, deadline_s):
                raise TimeoutError(
                    f"the RIS got {len(self.received)} of {count} messages in {deadline_s:g} s"
                )
            return list(self.received)

    def record(self, payload: bytes, connection: int) -> Received:
        """Note a message and decide its answer."""
        with self._changed:
            answer = self._programme.popleft() if self._programme else self.answer
            arrived = datetime.now(UTC)
            message = Received(payload, arrived, time.monotonic(), connection, answer)
            self.received.append(message)
            self._changed.notify_all()
        return message


@contextmanager
def listening(
    answer: Answer = Answer.AA, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Sink]:
    """A sink that listens for the length of a with-block."""
    sink = Sink(answer)
    sink.start(host, port)
    try:
        yield sink
    finally:
        sink.stop()


class _SinkServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, bind: tuple[str, int], sink: Sink) -> None:
        self.sink = sink
        self.connections = 0
        self._stopping = False
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(bind, _SinkConnection)

    def admit(self, connection: socket.socket) -> int:
        with self._guard:
            self._open.add(connection)
            self.connections += 1
            if self._stopping:
                connection.shutdown(socket.SHUT_RDWR)
            return self.connections

    def dismiss(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.discard(connection)

    def hang_up(self) -> None:
        with self._guard:
            self._stopping = True
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _SinkConnection(socketserver.BaseRequestHandler):
    server: _SinkServer
    request: socket.socket

    def handle(self) -> None:
        if (tls := self.server.sink.tls) is not None:
            self.request.settimeout(HANDSHAKE_S)
            try:
                self.request = tls.wrap_socket(self.request, server_side=True)
            except OSError:  # it was not the broker, or one that does not trust us
                return
        number = self.server.admit(self.request)
        self.request.settimeout(QUIET_S)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The peer may vanish at any moment; that is what a sink is for.
        with suppress(ConnectionError, ssl.SSLError):
            for payload in _payloads(self.request):
                if not self._reply(self.server.sink.record(payload, number)):
                    break

    def finish(self) -> None:
        self.server.dismiss(self.request)
        if isinstance(self.request, ssl.SSLSocket):  # the server closes only the one it accepted
            self.request.close()

    def _reply(self, message: Received) -> bool:
        """Answer as decided; False ends the connection."""
        time.sleep(self.server.sink.delay_s)
        match message.answer:
            case Answer.CLOSE:
                return False
            case Answer.SILENCE:
                return True
            case Answer.GARBAGE:
                self.request.sendall(b"\x0bthis is not HL7\x1c\r")
            case Answer.WRONG_CONTROL_ID:
                self.request.sendall(frame(_acknowledgement(message, "AA", "NOTYOURS")))
            case code:
                control_id = message.field("MSH", 10)
                self.request.sendall(frame(_acknowledgement(message, code.value, control_id)))
        return True


def _payloads(connection: socket.socket) -> Iterator[bytes]:
    deframer = Deframer(MAX_MESSAGE_BYTES)
    while True:
        try:
            data = connection.recv(READ_BYTES)
        except TimeoutError:
            blocks = deframer.idle()
        else:
            blocks = deframer.receive(data) if data else deframer.eof()
            if not data:
                yield from (block.payload for block in blocks if isinstance(block, Block))
                return
        yield from (block.payload for block in blocks if isinstance(block, Block))


def _acknowledgement(message: Received, code: str, control_id: str) -> bytes:
    ask = message.field
    header = [
        "MSH", "^~\\&", ask("MSH", 5), ask("MSH", 6), ask("MSH", 3), ask("MSH", 4),
        message.arrived.strftime("%Y%m%d%H%M%S"), "", "ACK", f"R{control_id}"[:20],
        ask("MSH", 11), ask("MSH", 12),
    ]  # fmt: skip
    return f"{'|'.join(header)}\rMSA|{code}|{control_id}\r".encode()
