"""Handshakes on real sockets: who gets in, who does not and why, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
import uvloop

from broker.settings.tls import ServerTls
from broker.tls.credentials import Credentials
from broker.tls.handshakes import Bounds, SecureListener
from broker.tls.peers import names_of
from tests.tls.authority import Authority, lowered

Attempt = Callable[["Door"], str]


class Echo(asyncio.Protocol):
    """Says the names of whoever is let in, in place of a door's protocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        names = names_of(transport.get_extra_info("peercert"))
        cast(asyncio.Transport, transport).write(f"welcome {sorted(names)}\n".encode())


class Door:
    """A listener in a thread; `failures` are the facts it was told of."""

    def __init__(self, bounds: Bounds, tls: ServerTls) -> None:
        self.failures: list[str] = []
        self.unhandled: list[str] = []
        self._tls, self._bounds = tls, bounds
        self._loop = uvloop.new_event_loop()  # what the doors run on
        self._loop.set_exception_handler(lambda _, what: self.unhandled.append(repr(what)))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.listener, self.address = self._run(self._open())

    async def _open(self) -> tuple[SecureListener, tuple[str, int]]:
        credentials = Credentials("test", self._tls)
        listener = SecureListener(
            Echo,
            credentials.context,
            self._bounds,
            welcome=lambda address: address != "127.0.0.9",
            failed=lambda _address, fact: self.failures.append(fact),
        )
        return listener, listener.start("127.0.0.1", 0)

    def close(self) -> None:
        self._run(self.listener.close())
        assert not self.listener._shaking
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        assert self.unhandled == []

    def _run(self, coroutine):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(self.address, timeout=5, source_address=(source, 0))

    def says_to(self, context: ssl.SSLContext, name: str = "localhost") -> str:
        """What somebody with this context hears; '' when nothing."""
        try:
            with context.wrap_socket(self.connect(), server_hostname=name) as peer:
                return peer.recv(200).decode().strip()
        except OSError:
            return ""

    def until(self, fact: str, times: int = 1) -> None:
        deadline = time.monotonic() + 5
        while self.failures.count(fact) < times:
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.005)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def opened(authority: Authority, bounds: Bounds | None = None, **tls: object) -> Iterator[Door]:
    server = authority.folder / "server.pem"
    if not server.exists():
        authority.issue("server", "localhost")
    settings = ServerTls.model_validate({"certificate": server, "ca": authority.ca, **tls})
    door = Door(bounds or Bounds(deadline_s=5), settings)
    try:
        yield door
    finally:
        door.close()


