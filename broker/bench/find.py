"""Worklist queries: a station's list of today, long lists, names, and scanners that are idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import islice

from broker.bench.dicom import FIRST_DAY, Asking, Association, How, ask
from broker.bench.entries import (
    ASKED_STATION,
    LONG_STATION,
    START_DATE,
    Entry,
    asked,
    order_frame,
    question,
)
from broker.bench.findscu import ask_stock
from broker.bench.mllp import send_orders
from broker.bench.processes import Broker, cpu_s, resident_mib
from broker.bench.report import OURS, Row, row
from broker.bench.timings import MeasurementFailed, Timings

LOADING_CONNECTIONS = 20
LOADING_S = 3600.0
PIECE = 5000
WARM_UP = 3
FEW = 5
"""Queries of findscu at a peer, which cannot be told to end in time."""
SCANNERS = 20
IDLE_S = 3.0
BESIDE_S = 3.0
MANY = 1_000_000
FASTEST_PER_S = 3000
"""Orders a second that no disk is expected to exceed: the queries end before the orders do."""
ORDERS_BESIDE = 3000
MOST_FILES = 10_000
"""Entries that wlmscpfs is given as files: it reads all of them for each query."""
PER_ADDRESS = 100
"""Idle associations of one address: a listener bounds them."""
SAID = {
    "BROKER_DICOM__LIMITS__ASSOCIATIONS": "1000",
    "BROKER_DICOM__LIMITS__ASSOCIATIONS_PER_HOST": "200",
}
"""Settings that leave room for idle scanners."""


@dataclass(frozen=True)
class Idle:
    """What open associations that ask nothing cost the process that holds them."""

    associations: int
    core_percent: float
    mib: float
    process_mib: float


@dataclass(frozen=True)
class Bench:
    """A broker under load: where it listens, which process it is, and what day it is."""

    dicom: tuple[str, int]
    broker: Broker
    today: date
    queries: int
    seconds: float

    def ask(self, asking: Asking, identifier: bytes) -> Timings:
        """Ask the broker."""
        return ask(self.dicom, asking, identifier, seconds=self.seconds)

    def ask_on(self, asking: Asking, identifier: bytes) -> Timings:
        """Ask over and over while others are measured."""
        return ask(self.dicom, asking, identifier, seconds=self.beside_s)

    @property
    def beside_s(self) -> float:
        """How long queries are measured beside something else."""
        return min(BESIDE_S, self.seconds)


def load(address: tuple[str, int], entries: Sequence[Entry], *, now: datetime) -> None:
    """Order every entry over MLLP. Raises MeasurementFailed when one is not accepted."""
    load_frames(address, (order_frame(entry, sent=now) for entry in entries))


def load_frames(address: tuple[str, int], frames: Iterable[bytes]) -> None:
    """Send all orders over MLLP. Raises MeasurementFailed when one is not accepted."""
    waiting = iter(frames)
    while piece := list(islice(waiting, PIECE)):
        connections = min(LOADING_CONNECTIONS, len(piece))
        loaded = send_orders(address, piece, connections=connections, seconds=LOADING_S)
        accepted = len(loaded.latencies_s) - loaded.faults
        if accepted != len(piece):
            raise MeasurementFailed(f"the broker accepted {accepted} of {len(piece)} orders")


def measure(bench: Bench, servers: Mapping[str, tuple[str, int]], about: str = "") -> Iterator[Row]:
    """Yield a row per way to ask and server; each takes at most `bench.seconds`."""
    repeated = question(bench.today)
    for scenario, asking, identifier in _ways(bench, repeated):
        only_ours = asking.different or asking.connections > 1
        for server in (OURS,) if only_ours else servers:
            yield _asked(bench, about + scenario, server, servers[server], asking, identifier)
    for server, address in servers.items():
        often = bench.queries if server == OURS else min(bench.queries, FEW)
        stock = ask_stock(address, repeated, queries=often, seconds=bench.seconds)
        if stock is not None:
            yield row(f"{about}stock findscu, mean", server, stock)


def _ways(bench: Bench, repeated: bytes) -> Iterator[tuple[str, Asking, bytes]]:
    """Only ours is asked all different ones and by SCANNERS at once.

    No other keeps anything, and none is quick enough.
    """
    days = f"{FIRST_DAY.decode()}-{bench.today:%Y%m%d}"
    different = asked({}, ScheduledStationAETitle=ASKED_STATION, **{START_DATE: days})
    polls = Asking(How.POLLS, max(bench.queries, SCANNERS), connections=SCANNERS)
    yield "kept, repeated", Asking(How.KEPT, bench.queries), repeated
    yield "kept, all different", Asking(How.KEPT, bench.queries, different=True), different
    yield "association per poll", Asking(How.POLLS, bench.queries), repeated
    yield f"{SCANNERS} scanners polling", polls, repeated


def _asked(
    bench: Bench,
    scenario: str,
    server: str,
    address: tuple[str, int],
    asking: Asking,
    identifier: bytes,
) -> Row:
    """One row; the first WARM_UP queries are not counted, of ours the CPU is."""
    if not asking.different:
        ask(address, Asking(asking.how, WARM_UP), identifier, seconds=bench.seconds)
    before = cpu_s(bench.broker.pid)
    timings = ask(address, asking, identifier, seconds=bench.seconds)
    after = cpu_s(bench.broker.pid)
    spent = _spent(before, after, len(timings.latencies_s)) if server == OURS else {}
    return replace(row(scenario, server, timings), cpu_us=spent)


def _spent(
    before: Mapping[str, float], after: Mapping[str, float], queries: int
) -> Mapping[str, float]:
    """Microseconds of CPU a query, of the door and of Redis."""
    names = ("modality", "redis")
    return {n: 1e6 * (after.get(n, 0.0) - before.get(n, 0.0)) / queries for n in names}


def long_lists(bench: Bench, answers: int) -> Iterator[Row]:
    """Yield what a list of so many answers takes, cold and warm, and what others feel of it.

    Of lists `count` and `per s` are answers.
    """
    whole, cold = question(bench.today, LONG_STATION), Asking(How.KEPT, 1, answers)
    name = f"list of {answers}"
    yield _of_answers(f"{name}, first read", bench.ask(cold, whole), answers)
    many = Asking(How.KEPT, 20, answers)
    yield _of_answers(f"{name}, again", bench.ask(many, whole), answers)
    yield row("to its first answer", OURS, bench.ask(Asking(How.FIRST, 20, answers), whole))
    yield row("C-CANCEL to the end", OURS, bench.ask(Asking(How.CANCEL, 20), whole))
    lists = Asking(How.KEPT, MANY, answers)
    yield _beside(bench, "beside long lists", lambda: bench.ask_on(lists, whole), bench.beside_s)


def searches(bench: Bench, entries: int) -> Iterator[Row]:
    """Yield queries that no index by start serves, and what others feel of them."""
    number = entries - 1
    one = Asking(How.KEPT, 5, 1)
    yield row("name by prefix", OURS, bench.ask(one, asked({"PatientName": f"MUSTER{number}*"})))
    middle = asked({"PatientName": f"*TER{number}^M*"})
    yield row("name by its middle", OURS, bench.ask(one, middle))
    scan = asked({}, ScheduledPerformingPhysicianName="NOBODY*")
    through = Asking(How.KEPT, 5, 0)
    try:
        timings = bench.ask(through, scan)
    except MeasurementFailed:
        return
    # Above max_candidates the answer is A700, which the client counts as a fault.
    whole = not timings.faults
    name = "key without an index" if whole else "key without an index: A700"
    yield row(name, OURS, Timings(timings.latencies_s, timings.elapsed_s, 0))
    again = Asking(How.KEPT, MANY, 0)
    yield _beside(bench, "beside such a key", lambda: bench.ask_on(again, scan), bench.beside_s)


def beside_orders(bench: Bench, entries: Sequence[Entry], now: datetime) -> Row:
    """What queries take while orders come in as fast as they are taken."""
    taken = min(len(entries) / FASTEST_PER_S, bench.beside_s)
    return _beside(bench, "beside orders", lambda: load(bench.broker.hl7, entries, now=now), taken)


def idle(bench: Bench, count: int) -> Idle:
    """Open so many associations that ask nothing, and see what the process takes."""
    before = resident_mib(bench.broker.pid).get("modality", 0.0)
    with ExitStack() as stack:
        for number in range(count):
            own = f"127.0.0.{2 + number // PER_ADDRESS}"
            stack.enter_context(closing(Association(bench.dicom, own)))
        used, began = cpu_s(bench.broker.pid).get("modality", 0.0), time.monotonic()
        time.sleep(IDLE_S)
        spent = cpu_s(bench.broker.pid).get("modality", 0.0) - used
        elapsed = time.monotonic() - began
        after = resident_mib(bench.broker.pid).get("modality", 0.0)
    return Idle(count, 100 * spent / elapsed, after - before, after)


def _of_answers(scenario: str, timings: Timings, answers: int) -> Row:
    """A row whose `count` and `per_s` are answers."""
    lists = row(scenario, OURS, timings)
    count = lists.count * answers
    return Row(
        scenario=scenario,
        server=OURS,
        count=count,
        faults=lists.faults,
        per_s=lists.per_s * answers,
        p50_ms=lists.p50_ms,
        p99_ms=lists.p99_ms,
        max_ms=lists.max_ms,
    )


def _beside(bench: Bench, scenario: str, load_on: Callable[[], object], seconds: float) -> Row:
    """The short repeated query, over and over while something else goes on."""
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(load_on)
        asking = Asking(How.KEPT, MANY)
        timings = ask(bench.dicom, asking, question(bench.today), seconds=seconds)
        going_on.result()
    return row(scenario, OURS, timings)
