"""The MLLP listener on real sockets: python-hl7 as the peer, and peers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count
from typing import Any

import hl7
import pytest
import trustme
from hl7.client import MLLPClient
from structlog.testing import capture_logs

from broker import pacing
from broker.hl7.acknowledgement import answers, read_acknowledgement
from broker.hl7.framing import Deframer, frame
from broker.hl7.header import read_header
from broker.hl7.refusal import NotHL7, Refusal
from broker.orders.limits import Accept, Limits, Peer
from broker.orders.listener import Listener
from broker.tls.handshakes import Contexts

NOW = datetime(2026, 3, 16, tzinfo=UTC)


def message(control_id: object, extra: str = "", **parts: str) -> bytes:
    modes = parts.get("modes", "|")
    return (
        f"MSH|^~\\&|RIS|H|BROKER|R|20260316||ORM^O01|{control_id}|P|2.3.1|||{modes}\r"
        f"PID|1||SECRET\r{extra}"
    ).encode()


class Desk:
    """Answers every message truly and remembers what it took."""

    def __init__(self, work: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        self.taken: list[bytes] = []
        self.peers: list[Peer] = []
        self.events: Counter[str] = Counter()
        self._work = work
        self._observed = asyncio.Event()
        self._ids = (str(number) for number in count(1))

    async def __call__(self, raw: bytes, peer: Peer) -> list[bytes] | None:
        if self._work:
            await self._work(raw)
        self.peers.append(peer)
        refusal: Refusal | None = None
        header = None
        try:
            header = read_header(raw)
            self.taken.append(raw)
        except NotHL7 as not_hl7:
            refusal = not_hl7
        stored = refusal is None
        return answers(header, refusal, stored=stored, control_ids=self._ids, now=NOW)

    def observe(self, event: str) -> None:
        self.events[event] += 1
        self._observed.set()

    async def until(self, event: str, times: int = 1) -> None:
        while self.events[event] < times:
            self._observed.clear()
            await self._observed.wait()


class Sender:
    """A connection that can misbehave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._deframer = Deframer(1 << 20)
        self._waiting: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def payload(self) -> bytes:
        while not self._waiting:
            data = await self.reader.read(65536)
            assert data, "closed without an answer"
            self._waiting += [one.payload for one in self._deframer.receive(data)]  # type: ignore[union-attr]
        return self._waiting.pop(0)

    async def answer(self) -> tuple[str, str]:
        found = read_acknowledgement(await self.payload())
        return found.code, found.control_id

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


class Floor:
    """A running listener and the senders connected to it."""

    def __init__(self, listener: Listener, host: str, port: int) -> None:
        self.listener, self.host, self.port = listener, host, port
        self.senders: list[Sender] = []

    async def connect(self, source: str = "127.0.0.1", **options: Any) -> Sender:
        streams = await asyncio.open_connection(
            self.host, self.port, local_addr=(source, 0), **options
        )
        self.senders.append(Sender(*streams))
        return self.senders[-1]


@asynccontextmanager
async def listening(
    accept: Accept, limits: Limits | None = None, *, tls: Contexts | None = None
) -> AsyncIterator[Floor]:
    observe = accept.observe if isinstance(accept, Desk) else lambda event: None
    listener = Listener(accept, limits, observe=observe)
    floor = Floor(listener, *await listener.start("127.0.0.1", 0, tls=tls))
    try:
        yield floor
    finally:
        await listener.stop(0.2)
        for sender in floor.senders:
            sender.writer.transport.abort()
        await asyncio.sleep(0)