@pytest.fixture(scope="module")
def door(authority: Authority) -> Iterator[Door]:
    """Wants a certificate of its authority from everybody."""
    with opened(authority) as door:
        yield door


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_statement_99_tls_1_2_and_1_3_are_accepted(
    door: Door, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.client(authority.issue("ct1", "ct1.hospital.example"))
    context.minimum_version = context.maximum_version = version
    assert door.says_to(context) == "welcome ['ct1.hospital.example']"


def test_common_name_and_every_alternative_name_count_in_any_case(
    door: Door, authority: Authority
) -> None:
    path = authority.issue("ct2", "CT2.hospital.example", "10.1.2.3", common="CT2 Radiology")
    said = door.says_to(authority.client(path))
    assert said == "welcome ['10.1.2.3', 'ct2 radiology', 'ct2.hospital.example']"


@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
def test_statement_99_tls_1_1_is_refused(door: Door, authority: Authority) -> None:
    context = lowered(authority.client(authority.issue("old", "old.hospital.example")))
    assert door.says_to(context) == ""
    door.until("it offers no TLS 1.2 or 1.3")


def test_statement_99_who_shows_no_certificate_is_refused(door: Door, authority: Authority) -> None:
    before = len(door.failures)
    assert door.says_to(authority.client()) == ""
    door.until("it has shown no certificate")
    assert len(door.failures) == before + 1


def test_a_certificate_of_another_authority_is_refused(
    door: Door, authority: Authority, tmp_path: Path
) -> None:
    strange = Authority(tmp_path).issue("strange", "ct1.hospital.example")
    assert door.says_to(authority.client(strange)) == ""
    door.until("its certificate is not accepted: unable to get local issuer certificate")


def test_w24_an_expired_certificate_is_refused_and_logged(door: Door, authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    assert door.says_to(authority.client(authority.issue("past", "a.example", until=past))) == ""
    door.until("its certificate is not accepted: certificate has expired")


def test_a_peer_that_does_not_trust_us_hangs_up(door: Door, tmp_path: Path) -> None:
    assert door.says_to(Authority(tmp_path).client()) == ""
    door.until("it does not trust our certificate")


def test_a_peer_that_wants_another_name_hangs_up(door: Door, authority: Authority) -> None:
    context = authority.client(authority.issue("ct1", "ct1.hospital.example"))
    assert door.says_to(context, name="elsewhere.example") == ""


@pytest.mark.parametrize(
    ("sent", "fact"),
    [
        (b"\x0bMSH|^~\\&|RIS|H|\r\x1c\r", "it does not speak TLS"),
        (b"\x01\x00\x00\x00\x00\xca\x00\x01" + bytes(198), "it does not speak TLS"),  # A-ASSOCIATE
        (b"GET /metrics HTTP/1.1\r\n\r\n", "it speaks HTTP, not TLS"),
    ],
)
def test_w24_plain_bytes_on_a_tls_port_end_the_connection(
    door: Door, sent: bytes, fact: str
) -> None:
    before = door.failures.count(fact)
    with door.connect() as peer, suppress(ConnectionResetError):
        peer.sendall(sent)
        assert peer.recv(100) == b"", "and nothing of ours is answered in clear"
    door.until(fact, before + 1)


def test_who_hangs_up_in_the_handshake_is_forgotten(door: Door) -> None:
    before = door.failures.count("it hung up during the handshake")
    door.connect().close()
    door.until("it hung up during the handshake", before + 1)


def test_an_address_that_may_not_connect_costs_no_handshake(door: Door) -> None:
    with door.connect(source="127.0.0.9") as peer:
        assert peer.recv(1) == b""


def test_optional_lets_in_who_has_none_but_no_stranger(
    authority: Authority, tmp_path: Path
) -> None:
    strange = Authority(tmp_path).issue("strange", "ct1.hospital.example")
    with opened(authority, client="optional") as door:
        assert door.says_to(authority.client()) == "welcome []"
        assert door.says_to(authority.client(strange)) == ""
    with opened(authority, client="none") as door:
        assert door.says_to(authority.client()) == "welcome []"


def test_silent_peers_are_closed_at_the_deadline_and_nobody_waits_for_them(
    authority: Authority,
) -> None:
    context = authority.client(authority.issue("ct1", "ct1.hospital.example"))
    with opened(authority, Bounds(deadline_s=2)) as door, ExitStack() as stack:
        silent = [stack.enter_context(door.connect()) for _ in range(20)]
        assert door.says_to(context).startswith("welcome")
        assert door.failures == [], "it is served while they still keep silent"
        door.until("it did not finish the handshake in time", 20)
        assert [peer.recv(1) for peer in silent] == [b""] * 20


def test_a_listener_that_closes_ends_handshakes_and_blames_nobody(authority: Authority) -> None:
    with opened(authority) as door:
        peers = [door.connect() for _ in range(3)]
        deadline = time.monotonic() + 5
        while len(door.listener._shaking) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert [peer.recv(1) for peer in peers] == [b""] * 3
    assert door.failures == []
    for peer in peers:
        peer.close()


def test_whoever_has_shaken_longest_makes_way(authority: Authority) -> None:
    """Of one address its own oldest, so that others keep their place."""
    context = authority.client(authority.issue("ct1", "ct1.hospital.example"))
    bounds = Bounds(deadline_s=5, together=4, of_one_address=2)
    with opened(authority, bounds) as door, ExitStack() as stack:
        other = stack.enter_context(door.connect("127.0.0.2"))
        first, second = (stack.enter_context(door.connect()) for _ in range(2))
        assert door.says_to(context).startswith("welcome")
        assert first.recv(1) == b""
        assert door.failures == ["it made way for others"]
        for peer in (other, second):
            peer.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer.recv(1)
