"""Actors of the scenario tests: a whole `broker run`, a bare MLLP peer, a pynetdicom scanner."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Self

from broker.probe.address import Address
from broker.probe.orders import Order, Patient, Step
from broker.probe.scanner import STEP, Scanner, worklist_keys
from broker.store import archive
from broker.store.archive import Archived
from broker.store.executors import Store
from broker.store.server import embedded_url

PATIENCE_S = 60.0
CONFIG = """\
data: data
timezone: Europe/Berlin
hl7:
  {listen: '127.0.0.1:0', processes: 2, limits: {message_deadline: 1s, connections_per_host: 200}}
dicom: {listen: '127.0.0.1:0', limits: {pdu_deadline: 1s, association_deadline: 5s}}
console: {listen: '127.0.0.1:0'}
"""


def until(true: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S) -> Any:
    """Wait for something to be true; gives what `true` gave."""
    deadline = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what} did not happen within {patience_s:g} s"
        time.sleep(0.02)
    return found


class Broker:
    """A `broker run` on a folder of its own that can be killed and started again."""

    def __init__(self, config: str = CONFIG) -> None:
        # Redis's socket has to fit into 107 bytes; pytest's own folders are too deep.
        self.folder = Path(tempfile.mkdtemp(prefix="doors-"))
        (self.folder / "broker.yaml").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None
        self.store = Store(embedded_url(self.folder / "data"))
        self._where: dict[str, Address] = {}
        self._seen: set[int] = set()

    def start(self) -> Self:
        """Start, and wait until it says that it is ready."""
        self.launch().ready()
        return self

    def launch(self, *arguments: str, **environ: str) -> Self:
        """Start it, and wait for nothing."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
        config = self.folder / "broker.yaml"
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker", "run", "--config", config, *arguments],
                env=clean | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return self

    def ready(self) -> dict[str, Address]:
        """Where it listens, by door, once it says so."""
        deadline = time.monotonic() + PATIENCE_S
        while "\n" not in self.said() and self.runs and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.said().startswith("ready "), self.log()[-3000:]
        words = dict(word.split("=") for word in self.said().split()[1:])
        self._where = {name: _address(place) for name, place in words.items()}
        self.children()
        return self._where

    def said(self) -> str:
        """What it has written to stdout."""
        return (self.folder / "out").read_text()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def hl7(self) -> Address:
        return self._where["hl7"]

    @property
    def dicom(self) -> Address:
        return self._where["dicom"]

    @property
    def console(self) -> Address:
        return self._where["console"]

    @property
    def scanner(self) -> Scanner:
        return Scanner(self.dicom, calling="CT1")

    def log(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    def children(self, pattern: str = "") -> set[int]:
        """The living processes it started whose command line has `pattern`."""
        return set(self.commands(pattern))

    def commands(self, pattern: str = "") -> dict[int, str]:
        """Their command lines."""
        assert self.process is not None
        processes = list(_processes())
        direct = {pid for pid, parent, _ in processes if parent == self.process.pid}
        found = {
            pid: command.strip()
            for pid, parent, command in processes
            if parent in {self.process.pid, *direct} and re.search(pattern, command)
        }
        self._seen |= set(found)
        return found

    def processor_s(self, pattern: str) -> float:
        """Processor time that these children have taken: what other programs do does not count."""
        ticks = 0
        for pid in self.children(pattern):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def kill(self, pattern: str) -> None:
        """kill -9 of the child, or children, with `pattern` in the command line."""
        victims = self.children(pattern)
        assert victims, f"nobody runs {pattern}"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://{self.console}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if re.match(rf"{name}[ {{]", line) and all(each in line for each in wanted)
        )

    def archived(self, limit: int = 50) -> list[Archived]:
        """The newest messages of the archive, newest first."""
        return self.store.run(archive.newest(limit))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send this signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    @contextmanager
    def started(self) -> Iterator[Self]:
        """Started, and ended whatever happens."""
        try:
            yield self.start()
        finally:
            self.end()

    def end(self) -> None:
        """End whatever still runs of it, by process id, and remove the folder."""
        if self.runs and self.process is not None:
            self.children()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # The doors die with their supervisor; Redis, which may be a stopped process, is seen to.
        ours = {pid for pid, _, command in _processes() if str(self.folder) in command}
        for pid in self._seen & ours:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _address(place: str) -> Address:
    host, port = place.split(",")[0].rsplit(":", 1)  # the first of several
    return Address(host, int(port))


