"""AE titles and senders are a peer's to choose: they steer no terminal, line, key or file."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import unicodedata
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.probe.orders import orm_o01
from broker.probe.scanner import to_dataset
from tests.dicom.requestor import associate_rq, find_rq, implicit
from tests.doors.actors import Broker, new_order, send, until
from tests.modality.door import exactly

pytestmark = pytest.mark.peer("redis-server")

HOSTILE = [
    b"*",
    b"?[A-Z]",
    b"../../../x",
    b"/etc/passwd",
    b"%s%s%n%x",
    b"{0.__class__}",
    b"\x1b[2J\x1b[31mRED",
    b"A\r\nlevel=error",
    b"\xe2\x80\xaeTXET\xe2\x81\xa6",  # right-to-left marks, as bytes of UTF-8
    b"';DROP TABLE--",
    b"$(touch x)`id`",
    b'{broker}:*"\\n',
    b"\x00\x07\x7f\x9b31m",
]
STEERS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that a terminal or an editor obeys."""


def steering(text: str) -> set[str]:
    found = {c for c in text if unicodedata.category(c) in STEERS}
    return found - {"\n", "\t"}


def asks_as(broker: Broker, title: bytes) -> None:
    """An association under this title, from and to, and a query over it."""

    named = title[:16].ljust(16)
    request = associate_rq()
    for called in (b"BROKER".ljust(16), named):
        with socket.create_connection(broker.dicom, timeout=30) as peer:
            peer.sendall(request[:10] + called + named + request[42:])
            header = exactly(peer, 6)
            exactly(peer, int.from_bytes(header[2:], "big"))
            if header[0] == 2:
                peer.sendall(find_rq(identifier=implicit(to_dataset({"PatientName": ""}))))
                header = exactly(peer, 6)
                assert header[0] == 4


def sends_as(broker: Broker, name: bytes) -> None:
    """A good order, and one that is refused, whose MSH-3, 4 and 10 are this."""
    plain = name.replace(b"|", b"").replace(b"\r", b"").replace(b"\n", b"")
    for message in (orm_o01(new_order()), orm_o01(new_order(accession=""))):
        head = b"MSH|^~\\&|" + plain + b"|" + plain + b"|"
        odd = re.sub(rb"\AMSH\|\^~\\&\|[^|]*\|[^|]*\|", lambda _, h=head: h, message)
        fields = odd.split(b"|")
        fields[9] = plain + b"%d" % len(message)
        with suppress(AssertionError):
            send(broker.hl7, b"|".join(fields))


def test_hostile_names_steer_no_terminal_and_break_no_line_metric_key_or_file(
    broker: Broker,
) -> None:
    files = {path.name for path in broker.folder.rglob("*") if "redis" not in str(path)}
    before = len(broker.log())
    for name in HOSTILE:
        asks_as(broker, name)
        sends_as(broker, name)
    until(lambda: broker.log()[before:].count('"kind": "C-FIND"') >= len(HOSTILE), "all are logged")

    said = broker.log()[before:]
    assert steering(said) == set(), "what is no letter is escaped"
    assert all(json.loads(line) for line in said.splitlines()), "no line is made by a name"

    def metrics() -> str:
        with urllib.request.urlopen(f"http://{broker.console}/metrics", timeout=30) as answer:
            return answer.read().decode()

    until(lambda: "DROP TABLE" in metrics(), "senders are counted")
    shown = metrics()
    assert steering(shown) == set()
    assert list(text_string_to_metric_families(shown))

    assert files == {path.name for path in broker.folder.rglob("*") if "redis" not in str(path)}
    assert not Path("x").exists()


@pytest.mark.parametrize(
    "verb", ["ae list", "log", "log --since 1h", "dead list", "status", "list"]
)
def test_no_table_of_a_command_is_steered(broker: Broker, verb: str) -> None:
    for name in HOSTILE[5:8]:
        asks_as(broker, name)
        sends_as(broker, name)
    told = subprocess.run(
        [sys.executable, "-m", "broker", *verb.split(), "--config", broker.folder / "broker.yaml"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert told.returncode in (0, 1), told.stderr
    assert steering(told.stdout + told.stderr) == set()


def test_a_title_is_no_pattern(broker: Broker) -> None:
    """Who calls itself `*` sees no more, and is remembered, as one AE of that name."""
    asks_as(broker, b"*")

    def known() -> list[str]:
        told = subprocess.run(
            [
                *(sys.executable, "-m", "broker", "ae", "list", "--json"),
                *("--config", str(broker.folder / "broker.yaml")),
            ],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        return [ae["title"] for ae in json.loads(told.stdout)["aes"]]

    until(lambda: known().count("*") == 1, "it is known by its name")
