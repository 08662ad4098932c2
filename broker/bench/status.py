"""From a scanner's report to the RIS: how soon, how many, after an outage and after kill -9."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event as Flag

from broker.bench.dicom import ANSWERS, Association
from broker.bench.entries import entries, more_entries, question
from broker.bench.exams import FIRST, Exams, report
from broker.bench.find import load
from broker.bench.processes import Broker, cpu_s, door, process, store_of
from broker.bench.report import percentile
from broker.bench.ris import Ris
from broker.bench.timings import MeasurementFailed, Timings
from broker.store import reads
from broker.store.executors import StoreUnavailable

CONNECTIONS = 10
POLL_S = 0.05
PATIENCE_S = 120.0
"""Beyond the longest back-off: what has not come by then does not come."""
BORN_EVERY_S = 0.5
KILLED, RESTARTED = "worker killed -9: sent again", "Redis killed -9: told after it is back"


@dataclass(frozen=True)
class Goal:
    """What a figure shall be, at most or at least; no `bound` where it is only shown."""

    unit: str
    bound: float | None = None
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        if self.bound is None:
            return True
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return "" if self.bound is None else f"{sign} {self.bound:g}"


GOALS = {
    "N-SET to RIS, idle: p50": Goal("ms", 10),
    "N-SET to RIS, idle: p99": Goal("ms", 50),
    "N-CREATE + N-SET, RIS well": Goal("pairs/s", 400, at_least=True),
    "N-CREATE + N-SET, RIS down": Goal("pairs/s", 400, at_least=True),
    "rate while down : while well": Goal("", 0.9, at_least=True),
    "the other RIS meanwhile: p99": Goal("ms", 50),
    "first message once it is back": Goal("s", 75),
    "backlog drains": Goal("messages/s", 800, at_least=True),
    "born while it drains: longest": Goal("s", 3),
    "the other RIS while it drains": Goal("s", 3),
    KILLED: Goal("s", 15),
    RESTARTED: Goal("s", 5),
}


@dataclass(frozen=True)
class Figure:
    """A figure beside its goal; `faults` are refusals, messages missing, doubled, out of order.

    `cpu_us` is what a message, or a pair, costs in CPU, by process.
    """

    name: str
    value: float
    unit: str
    goal: str
    met: bool
    faults: int = 0
    cpu_us: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Hospital:
    """A broker, the RIS that falls ill and the one that does not; exams are numbered on and on."""

    hl7: tuple[str, int]
    dicom: tuple[str, int]
    broker: Broker
    ris: Ris
    other: Ris
    now: datetime
    seconds: float
    number: int = FIRST

    def ordered(self, count: int) -> range:
        """Order so many exams; gives their numbers."""
        first, self.number = self.number, self.number + count
        load(self.hl7, more_entries(first, count, self.now.date()), now=self.now)
        return range(first, first + count)


def destinations(ris: Ris, other: Ris, connections: int) -> str:
    """The setting `ris` for both."""
    more = {"connections": connections} if connections > 1 else {}
    places = {"ris": ris, "other": other}
    return json.dumps(
        [{"name": n, "to": f"127.0.0.1:{each.port}", **more} for n, each in places.items()]
    )


def measure(hospital: Hospital, *, exams: int, singly: int, kills: bool) -> Iterator[Figure]:
    """Yield figure after figure: `singly` exams one by one, `exams` of an outage, `kills` last."""
    load(hospital.hl7, entries(1, ANSWERS, hospital.now.date()), now=hospital.now)
    took = one_by_one(hospital, hospital.ris, singly)
    yield _figure("N-SET to RIS, idle: p50", 1000 * percentile(took, 50))
    yield _figure("N-SET to RIS, idle: p99", 1000 * percentile(took, 99))
    well = in_a_rush(hospital, max(CONNECTIONS, exams // 5))
    yield _pairs("N-CREATE + N-SET, RIS well", well)
    _settled(hospital)
    yield from outage(hospital, exams, singly, well)
    if kills:
        yield killed(hospital)
        yield restarted(hospital)


def lines(figures: Iterator[Figure]) -> Iterator[str]:
    """The table, a line at a time."""
    yield f"{'':42}{'figure':>12} {'':12}{'goal':>10}{'':>10}{'faults':>8}"
    for each in figures:
        verdict = ("met" if each.met else "missed") if each.goal else ""
        yield (
            f"{each.name:42}{each.value:12.2f} {each.unit:12}{each.goal:>10}{verdict:>10}"
            f"{each.faults:8}"
        )
        if each.cpu_us:
            parts = " + ".join(f"{name} {used:.0f}" for name, used in each.cpu_us.items())
            yield f"{'  CPU µs for each':42}{sum(each.cpu_us.values()):12.0f} = {parts}"


def _figure(name: str, value: float, faults: int = 0) -> Figure:
    goal = GOALS[name]
    return Figure(name, value, goal.unit, f"{goal}", goal.met(value), faults)


def _pairs(name: str, rush: Rush) -> Figure:
    timings = rush.timings
    figure = _figure(name, rush.per_s, timings.faults)
    return replace(figure, cpu_us=rush.cpu_us)


def _spent(pid: int, before: Mapping[str, float], count: int) -> Mapping[str, float]:
    """Microseconds of CPU for each, by process."""
    after = cpu_s(pid)
    names = ("modality", "updates", "redis")
    return {n: 1e6 * (after.get(n, 0.0) - before.get(n, 0.0)) / count for n in names}


# --- what is measured


def one_by_one(hospital: Hospital, ris: Ris, count: int) -> list[float]:
    """Seconds from the answer to an N-SET to its message at a RIS, in rising order."""
    with closing(Exams(hospital.dicom)) as scanner:
        return sorted(_told(ris, scanner, number) for number in hospital.ordered(count))


@dataclass(frozen=True)
class Rush:
    """Exams that were reported as fast as they were answered."""

    timings: Timings
    cpu_us: Mapping[str, float]

    @property
    def per_s(self) -> float:
        """Pairs of N-CREATE and N-SET a second."""
        return len(self.timings.latencies_s) / self.timings.elapsed_s


def in_a_rush(hospital: Hospital, count: int) -> Rush:
    """Report exams over CONNECTIONS associations while the worklist is polled."""
    first = hospital.ordered(count).start
    before = cpu_s(hospital.broker.pid)
    with _polled(hospital):
        timings = report(
            *(hospital.dicom, first, count), connections=CONNECTIONS, seconds=hospital.seconds
        )
    return Rush(timings, _spent(hospital.broker.pid, before, len(timings.latencies_s)))


def outage(hospital: Hospital, exams: int, singly: int, well: Rush) -> Iterator[Figure]:
    """Yield what commits, the other RIS and the way back cost while one RIS is down."""
    hospital.ris.close()
    before = len(hospital.ris.heard)
    down = in_a_rush(hospital, exams)
    yield _pairs("N-CREATE + N-SET, RIS down", down)
    yield _figure("rate while down : while well", down.per_s / well.per_s)
    _quiet(hospital.other)
    took = one_by_one(hospital, hospital.other, singly)
    yield _figure("the other RIS meanwhile: p99", 1000 * percentile(took, 99))
    expected = before + 2 * len(down.timings.latencies_s) + 2 * singly
    began = time.monotonic()
    hospital.ris.open()
    with closing(Exams(hospital.dicom)) as scanner:
        _until(lambda: len(hospital.ris.heard) > before)
        spent = cpu_s(hospital.broker.pid)
        yield _figure("first message once it is back", hospital.ris.heard[before].at - began)
        numbers = iter(hospital.ordered(1000))
        born, others = list[float](), list[float]()
        while len(hospital.ris.heard) < expected or not born:
            number = next(numbers)
            born.append(_told(hospital.ris, scanner, number))
            others.append(_came(hospital.other, number) - _came(hospital.ris, number) + born[-1])
            expected += 2
            time.sleep(BORN_EVERY_S)
    _settled(hospital)
    heard = hospital.ris.heard[before:]
    rate_per_s = len(heard) / (heard[-1].at - heard[0].at)
    wrong = faults(hospital.ris) + faults(hospital.other)
    drained = _figure("backlog drains", rate_per_s, wrong)
    yield replace(drained, cpu_us=_spent(hospital.broker.pid, spent, len(heard)))
    yield _figure("born while it drains: longest", max(born))
    yield _figure("the other RIS while it drains", max(others))


def killed(hospital: Hospital) -> Figure:
    """A worker is killed while its RIS keeps it waiting: how soon the same message comes again."""
    ris, before = hospital.ris, len(hospital.ris.heard)
    (number,) = hospital.ordered(1)
    ris.mute = True
    with closing(Exams(hospital.dicom)) as scanner:
        scanner.begin(number)
        _until(lambda: len(ris.heard) > before)
        os.kill(door(hospital.broker.pid, "updates", 1), signal.SIGKILL)
        began, ris.mute = time.monotonic(), False
        _until(lambda: len(ris.heard) > before + 1)
        again = ris.heard[before + 1]
        other = again.message != ris.heard[before].message
        scanner.end(number)
        _came(ris, number)
    return _figure(KILLED, again.at - began, int(other))


def restarted(hospital: Hospital) -> Figure:
    """Redis is killed: how soon a RIS hears of an exam that ended as soon as Redis was back."""
    (number,) = hospital.ordered(1)
    with closing(Exams(hospital.dicom)) as scanner:
        scanner.begin(number)
        _settled(hospital)
        os.kill(process(hospital.broker.pid, "redis"), signal.SIGKILL)
        store = store_of(hospital.broker)

        def writable() -> bool:
            try:
                return store.run(reads.writable())
            except StoreUnavailable:
                return False

        _until(lambda: not writable())
        _until(writable)
        back = time.monotonic()
        _until(lambda: scanner.end(number) == 0)
        came = _came(hospital.ris, number)
        store.close()
    return _figure(RESTARTED, came - back)


# --- waiting


def _told(ris: Ris, scanner: Exams, number: int) -> float:
    """Report one exam, and wait till the RIS knows its end; gives the seconds after the N-SET."""
    if (scanner.begin(number), scanner.end(number)) != (0, 0):
        raise MeasurementFailed("an exam was refused")
    answered = time.monotonic()
    return max(0.0, _came(ris, number) - answered)


def _came(ris: Ris, number: int) -> float:
    """Wait for the end of an exam at a RIS; gives when it came."""
    wanted, seen, found = b"ACC%d" % number, 0, list[float]()

    def came() -> bool:
        nonlocal seen
        new = ris.heard[seen:]
        seen += len(new)
        found.extend(h.at for h in new if h.state == b"CM" and h.accession == wanted)
        return bool(found)

    _until(came)
    return found[0]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"a message did not come within {PATIENCE_S:g} s")
        time.sleep(0.001)


def _quiet(ris: Ris) -> None:
    """Wait till a RIS has heard nothing for a second."""
    _until(lambda: not ris.heard or time.monotonic() - ris.heard[-1].at > 1)


def _settled(hospital: Hospital) -> None:
    for ris in (hospital.ris, hospital.other):
        _quiet(ris)


@contextmanager
def _polled(hospital: Hospital) -> Iterator[None]:
    """A scanner asks for its list twenty times a second, over an association each time."""
    stop, identifier = Flag(), question(hospital.now.date())

    def poll() -> None:
        while not stop.wait(POLL_S):
            with closing(Association(hospital.dicom)) as association:
                if association.find(identifier) != ANSWERS:
                    raise MeasurementFailed("a worklist query had another answer than before")
                association.release()

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        try:
            yield
        finally:
            stop.set()
        polling.result()


def faults(ris: Ris) -> int:
    """Exams of which a RIS was told otherwise than IP, then CM; and what was told twice."""
    told = defaultdict[bytes, list[bytes]](list)
    for heard in ris.heard:
        told[heard.accession].append(heard.state)
    twice = Counter(heard.control_id for heard in ris.heard)
    wrong = sum(states != [b"IP", b"CM"] for states in told.values())
    return wrong + sum(count - 1 for count in twice.values())
