"""The lines of a running broker: what each door says of what it did, and from which level on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from broker.bench.dicom import Association
from broker.bench.entries import entries, order_frame, question
from broker.bench.exams import FIRST, Exams
from broker.bench.mllp import PATIENCE_S, Conversation
from broker.bench.ris import Ris, listening
from broker.probe.address import Address
from broker.probe.throwaway import Running, throwaway_broker
from tests.doors.actors import until

pytestmark = pytest.mark.peer("redis-server")
Line = dict[str, Any]


@contextmanager
def played(**said: str) -> Iterator[tuple[Running, Ris]]:
    """A broker with these settings of `log` after an order, a list, an exam, pages, a bare port."""
    now = datetime.now().astimezone()
    environ = {f"BROKER_LOG__{name.upper()}": level for name, level in said.items()}
    with (
        listening() as ris,
        throwaway_broker(Address("127.0.0.1", ris.port), said=environ) as running,
    ):
        with closing(Conversation(socket.create_connection(running.hl7, PATIENCE_S))) as sender:
            sender.send(order_frame(entries(FIRST, 1, now.date())[0], sent=now))
            until(sender.answered, "the acknowledgement")
        with closing(Association(running.dicom, calling="CT1")) as scanner:
            assert scanner.find(question(now.date())) == 1
            scanner.release()
        with closing(Exams(running.dicom)) as exams:
            assert (exams.begin(FIRST), exams.end(FIRST)) == (0, 0)
        until(lambda: len(ris.heard) == 2, "both status messages")
        for page in ("healthz", "ACC1"):
            with closing(socket.create_connection(console(running), PATIENCE_S)) as browser:
                browser.sendall(f"GET /{page} HTTP/1.0\r\n\r\n".encode())
                while browser.recv(4096):
                    pass
        socket.create_connection(running.dicom, PATIENCE_S).close()
        yield running, ris


def console(running: Running) -> tuple[str, int]:
    words = running.log.with_name("out").read_text().split()
    host, port = next(w for w in words if w.startswith("console=")).partition("=")[2].split(":")
    return host, int(port)


def lines(log: Path, *, event: str = "", door: str = "") -> list[Line]:
    found = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        each for each in found if event in ("", each["event"]) and door in ("", each.get("door"))
    ]


def test_each_door_has_a_line_for_each_thing_with_ids_outcome_and_milliseconds() -> None:
    with played(level="debug") as (running, ris):
        log = running.log
        until(lambda: len(lines(log, event="association")) == 3, "three associations")
        until(lambda: len(lines(log, event="status message sent")) == 2, "two lines of updates")
        until(lambda: len(lines(log, door="console", event="request")) == 2, "two pages")
        [message] = lines(log, event="message")
        requests = lines(log, event="request", door="modality")
        associations = {each["port"]: each for each in lines(log, event="association")}
        exams = lines(log, event="mpps")
        told = lines(log, event="status message sent")
        pages = lines(log, event="request", door="console")
        heard = [each.control_id.decode() for each in ris.heard]
        everything = lines(log)
    assert {name: message[name] for name in ("ack", "source", "type", "control_id", "orders")} == {
        "ack": "AA",
        "source": "BENCHRIS|NORTH",
        "type": "ORM^O01",
        "control_id": f"B{FIRST}",
        "orders": [f"NORTH|ACC{FIRST}"],
    }
    assert [(each["kind"], each["status"]) for each in requests] == [
        ("C-FIND", "0000"),
        ("N-CREATE", "0000"),
        ("N-SET", "0000"),
    ]
    assert associations[requests[0]["port"]]["outcome"] == "released"
    assert associations[requests[1]["port"]]["requests"] == 2
    assert {each["sop_instance"] for each in exams} == {f"1.2.276.0.76.999.5.{FIRST}"}
    assert [(each["control_id"], each["verdict"]) for each in told] == [(h, "done") for h in heard]
    assert {each["order"] for each in told} == {f"NORTH|ACC{FIRST}"}
    assert [(each["page"], each["status"]) for each in pages] == [("/healthz", 200), ("", 404)]
    for each in (message, *requests, *associations.values(), *exams, *told, *pages):
        assert each["ms"] >= 0
    assert {each["instance"] for each in everything if "instance" in each} == {0, 1}


def test_a_door_says_from_its_own_level_on_and_the_others_from_that_of_all() -> None:
    said = {"doors__orders": "info", "doors__modality": "debug"}
    with played(level="error", **said) as (running, _):
        until(lambda: len(lines(running.log, event="association")) == 3, "three associations")
        found = lines(running.log)
    assert {each["door"] for each in found} == {"orders", "modality"}
    assert {each["event"] for each in found if each["door"] == "orders"} == {"message"}


def test_one_door_may_be_quieter_than_all() -> None:
    said = {f"doors__{door}": "error" for door in ("orders", "modality", "run")}
    with played(level="debug", **said) as (running, _):
        until(lambda: len(lines(running.log, event="status message sent")) == 2, "two messages")
        until(lambda: len(lines(running.log, door="console", event="request")) == 2, "two pages")
        found = lines(running.log)
    assert {each["door"] for each in found} == {"updates", "console"}


def test_a_door_that_nobody_knows_ends_the_start_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "broker.yaml"
    config.write_text("log: {level: info, doors: {order: debug}}\n")
    command = [sys.executable, "-m", "broker", "config", "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "order" in done.stdout + done.stderr
    assert "orders" in done.stdout + done.stderr
