"""Where messages go: a file that processes share, collectors; what is lost is counted."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from broker.audit import trail as trails
from broker.audit.events import Activity, Alarm
from broker.audit.places import File
from broker.audit.trail import Silence, Trail, kept
from broker.settings import Settings
from tests.audit.reading import event, read
from tests.tls.authority import Authority

AT = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)


def settings(folder: Path, **audit: object) -> Settings:
    return Settings.model_validate({"data": str(folder), "audit": audit})


def alarm(number: int) -> Alarm:
    return Alarm(AT, f"AE{number}", "10.0.0.1", "fact")


def numbers(lines: list[bytes]) -> list[int]:
    """Which alarms these lines are, in order; each is read against the schema."""
    found = []
    for line in lines:
        if event(read(line)) == "110113":
            found += [
                int(each)
                for each in re.findall(rb'ParticipantObjectID="10.0.0.1".*?>AE(\d+)<', line)
            ]
    return found


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_file_begins_with_the_start_and_ends_with_the_stop(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with kept(settings(tmp_path, to="file"), "orders", registry) as trail:
        for number in range(100):
            trail.note(alarm(number))
    path = tmp_path / "audit.log"
    lines = path.read_bytes().splitlines()
    assert [event(read(line)) for line in (lines[0], lines[-1])] == ["110100", "110100"]
    assert numbers(lines) == list(range(100))
    assert path.stat().st_mode & 0o777 == 0o600
    count = registry.get_sample_value("broker_orders_audit_total", {"event": "Security Alert"})
    assert count == 100


def test_without_a_trail_nothing_is_written(tmp_path: Path) -> None:
    with kept(settings(tmp_path), "orders", CollectorRegistry()) as trail:
        assert isinstance(trail, Silence)
        trail.note(alarm(1))
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from broker.audit.places import File
file = File(Path(sys.argv[1]), 2_000, 50)
for number in range(200):
    file.write(f"{sys.argv[2]}-{number}-{'x' * 20}".encode(), datetime.now(UTC))
"""


