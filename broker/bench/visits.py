"""Associations that end in every way there is: what the modality door keeps of them."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from broker.bench.dicom import ANSWERS, ASSOCIATE_RQ, Association, find_request
from broker.bench.processes import Broker, Cost, cost, store_of
from broker.bench.timings import MeasurementFailed
from broker.store.executors import Store
from broker.store.metrics import published

WARM_UP = 140
STEPS = 4
SETTLE_S = 10.0
"""How long the door may take to close the last of them; its own deadline is 5 s."""
MOST_MIB = 8.0
"""What a process may grow by what its allocator keeps for the next peers."""
ABORT = b"\x07\0\0\0\0\4\0\0\0\0"
GONE_AT_ONCE = struct.pack("ii", 1, 0)

TASKS = "broker_modality_tasks"

Address = tuple[str, int]


@dataclass(frozen=True)
class Standing:
    """What the door has at a moment."""

    cost: Cost
    tasks: int


@dataclass(frozen=True)
class Count:
    """What the door holds after so many associations; `faults`: wrong answers, things left."""

    associations: int
    per_s: float
    descriptors: int
    threads: int
    tasks: int
    resident_mib: float
    faults: int


def measure(
    address: Address, broker: Broker, identifier: bytes, *, associations: int
) -> Iterator[Count]:
    """Yield what the modality door of a broker holds, at first and after each quarter.

    Its tasks are as it told them last; those of the last row it has told after the last of them.
    """
    for number in range(WARM_UP):
        visit(address, identifier, number)
    with closing(store_of(broker)) as store:
        first = Standing(_settled(broker.pid, None), _tasks(store, since=time.time()))
        yield _count(0, 0.0, first, first, 0)
        yield from _quarters(address, broker, store, identifier, associations, first)


def _quarters(
    address: Address,
    broker: Broker,
    store: Store,
    identifier: bytes,
    associations: int,
    first: Standing,
) -> Iterator[Count]:
    done = 0
    for step in range(1, STEPS + 1):
        began, wrong, start = time.perf_counter(), 0, done
        while done < associations * step // STEPS:
            wrong += not visit(address, identifier, done)
            done += 1
        rate = (done - start) / (time.perf_counter() - began)
        settled = _settled(broker.pid, first.cost)
        tasks = _tasks(store, since=time.time() if step == STEPS else 0.0)
        yield _count(done, rate, Standing(settled, tasks), first, wrong, told=step == STEPS)


def visit(address: Address, identifier: bytes, number: int) -> bool:
    """One association, or less, in the way of its number; False where an answer was wrong."""
    return WAYS[number % len(WAYS)](address, identifier)


def lines(counts: Iterator[Count]) -> Iterator[str]:
    """The table, a line at a time."""
    names = ("per s", "descriptors", "threads", "tasks", "MiB", "faults")
    yield f"{'associations':>12}{''.join(f'{name:>13}' for name in names)}"
    for each in counts:
        yield (
            f"{each.associations:>12}{each.per_s:>13.0f}{each.descriptors:>13}{each.threads:>13}"
            f"{each.tasks:>13}{each.resident_mib:>13.1f}{each.faults:>13}"
        )


def _count(
    done: int, rate: float, now: Standing, first: Standing, wrong: int, *, told: bool = False
) -> Count:
    cost, before = now.cost, first.cost
    left = max(0, cost.descriptors - before.descriptors) + max(0, cost.threads - before.threads)
    left += max(0, now.tasks - first.tasks) if told else 0
    left += cost.resident_mib > before.resident_mib + MOST_MIB
    return Count(
        done, rate, cost.descriptors, cost.threads, now.tasks, cost.resident_mib, wrong + left
    )


def _tasks(store: Store, *, since: float) -> int:
    """The tasks of the door as it has told them after an instant (epoch s)."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        told = [each for each in store.run(published()).values() if each.at > since]
        for family in (family for each in told for family in each.families):
            if family.name == TASKS:
                return int(sum(sample.value for sample in family.samples))
        time.sleep(0.1)
    raise MeasurementFailed("the modality door does not tell its metrics")


def _settled(pid: int, first: Cost | None) -> Cost:
    """What the door costs once it has closed what peers have left, at the latest after a while."""
    end = time.monotonic() + SETTLE_S
    while True:
        now = cost(pid, "modality")
        if now is None:
            raise MeasurementFailed("no modality door runs, or this system does not say")
        lowest = first.descriptors if first else 0
        if now.descriptors <= lowest or time.monotonic() > end:
            return now
        time.sleep(0.1)


# Ways to end


def _released(address: Address, identifier: bytes) -> bool:
    with closing(Association(address)) as association:
        answers = association.find(identifier)
        association.release()
    return answers == ANSWERS


def _kept_open(address: Address, identifier: bytes) -> bool:
    """Asked twice, and closed without a word."""
    with closing(Association(address)) as association:
        return association.find(identifier) == association.find(identifier) == ANSWERS


def _said(*parts: bytes, at_once: bool = False) -> Callable[[Address, bytes], bool]:
    """Send the parts, of which b'?' is the query, and go, perhaps with a reset."""

    def go(address: Address, identifier: bytes) -> bool:
        with socket.create_connection(address, SETTLE_S) as peer, suppress(OSError):
            for part in parts:
                peer.sendall(find_request(1, identifier) if part == b"?" else part)
            if at_once:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, GONE_AT_ONCE)
        return True

    return go


WAYS = (
    _released,
    _kept_open,
    _said(),
    _said(ASSOCIATE_RQ, b"?", ABORT),
    _said(ASSOCIATE_RQ, b"?", at_once=True),
    _said(ASSOCIATE_RQ[:50]),
    _said(b"GET / HTTP/1.1\r\n\r\n"),
)
