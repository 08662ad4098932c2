"""What the tests of the updates door act with: processes, reports, short intervals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from multiprocessing.connection import Connection
from typing import Any, Protocol

from broker.probe.ris import Answer, Sink
from broker.settings import Address, Destination, Forward, Ris, Settings
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import Store
from broker.store.outbox import Event
from broker.updates.drain import Attempt, Drain
from broker.updates.pace import Pace

QUICK = {
    "sweep_s": 0.1,
    "wake_s": 0.1,
    "lease_s": 1.5,
    "renew_s": 0.3,
    "backoff_s": [0.1, 0.2],
    "away_s": 0.0,
    "stop_grace_s": 0.5,
    "store_away_s": 0.1,
}
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["broker.updates.door"])


@dataclass
class Reports:
    """What a scanner's reports leave behind: one commit with one status message each."""

    store: Store
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def __call__(self, order: str = "H|A1", ris: str = "ris", how_many: int = 1) -> list[str]:
        """Add messages; returns their control IDs."""
        return [self._one(order, ris) for _ in range(how_many)]

    def _one(self, order: str, ris: str) -> str:
        control_id = f"M{next(self.ids)}"
        payload = (
            f"MSH|^~\\&|BROKER|H|RIS|H|20260316||ORM^O01|{control_id}|P|2.3.1||||||UNICODE UTF-8\r"
            f"PID|||P1||Müller^Jörg\rORC|SC|{order}||||CM\r"
        ).encode()
        facts = {"attributes": {"PatientName": "Müller^Jörg"}, "at": "2026-03-16T09:30:00"}
        at, mapping = time.time(), "status-orm"
        event = Event(ris, order, control_id, at, mapping, "COMPLETED", payload, facts=facts)
        outcome = self.store.run(commit(Commit(at=datetime.now(UTC), events=[event])))
        assert isinstance(outcome, Committed)
        return control_id


def quick(**changes: Any) -> Pace:
    """The quick pace of tests."""
    return Pace(**{**QUICK, "backoff_s": tuple(QUICK["backoff_s"]), **changes})  # type: ignore[arg-type]


def ris(sink: Sink | Address, name: str = "ris", **changes: Any) -> Ris:
    """Settings of one RIS."""
    to = sink if isinstance(sink, tuple) else Address(*sink.address)
    facts = {"connect_timeout_s": 1, "ack_timeout_s": 0.5, **changes}
    return Ris(name=name, to=Address(*to), **facts)


class Job(Protocol):
    """Makes the job as the worker has it, without RQ around it."""

    def __call__(
        self, target: Destination, observe: Callable[[Attempt], None] = ..., **pace: Any
    ) -> Drain: ...


class Process:
    """A process of the updates door, forked where everything is loaded, as `broker run` does it."""

    def __init__(self, settings: dict[str, Any], pace: dict[str, Any], instance: int) -> None:
        self._bound, theirs = FORKING.Pipe(duplex=False)
        self._process = FORKING.Process(target=_serve, args=(settings, pace, instance, theirs))
        self._process.start()
        theirs.close()

    def ready(self) -> dict[str, str]:
        """What it says once it works."""
        assert self._bound.poll(30), "it is not ready"
        return dict(self._bound.recv())

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 30.0) -> int | None:
        """Its exit code, None when it does not end in time."""
        self._process.join(seconds)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._bound.close()


def _serve(
    settings: dict[str, Any], pace: dict[str, Any], instance: int, bound: Connection
) -> None:
    from broker.updates.door import serve

    serve(
        Settings.model_validate(settings),
        ready=lambda where: bound.send(dict(where)),
        instance=instance,
        pace=quick(**pace),
    )


@dataclass
class Door:
    """Processes of the updates door."""

    url: str
    targets: tuple[Destination, ...] = ()
    pace: dict[str, Any] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)

    def start(self, *targets: Destination, **pace: Any) -> list[Process]:
        """Start the dispatcher and a worker for each RIS."""
        self.targets = targets
        self.pace |= pace
        workers = sum(target.connections for target in targets)
        processes = [self.launch(instance) for instance in range(workers + 1)]
        for process in processes:
            process.ready()
        return processes

    def launch(self, instance: int) -> Process:
        """Start one process."""
        forward = [_said(target) for target in self.targets if isinstance(target, Forward)]
        settings = {
            "redis": {"mode": "url", "url": self.url},
            "ris": [_said(target) for target in self.targets if isinstance(target, Ris)],
            "updates": {"forward": forward},
        }
        self.processes.append(Process(settings, self.pace, instance))
        return self.processes[-1]

    def stop(self) -> None:
        """End all, which they do by themselves when they are told to."""
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait() for process in running] == [0] * len(running)
        for process in self.processes:
            process.close()


def _said(target: Destination) -> dict[str, Any]:
    return {**target.model_dump(mode="json", exclude={"to"}), "to": str(target.to)}


def control_ids(sink: Sink, *answers: Answer) -> list[str]:
    """What the RIS got, in order; only messages answered so, when answers are given."""
    return [
        message.field("MSH", 10)
        for message in sink.received
        if not answers or message.answer in answers
    ]


def eventually(true: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