def _processes() -> Iterable[tuple[int, int, str]]:
    """Every living process: its id, its parent's, its command line."""
    listed = subprocess.run(
        ["ps", "-e", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if state[0] != "Z":
            yield int(pid), int(parent), command


def living(pids: Iterable[int]) -> set[int]:
    """Those of these processes that still live."""
    return set(pids) & {pid for pid, _, _ in _processes()}


# --- HL7


@dataclass(frozen=True)
class Answer:
    """An acknowledgement as it came."""

    raw: bytes

    @property
    def code(self) -> str:
        return self._field("MSA", 1)

    @property
    def control_id(self) -> str:
        return self._field("MSA", 2)

    @property
    def error(self) -> str:
        """The whole ERR segment, '' when there is none."""
        return next((s for s in self.raw.decode().split("\r") if s.startswith("ERR")), "")

    def _field(self, name: str, number: int) -> str:
        segments = (segment.split("|") for segment in self.raw.decode().split("\r"))
        return next(fields[number] for fields in segments if fields[0] == name)


class Closed(Exception):
    """The broker closed the connection and did not answer."""


class Line:
    """One MLLP connection of a sender that knows nothing but VT, FS and CR."""

    def __init__(self, to: Address, deadline_s: float = 30.0) -> None:
        self._socket = socket.create_connection(to, timeout=deadline_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send(self, message: bytes) -> Answer:
        """Send one message, wait for one answer; raises Closed."""
        self.write(b"\x0b" + message + b"\x1c\r")
        return self.answer()

    def answer(self) -> Answer:
        """Wait for one more answer; raises Closed."""
        while b"\x1c\r" not in self._read:
            if not (data := self._socket.recv(1 << 16)):
                raise Closed
            self._read += data
        block, self._read = self._read.split(b"\x1c\r", 1)
        return Answer(block.removeprefix(b"\x0b"))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send(to: Address, message: bytes, deadline_s: float = 30.0) -> Answer:
    """Send one message over a connection of its own."""
    with Line(to, deadline_s) as line:
        return line.send(message)


def accepted(to: Address, *messages: bytes) -> None:
    """Send messages that all must be taken."""
    with Line(to) as line:
        for message in messages:
            answer = line.send(message)
            assert answer.code in ("AA", "CA"), answer.raw


_NUMBERS = count(1)


def new_order(*steps: Step, patient: Patient | None = None, **changes: Any) -> Order:
    """An order whose every number is new in this test run."""
    number = f"{os.getpid() % 100000:05d}{next(_NUMBERS):04d}"
    person = Patient(f"P{number}", f"MUSTER{number}^MIRJAM")
    order = Order(
        patient=patient or person,
        accession=f"A{number}",
        procedure_id=f"R{number}",
        study_uid=f"1.2.276.0.76.999.7.{int(number)}",
        placer=f"PL{number}",
        filler=f"FL{number}",
        visit=f"V{number}",
        start=datetime(2026, 3, 16, 9, 30),  # noqa: DTZ001 - a RIS writes local time
        steps=steps or (Step(step_id=f"S{number}"),),
    )
    return replace(order, **changes)


# --- DICOM


def find(broker: Broker, **asked: str) -> list[dict[str, Any]]:
    """What a scanner sees, asked by the words of worklist_keys."""
    return broker.scanner.find(worklist_keys(**asked))


def of_accession(broker: Broker, order: Order) -> list[dict[str, Any]]:
    """The entries of one order."""
    return find(broker, accession=order.accession)


def only(broker: Broker, order: Order) -> dict[str, Any]:
    """The one entry of an order."""
    (item,) = of_accession(broker, order)
    return item


def step_of(item: dict[str, Any]) -> dict[str, Any]:
    (step,) = item[STEP]
    return dict(step)