def test_processes_share_a_file_that_begins_anew_and_no_line_is_lost_or_torn(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trail"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=Path.cwd())
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    files = sorted(tmp_path.iterdir(), key=lambda each: int(each.suffix[1:] or 0), reverse=True)
    assert 5 < len(files) < 50
    assert all(each.stat().st_size <= 2_200 for each in files)
    lines = [line for each in files for line in each.read_text().splitlines()]
    for name in ("a", "b", "c"):
        mine = [int(line.split("-")[1]) for line in lines if line.startswith(f"{name}-")]
        assert sorted(mine) == list(range(200))


def test_the_oldest_file_goes_and_one_that_was_taken_away_begins_anew(tmp_path: Path) -> None:
    file = File(tmp_path / "trail", max_bytes=100, files=3)
    for number in range(20):
        file.write(b"%02d" % number + b"." * 50, AT)
    assert {each.name for each in tmp_path.iterdir()} == {"trail", "trail.1", "trail.2"}
    (tmp_path / "trail").rename(tmp_path / "taken")
    file.write(b"new", AT)
    file.close()
    assert (tmp_path / "trail").read_bytes() == b"new\n"


def test_a_collector_hears_udp(tmp_path: Path) -> None:
    """RFC 5426, RFC 5424: <85>, version 1, DICOM+RFC3881, UTF-8 with its mark."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        host = f"127.0.0.1:{collector.getsockname()[1]}"
        with kept(settings(tmp_path, to="syslog", host=host), "orders", CollectorRegistry()) as t:
            t.note(alarm(7))
            heard = [collector.recv(65536) for _ in range(2)]
    for each in heard:
        found = re.fullmatch(
            rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 \S+ broker \d+ "
            rb"DICOM\+RFC3881 - \xef\xbb\xbf(.*)",
            each,
        )
        assert found, each
        read(found[1])
    assert b"AE7" in heard[1]


class Collector:
    """A syslog receiver over TLS that counts octets (RFC 5425) and can be away."""

    def __init__(self, authority: Authority) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
        self.context.load_cert_chain(authority.issue("collector", "localhost"))
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.heard: list[bytes] = []
        self.port = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", self.port)) as server:
            self.port = server.getsockname()[1]
            connections: list[socket.socket] = []
            thread = threading.Thread(target=self._serve, args=(server, connections))
            thread.start()
            try:
                yield
            finally:
                with suppress(OSError):
                    server.shutdown(socket.SHUT_RDWR)
                for each in connections:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                thread.join(5)

    def _serve(self, server: socket.socket, connections: list[socket.socket]) -> None:
        while True:
            try:
                raw, _ = server.accept()
                connection = self.context.wrap_socket(raw, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            connections.append(connection)
            with connection, connection.makefile("rb") as stream, suppress(OSError):
                while head := stream.read(1):
                    while not head.endswith(b" "):
                        head += stream.read(1)
                    self.heard.append(stream.read(int(head)))

    @property
    def messages(self) -> list[bytes]:
        return [each.partition(b"\xef\xbb\xbf")[2] for each in self.heard]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "AGAIN_S", 0.05)


def secure(authority: Authority, port: int, **more: object) -> dict[str, object]:
    client = authority.issue("broker", "broker.example")
    tls = {"ca": str(authority.ca), "certificate": str(client)}
    return {"to": "syslog", "host": f"localhost:{port}", "transport": "tls", "tls": tls, **more}


def test_a_tls_collector_that_was_away_hears_everything_in_order(
    tmp_path: Path, quick: None
) -> None:
    authority = Authority(tmp_path)
    collector, registry = Collector(authority), CollectorRegistry()
    with collector.listening():
        pass
    audit = secure(authority, collector.port)
    with kept(settings(tmp_path, **audit), "modality", registry) as trail:
        for number in range(10):
            trail.note(alarm(number))
        with collector.listening():
            until(lambda: len(collector.heard) == 11)
        for number in range(10, 20):  # it is away again
            trail.note(alarm(number))
        with collector.listening():
            until(lambda: numbers(collector.messages)[-1:] == [19])
            trail.note(alarm(20))
            until(lambda: numbers(collector.messages)[-1:] == [20])
        assert registry.get_sample_value("broker_modality_audit_lost_total") == 0
    assert numbers(collector.messages) == list(range(21))
    lost = registry.get_sample_value("broker_modality_audit_lost_total")
    assert lost in (0, 1), "nobody is there to hear that the door stops, if we know it yet"


def test_a_collector_that_nobody_trusts_hears_nothing(tmp_path: Path, quick: None) -> None:
    authority, other = Authority(tmp_path / "a"), Authority(tmp_path / "b")
    collector = Collector(other)
    with collector.listening(), capture_logs() as lines:
        audit = secure(authority, collector.port)
        with kept(settings(tmp_path, **audit), "orders", CollectorRegistry()):
            until(lambda: any(line["event"] == "audit messages wait" for line in lines))
    assert collector.heard == []


class Stuck:
    """A place that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.open, self.written = threading.Event(), list[bytes]()

    def write(self, message: bytes, at: datetime) -> None:
        self.open.wait(20)
        self.written.append(message)

    def close(self) -> None:
        self.written.append(b"closed")


def stuck(tmp_path: Path, registry: CollectorRegistry, **audit: object) -> tuple[Trail, Stuck]:
    place, us = Stuck(), trails.Us("B", "h", "p")
    chosen = settings(tmp_path, to="file", **audit).audit
    return Trail(chosen, place, us, "", "orders", registry), place


def test_what_finds_no_room_is_lost_counted_and_said_once(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    trail, place = stuck(tmp_path, registry, buffer=10)
    with capture_logs() as lines:
        began = time.monotonic()
        for number in range(100):
            trail.note(alarm(number))
        assert time.monotonic() - began < 10, "the door goes on"
    lost = registry.get_sample_value("broker_orders_audit_lost_total")
    assert lost in (89, 90)
    assert [line["event"] for line in lines] == ["audit messages lost"]
    place.open.set()
    trail.close()
    assert len(place.written) == 100 - lost + 1


def test_where_nothing_may_be_lost_the_door_waits(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    trail, place = stuck(tmp_path, registry, buffer=2, when_full="wait")
    door = threading.Thread(target=lambda: [trail.note(alarm(n)) for n in range(10)])
    door.start()
    door.join(0.3)
    assert door.is_alive()
    place.open.set()
    door.join(5)
    assert not door.is_alive()
    trail.close()
    assert numbers(place.written[:-1]) == list(range(10))
    assert registry.get_sample_value("broker_orders_audit_lost_total") == 0


def test_a_bug_over_one_event_costs_that_event_only(tmp_path: Path) -> None:
    class Odd(Activity):
        def message(self, us: trails.Us):  # type: ignore[no-untyped-def]
            raise KeyError("Doe^Jane")

    registry = CollectorRegistry()
    with (
        capture_logs() as lines,
        kept(settings(tmp_path, to="file"), "orders", registry) as trail,
    ):
        trail.note(Odd(AT, True))
        trail.note(alarm(1))
    assert numbers((tmp_path / "audit.log").read_bytes().splitlines()) == [1]
    assert registry.get_sample_value("broker_orders_audit_lost_total") == 1
    assert "KeyError" in str(lines)
    assert "Doe" not in str(lines)
