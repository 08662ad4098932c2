"""What a command tells the audit trail: all at once, so that one that is away costs once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from broker.cli import auditing
from broker.settings import Settings
from tests.audit.reading import read
from tests.tls.authority import Authority

ROWS = [(f"P{number}", f"A{number}") for number in range(3 * auditing.AT_ONCE + 1)]


def settings(**audit: str) -> Settings:
    return Settings.load(None, {f"BROKER_AUDIT__{name}": text for name, text in audit.items()})


@contextmanager
def hanging_up() -> Iterator[tuple[int, list[str]]]:
    """A collector that hangs up at once, and who has called it."""
    called: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                called.append("")
                peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1], called
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def test_a_long_list_calls_a_collector_that_is_away_once_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = Authority(tmp_path).ca
    with hanging_up() as (port, called):
        to = {"TO": "syslog", "HOST": f"127.0.0.1:{port}", "TRANSPORT": "tls", "TLS__CA": f"{ca}"}
        auditing.of_reading(settings(**to), "list", ROWS)
    assert len(called) == 1
    assert capsys.readouterr().err.count("could not be told") == 1


def test_a_long_list_is_told_in_messages_that_a_collector_can_take(tmp_path: Path) -> None:
    path = tmp_path / "trail"
    auditing.of_reading(settings(TO="file", PATH=f"{path}"), "list", ROWS)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4
    named = [found.get("ParticipantObjectID") for line in lines for found in _objects(line)]
    assert {person for person, _ in ROWS} <= set(named)


def _objects(line: bytes) -> list[Xml.Element]:
    return list(read(line).iter("ParticipantObjectIdentification"))


def test_where_there_is_no_trail_nothing_is_looked_up_for_it() -> None:
    def rows() -> Iterator[tuple[str, str]]:
        raise AssertionError
        yield "", ""

    auditing.of_reading(settings(), "list", rows())