def scenario(play: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test to its end within 20 seconds."""

    def test() -> None:
        asyncio.run(asyncio.wait_for(play(), 20))

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@scenario
async def test_python_hl7s_client_is_answered() -> None:
    """An independent peer, several messages over one connection."""
    desk = Desk()
    async with listening(desk) as floor:

        def talk() -> list[str]:
            with MLLPClient(floor.host, floor.port) as client:
                return [client.send_message(message(n)).decode() for n in (1, 2)]

        replies = await asyncio.to_thread(talk)
    for control_id, reply in zip("12", replies, strict=True):
        assert reply.startswith("\x0b")
        assert reply.endswith("\r\x1c\r")
        parsed = hl7.parse(reply.strip("\x0b\x1c\r"))
        assert str(parsed.segment("MSA")[1]) == "AA"
        assert str(parsed.segment("MSA")[2]) == control_id
    assert desk.taken == [message(1), message(2)]
    assert desk.peers[0].host == "127.0.0.1"


@scenario
async def test_a_hundred_messages_in_one_write_are_answered_in_order() -> None:
    """Senders that pipeline."""
    desk = Desk()
    async with listening(desk) as floor:
        sender = await floor.connect()
        await sender.send(b"".join(frame(message(n)) for n in range(100)))
        assert [await sender.answer() for _ in range(100)] == [("AA", str(n)) for n in range(100)]


@scenario
async def test_one_connection_is_strictly_sequential() -> None:
    """The second message is not begun before the first is done, however slow the first."""
    running, most = 0, 0

    async def work(raw: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.03 if b"|1|P" in raw else 0)
        running -= 1

    async with listening(Desk(work)) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1)) + frame(message(2)) + frame(message(3)))
        assert [(await sender.answer())[1] for _ in range(3)] == ["1", "2", "3"]
    assert most == 1


@scenario
async def test_a_slow_message_of_one_sender_delays_no_other() -> None:
    """Two connections of one peer, as after a time-out."""
    gate = asyncio.Event()

    async def work(raw: bytes) -> None:
        if b"|slow|" in raw:
            await gate.wait()

    async with listening(Desk(work)) as floor:
        slow, quick = await floor.connect(), await floor.connect()
        await slow.send(frame(message("slow")))
        await quick.send(frame(message("quick")))
        assert await quick.answer() == ("AA", "quick")
        gate.set()
        assert await slow.answer() == ("AA", "slow")


@scenario
async def test_a_message_byte_by_byte_and_a_split_trailer_are_answered_once() -> None:
    """W2, W3."""
    desk = Desk()
    async with listening(desk) as floor:
        sender = await floor.connect()
        for byte in frame(message(1)):
            await sender.send(bytes([byte]))
        assert await sender.answer() == ("AA", "1")
        await sender.send(frame(message(2))[:-1])
        await asyncio.sleep(0.02)
        await sender.send(b"\r" + frame(message(3)))
        assert [await sender.answer(), await sender.answer()] == [("AA", "2"), ("AA", "3")]
    assert len(desk.taken) == 3


@scenario
async def test_an_end_without_cr_is_answered_after_the_gap() -> None:
    """W1 with nothing following."""
    async with listening(Desk(), Limits(end_gap_s=0.05)) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1))[:-1])
        assert await sender.answer() == ("AA", "1")
        await sender.send(b"\r" + frame(message(2))[:-1] + frame(message(3)))
        assert [await sender.answer(), await sender.answer()] == [("AA", "2"), ("AA", "3")]


@scenario
async def test_noise_between_messages_is_skipped_and_counted() -> None:
    """W5, W6, W7: blank lines, NULs, log text, a missing start byte."""
    desk = Desk()
    async with listening(desk) as floor:
        sender = await floor.connect()
        for number, before in enumerate((b"\r\n", b"\x00\x00", b"INFO sending\n")):
            await sender.send(before + frame(message(number)))
            assert await sender.answer() == ("AA", str(number))
        await sender.send(message(9) + b"\x1c\r")
        assert await sender.answer() == ("AA", "9")
    assert (desk.events["noise"], desk.events["bare"]) == (1, 1)


@scenario
async def test_what_is_no_hl7_is_answered_and_the_connection_lives() -> None:
    """W20, W21: AR with our own header."""
    async with listening(Desk()) as floor:
        sender = await floor.connect()
        for rubbish in (b"", b"\x00\xff\x01rubbish"):
            await sender.send(frame(rubbish))
            assert await sender.answer() == ("AR", "")
        await sender.send(frame(message(1)))
        assert await sender.answer() == ("AA", "1")


@scenario
async def test_a_message_that_is_too_long_is_refused_and_the_next_is_taken() -> None:
    """W12: AR by name, so that the sender's queue is not blocked for ever."""
    desk = Desk()
    async with listening(desk, Limits(max_frame_bytes=10_000)) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1, "OBX|" + "x" * 500_000)) + frame(message(2)))
        assert [await sender.answer(), await sender.answer()] == [("AR", "1"), ("AA", "2")]
    assert desk.taken == [message(2)]
    assert desk.events["oversize"] == 1


