"""A RIS over TLS: it has to be who it should be, and one that is silent keeps nobody for long."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.probe.ris import Sink
from broker.settings import Address, Ris
from broker.settings.tls import ClientTls
from broker.settings.updates import Verdict
from broker.store.outbox import Event
from broker.updates.reaching import Unreachable
from broker.updates.sender import Line
from tests.tls.authority import Authority

MESSAGE = b"MSH|^~\\&|B|H|RIS|H|20260316||ORM^O01|M1|P|2.3.1\rORC|SC|1||||CM\r"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def sink(authority: Authority) -> Iterator[Sink]:
    """A RIS that wants a certificate of the broker."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(authority.issue("ris", "ris.example"))
    context.verify_mode = ssl.CERT_REQUIRED
    sink = Sink(tls=context)
    sink.start()
    yield sink
    sink.stop()


def line_to(to: tuple[str, int], authority: Authority, **tls: object) -> Line:
    said = {"ca": authority.ca, "certificate": authority.issue("broker", "b"), **tls}
    said.setdefault("server_name", "ris.example")
    return Line(
        Ris(
            name="ris",
            to=Address(*to),
            connect_timeout_s=1,
            ack_timeout_s=1,
            tls=ClientTls.model_validate(said),
        )
    )


def sent(line: Line) -> Verdict:
    event = Event("ris", "H|1", "M1", time.time(), "status-orm", "COMPLETED", MESSAGE)
    line.connect()
    return line.send(event, lambda: None, doubt=False).verdict


def test_messages_go_over_one_kept_connection(sink: Sink, authority: Authority) -> None:
    line = line_to(sink.address, authority)
    assert [sent(line) for _ in range(3)] == [Verdict.DONE] * 3
    assert {each.connection for each in sink.received} == {1}
    sink.stop()
    assert not line.is_open()
    line.close()


@pytest.mark.parametrize(
    ("tls", "fact"),
    [
        ({"server_name": "other.example"}, "Hostname mismatch"),
        ({"server_name": ""}, "mismatch"),  # then it is the host that we call
        ({"ca": None}, "self-signed certificate|unable to get local issuer"),
    ],
)
def test_a_ris_that_does_not_prove_its_name_is_sent_nothing(
    sink: Sink, authority: Authority, tls: dict[str, object], fact: str
) -> None:
    line = line_to(sink.address, authority, **tls)
    with pytest.raises(Unreachable, match=fact):
        line.connect()
    line.close()
    assert sink.received == []


def test_a_ris_whose_certificate_has_ended_is_sent_nothing(authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue("old", "ris.example", until=past))
    sink = Sink(tls=context)
    line = line_to(sink.start(), authority)
    with pytest.raises(Unreachable, match="certificate has expired"):
        line.connect()
    line.close()
    sink.stop()


def test_a_ris_that_does_not_take_our_certificate_gets_it_again_later(
    sink: Sink, authority: Authority, tmp_path: Path
) -> None:
    """With TLS 1.3 it says so after the handshake; then nothing was taken."""
    strange = Authority(tmp_path).issue("broker", "b")
    line = line_to(sink.address, authority, certificate=strange)
    with suppress(Unreachable):  # as soon as that
        assert sent(line) is Verdict.RETRY
    line.close()
    assert sink.received == []


def test_a_ris_that_is_silent_in_the_handshake_is_given_up_in_time(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = line_to(server.getsockname(), authority)
        with pytest.raises(Unreachable, match="TLS: it did not finish the handshake in time"):
            line.connect()
        line.close()


def test_a_ris_that_speaks_no_tls_is_told_apart(authority: Authority) -> None:
    def talk(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"\x0bMSH|^~\\&|plain\x1c\r")
            peer.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk, args=(server,))
        thread.start()
        line = line_to(server.getsockname(), authority)
        with pytest.raises(Unreachable, match="TLS: it does not speak TLS"):
            line.connect()
        line.close()
        thread.join(5)
