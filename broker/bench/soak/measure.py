"""The run: load for so many minutes, looks in between, at the end everything is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.bench.dicom import Association
from broker.bench.processes import Broker, Cost, store_of
from broker.bench.ris import Ris
from broker.bench.soak import ledger, verdicts
from broker.bench.soak.ledger import Hop, Tally
from broker.bench.soak.load import Load
from broker.bench.soak.messages import first_name, new_name
from broker.bench.soak.plan import SCANNERS, SENDERS, Plan
from broker.bench.soak.verdicts import Verdict
from broker.bench.soak.watch import Sample, sample, troubles
from broker.store import dead, outbox
from broker.store.executors import Store

SAMPLE_S = 5.0
MINUTE_S = 60.0
PATIENCE_S = 60.0
THREADS = SENDERS + SCANNERS + 3
ENTRY_BYTES = 8_192


@dataclass(frozen=True)
class Minute:
    """A minute, or the whole run: each hop, and what everything held at its end."""

    name: str
    hops: Mapping[str, Hop]
    costs: Mapping[str, Cost]
    redis_mib: float
    disk_mib: float


@dataclass(frozen=True)
class Scene:
    """A broker under measurement: where it is, its log, and the RIS that it tells."""

    broker: Broker
    dicom: tuple[str, int]
    log: Path
    ris: Ris


@dataclass
class Soak:
    """One run and what was found on the way."""

    scene: Scene
    plan: Plan
    seconds: float
    samples: list[Sample] = field(default_factory=list)
    whole: dict[str, Tally] = field(default_factory=lambda: {n: Tally() for n in ledger.HOPS})
    verdicts: list[Verdict] = field(default_factory=list)
    _heard: int = 0

    def minutes(self) -> Iterator[Minute]:
        """Yield each minute as it ends, then the whole; afterwards the verdicts are there."""
        began = time.monotonic()
        load = Load(self.plan, self.scene.broker.hl7, self.scene.dicom, began, began + self.seconds)
        with (
            closing(store_of(self.scene.broker)) as store,
            ThreadPoolExecutor(THREADS) as pool,
            _ending(load),
        ):
            self.samples.append(sample(self.scene.broker, store, 0.0))
            working = load.start(pool)
            minute = 0
            while not all(each.done() for each in working):
                minute += 1
                ends = min(began + minute * MINUTE_S, load.ends + MINUTE_S)
                self._watch(store, began, ends, lambda: all(each.done() for each in working))
                yield self._minute(f"minute {minute}", load)
            for each in working:
                each.result()
            _until(lambda: len(self.scene.ris.heard) >= len(load.told))
            self.samples.append(sample(self.scene.broker, store, time.monotonic() - began))
            found = list(_final(load))
            last = self._minute("at the end", load)
            if any(hop.count or hop.errors for hop in last.hops.values()):
                yield last
            self.verdicts = list(self._judged(load, store, found))
        hops = {name: tally.hop() for name, tally in self.whole.items()}
        end = self.samples[-1]
        yield Minute("the whole", hops, end.costs, end.redis_mib, end.disk_mib)

    def _watch(self, store: Store, began: float, ends: float, is_over: Callable[[], bool]) -> None:
        """Sample every few seconds till a minute ends."""
        while (now := time.monotonic()) < ends and not is_over():
            due = began + SAMPLE_S * (1 + (now - began) // SAMPLE_S)
            time.sleep(max(0.0, min(due, ends) - now))
            self.samples.append(sample(self.scene.broker, store, time.monotonic() - began))

    def _minute(self, name: str, load: Load) -> Minute:
        self._hear(load)
        tallies = load.ledger.drain()
        for hop, tally in tallies.items():
            self.whole[hop].add(tally)
        now = self.samples[-1]
        hops = {hop: tally.hop() for hop, tally in tallies.items()}
        return Minute(name, hops, now.costs, now.redis_mib, now.disk_mib)

    def _hear(self, load: Load) -> None:
        """Time the status messages that came; one whose Success is on its way waits."""
        heard = self.scene.ris.heard
        while self._heard < len(heard):
            each = heard[self._heard]
            digits = each.accession.removeprefix(b"ACC")
            known = (int(digits) if digits.isdigit() else 0, each.state.decode())
            if known not in load.told:
                if known[0]:
                    return
                load.ledger.wrong(ledger.TOLD, "a message of no exam")
            else:
                load.ledger.took(ledger.TOLD, each.at - load.told[known])
            self._heard += 1

    def _judged(self, load: Load, store: Store, found: list[str]) -> Iterator[Verdict]:
        yield from verdicts.memory(self.samples)
        yield from verdicts.handles(self.samples)
        begun = [number for number, state in load.told if state == "IP"]
        ended = [number for number, state in load.told if state == "CM"]
        said = self.whole[ledger.MLLP].took_s
        counts = {
            "orders": len(load.lists.orders),
            "messages": len(said),
            "exams": len(begun),
        }
        yield verdicts.store(self.samples, counts)
        errors = [words for tally in self.whole.values() for words in tally.words]
        yield verdicts.none("no errors", errors, "every answer is there, and is right")
        yield verdicts.none("log clean", troubles(self.scene.log), "nothing above info")
        yield verdicts.none("every order on its list", found, "all lists asked for at the end")
        yield verdicts.all_told(begun, ended, self.scene.ris.heard)
        waiting = {
            "dead letters": store.run(dead.count()),
            "waiting for the RIS": store.run(outbox.pending("ris")),
        }
        left = {name: count for name, count in waiting.items() if count}
        yield verdicts.none("nothing waits", left, "no dead letter, nothing in the outbox")


def said(entries: int, orders: int, minutes: float) -> Mapping[str, str]:
    """Settings of a broker that has room for so much."""
    most = int((entries + orders * 60 * minutes) * ENTRY_BYTES)
    return {"BROKER_REDIS__MAX_MEMORY": f"{max(2**30, most)}"}


def _final(load: Load) -> Iterator[str]:
    """Ask for every list; yield a word for all that is missing, or must not be there."""
    with closing(Association(load.dicom)) as association:
        for place in load.lists.places():
            began = time.monotonic()
            found = load.ask(association, place)
            yield from load.lists.wrong(place, found, asked=began, answered=time.monotonic())
            for number, name in found.items():
                if name != (new_name if number in load.renamed else first_name)(number):
                    yield f"order {number} is of a patient with another name"
        association.release()


@contextmanager
def _ending(load: Load) -> Iterator[None]:
    """End the load where a run ends before its time, as by Ctrl-C: its threads are awaited."""
    try:
        yield
    finally:
        load.ends = min(load.ends, time.monotonic())


def _until(true: Callable[[], bool]) -> None:
    """Wait, but not for ever: the verdicts say what has not come."""
    end = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