@scenario
async def test_what_all_senders_have_begun_together_is_bounded() -> None:
    """The one that goes beyond the bound is told so; the others are served."""
    desk = Desk()
    async with listening(desk, Limits(max_held_bytes=350_000)) as floor:
        senders = [await floor.connect() for _ in range(4)]
        for n, sender in enumerate(senders):
            await sender.send(frame(message(n, "OBX|" + "x" * 100_000))[:-2])
        await desk.until("memory")
        assert floor.listener.held_bytes <= 350_000
        answers = []
        for sender in senders:
            with suppress(AssertionError, ConnectionError):
                await sender.send(b"\x1c\r")
                answers.append((await sender.answer())[0])
        assert sorted(answers) == ["AA", "AA", "AA", "AE"]
        while floor.listener.held_bytes:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)


def test_an_address_that_sends_too_fast_waits_and_is_refused_only_beyond_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AE 207, which says what to do; other addresses are not made to wait."""
    monkeypatch.setattr(pacing, "LONGEST_S", 0.25)
    desk = Desk()

    async def one(floor: Floor, name: int, source: str = "127.0.0.1") -> str:
        sender = await floor.connect(source)
        await sender.send(frame(message(name)))
        return (await sender.answer())[0]

    @scenario
    async def play() -> None:
        async with listening(desk, Limits(messages_a_second=10)) as floor:
            codes = await asyncio.gather(*(one(floor, n) for n in range(150)))
            assert await one(floor, 150, "127.0.0.2") == "AA"
        assert codes.count("AA") + codes.count("AE") == 150
        assert 12 <= codes.count("AA") < 150
        assert len(desk.taken) == codes.count("AA") + 1, "what is refused is not taken"
        assert desk.events["slowed"] >= 2
        assert desk.events["too_fast"] == codes.count("AE")

    play()


@scenario
async def test_only_the_networks_of_a_listener_may_connect() -> None:
    """`peers: [127.0.0.2]`."""
    listener = Listener(Desk(), peers=[ip_network("127.0.0.2/32")])
    floor = Floor(listener, *await listener.start("127.0.0.1", 0))
    assert await (await floor.connect()).is_closed()
    welcome = await floor.connect("127.0.0.2")
    await welcome.send(frame(message(1)))
    assert await welcome.answer() == ("AA", "1")
    await listener.stop(0)
    for sender in floor.senders:
        sender.writer.transport.abort()
    await asyncio.sleep(0)


@scenario
async def test_none_closes_without_an_answer_and_nothing_answers_nothing() -> None:
    """None: the sender shall resend; []: it asked for silence."""

    async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:
        return {b"silence": [], b"two": [b"a", b"b"]}.get(raw)

    async with listening(accept) as floor:
        sender = await floor.connect()
        await sender.send(frame(b"silence") + frame(b"two"))
        assert [await sender.payload(), await sender.payload()] == [b"a", b"b"]
        await sender.send(frame(b"down") + frame(b"two"))
        assert await sender.is_closed()


@scenario
async def test_both_answers_of_enhanced_mode_come_in_order() -> None:
    """CA, then AA, on the same socket."""
    async with listening(Desk()) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1, modes="AL|AL")))
        assert [await sender.answer(), await sender.answer()] == [("CA", "1"), ("AA", "1")]


@scenario
async def test_a_bug_is_answered_with_ar_and_logged_without_values() -> None:
    """The next message lives; the words of an unknown error may hold patient data."""

    async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:
        raise RuntimeError(f"cannot handle {raw!r}")

    with capture_logs() as logs:
        async with listening(accept) as floor:
            sender = await floor.connect()
            await sender.send(frame(message(1)) + frame(message(2)))
            assert [await sender.answer(), await sender.answer()] == [("AR", "1"), ("AR", "2")]
    (first, _) = [entry for entry in logs if entry["event"] == "failure"]
    assert first["error"] == "RuntimeError"
    assert "test_listener.py" in first["at"]
    assert "SECRET" not in str(logs)


@scenario
async def test_a_slow_loris_is_closed_at_the_deadline() -> None:
    """W13: the clock runs from the start byte, whatever trickles in."""
    desk = Desk()
    async with listening(desk, Limits(frame_deadline_s=0.15)) as floor:
        sender = await floor.connect()
        began = time.monotonic()
        await sender.send(b"\x0b")
        closing = asyncio.create_task(sender.is_closed())
        while not closing.done() and time.monotonic() - began < 30:
            sender.writer.write(b"x")
            await asyncio.sleep(0.03)
        assert closing.done()
        assert 0.1 < time.monotonic() - began < 20
    assert desk.events["deadline"] == 1


@scenario
async def test_a_port_scan_is_closed_at_the_deadline() -> None:
    """W25: no block begins in an HTTP request."""
    desk = Desk()
    async with listening(desk, Limits(frame_deadline_s=0.05)) as floor:
        scan = await floor.connect()
        await scan.send(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
        assert await scan.is_closed()
    assert (desk.events["noise"], desk.events["deadline"]) == (1, 1)


@scenario
async def test_a_flood_of_noise_is_closed_at_once() -> None:
    """Long before any deadline."""
    desk = Desk()
    async with listening(desk, Limits(max_noise_bytes=1_000)) as floor:
        flood = await floor.connect()
        await flood.send(b"x" * 10_000)
        assert await flood.is_closed()
    assert (desk.events["noise"], desk.events["deadline"]) == (1, 0)


@scenario
async def test_statement_92_an_idle_connection_is_closed_when_its_time_is_up() -> None:
    """Statement 92; the default is two days."""
    desk = Desk()
    async with listening(desk, Limits(idle_s=0.1)) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1)))
        assert await sender.answer() == ("AA", "1")
        assert await sender.is_closed()
    assert desk.events["idle"] == 1
    assert Limits().idle_s > 24 * 3600


@scenario
async def test_a_sender_is_served_beside_silent_connections() -> None:
    """W14: whoever never said anything gives way to a newcomer, even from the same address."""
    desk = Desk()
    async with listening(desk, Limits(connections=20, connections_per_ip=20)) as floor:
        for _ in range(60):
            await floor.connect()
        sender = await floor.connect()
        await sender.send(frame(message(1)))
        assert await sender.answer() == ("AA", "1")
        assert floor.listener.connections == 20
    assert desk.events["connection_evicted"] == 41


@scenario
async def test_connections_in_use_are_not_given_up() -> None:
    """Beyond the limit of an address its newcomers are refused, others are not."""
    desk = Desk()
    limits = Limits(connections=4, connections_per_ip=2)
    async with listening(desk, limits) as floor:
        used = [await floor.connect(), await floor.connect()]
        for sender in used:
            await sender.send(frame(message(1)))
            assert await sender.answer() == ("AA", "1")
        assert await (await floor.connect()).is_closed()
        other = await floor.connect("127.0.0.2")
        await other.send(frame(message(2)))
        assert await other.answer() == ("AA", "2")
        await used[0].send(frame(message(3)))
        assert await used[0].answer() == ("AA", "3")
    assert desk.events["connection_refused"] == 1


@scenario
async def test_a_sender_that_never_reads_is_dropped() -> None:
    """W15: a bounded write, then the connection goes."""
    desk = Desk()

    async def accept(raw: bytes, peer: Peer) -> list[bytes] | None:
        return [b"x" * 4_000_000]

    async with listening(accept, Limits(write_deadline_s=0.1)) as floor:
        floor.listener.observe = desk.observe
        sender = await floor.connect(limit=1024)
        await sender.send(b"".join(frame(message(n)) for n in range(8)))
        await desk.until("connection_closed")
    assert desk.events["write_deadline"] == 1


@scenario
async def test_a_message_whose_sender_left_at_once_is_taken() -> None:
    """W16: closed right after the end byte."""
    desk = Desk()
    async with listening(desk) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1))[:-1])
        sender.writer.close()
        await desk.until("connection_closed")
    assert desk.taken == [message(1)]


@scenario
async def test_a_message_broken_off_is_not_taken() -> None:
    """W17: half a message is none."""
    desk = Desk()
    async with listening(desk) as floor:
        for ends in ("abort", "close"):
            sender = await floor.connect()
            await sender.send(frame(message(1))[:-5])
            getattr(sender.writer.transport, ends)()
        await desk.until("connection_closed", 2)
    assert desk.taken == []
    assert desk.events["broken_off"] >= 1


@scenario
async def test_stopping_finishes_what_is_in_hand() -> None:
    """The message being judged and the one being sent are answered, idle senders are let go."""
    started, gate = asyncio.Event(), asyncio.Event()

    async def work(raw: bytes) -> None:
        if b"|1|P" in raw:
            started.set()
            await gate.wait()

    desk = Desk(work)
    async with listening(desk) as floor:
        idle, busy, sending = [await floor.connect() for _ in range(3)]
        await busy.send(frame(message(1)))
        half = frame(message(2))
        await sending.send(half[:20])
        await started.wait()
        stop = asyncio.create_task(floor.listener.stop(5))
        assert await idle.is_closed()
        await sending.send(half[20:])
        gate.set()
        assert await busy.answer() == ("AA", "1")
        assert await sending.answer() == ("AA", "2")
        assert await busy.is_closed()
        assert await sending.is_closed()
        await stop
        with pytest.raises(OSError, match="Connect call failed"):
            await floor.connect()


@scenario
async def test_stopping_waits_no_longer_than_the_grace() -> None:
    """A message that never ends is not waited for."""

    async def work(raw: bytes) -> None:
        await asyncio.Event().wait()

    async with listening(Desk(work)) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1)))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await floor.listener.stop(0.1)
        assert time.monotonic() - began < 20
        assert await sender.is_closed()
        assert floor.listener.connections == 0


@scenario
async def test_w19_accepted_sockets_notice_dead_peers() -> None:
    """W19: keepalive 60/10/6 drops a half-open peer; and no delay of answers."""
    options: list[tuple[int, ...]] = []
    desk = Desk()
    async with listening(desk) as floor:
        sender = await floor.connect()
        await sender.send(frame(message(1)))
        await sender.answer()
        for connection in floor.listener._connections:
            own = connection._transport.get_extra_info("socket")
            tcp = ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            options.append(
                tuple(own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in tcp)
            )
    assert options == [(1, 60, 10, 6)]


@scenario
async def test_two_listeners_share_a_port_when_asked() -> None:
    """Several processes of one door."""
    first, second = Listener(Desk()), Listener(Desk())
    host, port = await first.start("127.0.0.1", 0, reuse_port=True)
    assert await second.start(host, port, reuse_port=True) == (host, port)
    third = Listener(Desk())
    with pytest.raises(OSError, match="in use"):
        await third.start(host, port)
    await first.stop(0)
    await second.stop(0)
    await third.stop(0)


@scenario
async def test_w24_messages_over_tls_are_answered_beside_a_silent_client() -> None:
    """W24: the handshake of one delays nobody."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with listening(Desk(), tls=lambda: server) as floor:
        await floor.connect()
        sender = await floor.connect(ssl=client, server_hostname="localhost")
        await sender.send(frame(message(1)))
        assert await sender.answer() == ("AA", "1")


@scenario
async def test_statement_92_many_senders_keep_their_order() -> None:
    """Statement 92: 100 in parallel, each with its own sequence."""
    desk = Desk()

    async def talk(floor: Floor, name: int) -> list[tuple[str, str]]:
        sender = await floor.connect()
        await sender.send(b"".join(frame(message(f"{name}-{n}")) for n in range(10)))
        return [await sender.answer() for _ in range(10)]

    async with listening(desk) as floor:
        replies = await asyncio.gather(*(talk(floor, name) for name in range(100)))
    assert replies == [[("AA", f"{name}-{n}") for n in range(10)] for name in range(100)]
