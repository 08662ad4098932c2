"""What the tests of the updates door act with: processes, reports, short intervals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

from broker.probe.ris import Answer, Sink
from broker.settings import Address, Redis, Ris, Settings
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
    "hold_s": 0.3,
    "stop_grace_s": 0.5,
    "store_away_s": 0.1,
}
DOOR = """
import json, sys
from broker.settings import Settings
from broker.updates.door import serve
from broker.updates.pace import Pace
facts = json.loads(sys.argv[1])
pace = Pace(**{**facts["pace"], "backoff_s": tuple(facts["pace"]["backoff_s"])})
serve(
    Settings.model_validate(facts["settings"]),
    ready=lambda bound: print(json.dumps(bound), flush=True),
    instance=facts["instance"],
    pace=pace,
)
"""


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
        event = Event(ris, order, control_id, time.time(), "status-orm", "COMPLETED", payload)
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
        self, target: Ris, observe: Callable[[Attempt], None] = ..., **pace: Any
    ) -> Drain: ...


@dataclass
class Door:
    """Processes of the updates door."""

    url: str
    targets: tuple[Ris, ...] = ()
    pace: dict[str, Any] = field(default_factory=lambda: dict(QUICK))
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *targets: Ris, **pace: Any) -> list[subprocess.Popen[str]]:
        """Start the dispatcher and a worker for each RIS."""
        self.targets = targets
        self.pace |= pace
        processes = [self.launch(instance) for instance in range(len(targets) + 1)]
        for process in processes:
            _await_ready(process)
        return processes

    def process(self, instance: int) -> subprocess.Popen[str]:
        """Start one process and wait until it is ready."""
        process = self.launch(instance)
        _await_ready(process)
        return process

    def launch(self, instance: int) -> subprocess.Popen[str]:
        """Start one process."""
        settings = Settings(redis=Redis(mode="url", url=self.url))
        facts = {
            "settings": {
                "redis": settings.redis.model_dump(mode="json", exclude={"server"}),
                "ris": [
                    {**target.model_dump(exclude={"to"}), "to": str(target.to)}
                    for target in self.targets
                ],
            },
            "pace": self.pace,
            "instance": instance,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", DOOR, json.dumps(facts)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())


def control_ids(sink: Sink, *answers: Answer) -> list[str]:
    """What the RIS got, in order; only messages answered so, when answers are given."""
    return [
        message.field("MSH", 10)
        for message in sink.received
        if not answers or message.answer in answers
    ]


def eventually(true: Callable[[], bool], deadline_s: float = 10.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
