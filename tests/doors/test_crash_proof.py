"""Load with kill -9 at random points ends in the same state as an undisturbed run.

`BROKER_CRASHES=200 make test ARGS=tests/doors/test_crash_proof.py` kills that often;
`BROKER_CRASH_SEED` chooses the points again that a failure has named.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.probe.orders import Envelope, Patient, Step, orm_o01
from broker.probe.scanner import STEP
from broker.store import reads
from broker.worklist.staleness import OURS
from tests.doors.actors import CONFIG, Answer, Broker, Closed, Line, new_order, until
from tests.doors.crashing import SUPERVISOR, kept, kill
from tests.doors.test_refusals import edited

CRASHES = int(os.environ.get("BROKER_CRASHES", "3"))
SEED = int(os.environ.get("BROKER_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SENDERS, STATION = 4, "PROOF1"
NOON = datetime(2026, 3, 16, 12, 0)  # noqa: DTZ001 - a RIS writes local time
VICTIMS = ("door orders", "redis-server", SUPERVISOR)

pytestmark = [pytest.mark.peer("redis-server"), pytest.mark.timeout(120 + 20 * CRASHES)]


@dataclass
class Story:
    """What a RIS has to say about one order, in its order, and the first answer to each message."""

    accession: str
    messages: list[bytes]
    first: list[Answer] = field(default_factory=list)


def story(dice: random.Random) -> Story:
    """An order, sometimes changed, sometimes cancelled; some without a study UID of their own."""
    step = Step(station_ae=STATION)
    order = new_order(step, patient=patient(dice))
    said = [("NW", "SC"), *dice.choice(((), (("XO", "SC"),), (("XO", "SC"), ("CA", "CA"))))]
    messages = []
    for minute, (control, status) in enumerate(said):
        envelope = Envelope(sent=NOON + timedelta(minutes=minute))
        message = orm_o01(order, control=control, status=status, envelope=envelope)
        if minute:
            message = edited(message, ("OBR", 31, f"^reason {minute}".encode()))
        messages.append(message)
    if dice.random() < 0.5:
        messages = [each[: each.index(b"ZDS|")] for each in messages]
    return Story(order.accession, messages)


def patient(dice: random.Random) -> Patient:
    """One of a few, so that orders share their patients."""
    number = f"{os.getpid()}{dice.randrange(8)}"
    return Patient(f"PROOF{number}", f"MUSTER{number}^MIRJAM")


class Load:
    """Senders that tell one story after the other, each message again until it is answered."""

    def __init__(self, broker: Broker, dice: random.Random) -> None:
        self.told: list[Story] = []
        self.resent = 0
        self._broker, self._dice = broker, dice
        self._stop, self._lock = threading.Event(), threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(SENDERS) as pool:
            running = [pool.submit(self._tell) for _ in range(SENDERS)]
            try:
                yield
            finally:
                self._stop.set()
                until(lambda: kept(self._broker) and all(each.done() for each in running), "ends")
        for each in running:
            each.result()

    def more(self, count: int) -> None:
        goal = len(self.told) + count
        until(lambda: kept(self._broker) and len(self.told) >= goal, f"{count} more stories", 60)

    def _tell(self) -> None:
        line: Line | None = None
        while not self._stop.is_set():
            with self._lock:
                mine = story(self._dice)
            for message in mine.messages:
                answer = None
                while answer is None:
                    try:
                        line = line or Line(self._broker.hl7, 5)
                        answer = line.send(message)
                    except (OSError, Closed):
                        line = line.close() if line else None  # type: ignore[func-returns-value]
                        self.resent += 1
                        time.sleep(0.05)
                mine.first.append(answer)
            self.told.append(mine)
        if line:
            line.close()


def state(broker: Broker, stories: Iterable[Story]) -> dict[str, Any]:
    """Every record of these orders and their patients, and what a scanner sees of them."""
    keys = [f"NORTH|{each.accession}" for each in stories]
    known = broker.store.run(reads.orders(keys)).known
    seen = broker.scanner.find(
        {"AccessionNumber": "", STEP: [{"ScheduledStationAETitle": STATION}]}
    )
    return {
        "orders": _by_the_senders_clock(known.orders),
        "patients": _by_the_senders_clock(known.patients),
        "seen": Counter(item["AccessionNumber"] for item in seen),
    }


def _by_the_senders_clock(records: Mapping[str, Any]) -> dict[str, Any]:
    """The records without when we received what they say: that differs from run to run."""
    return {
        key: record.model_copy(update={"sent": {k: v for k, v in record.sent.items() if k != OURS}})
        for key, record in records.items()
    }


@pytest.fixture
def pair(new_broker: Callable[..., Broker]) -> tuple[Broker, Broker]:
    """One broker to be ill-treated and one that is left in peace."""
    return new_broker(CONFIG).start(), new_broker(CONFIG).start()


def test_what_is_killed_at_random_ends_as_if_nothing_had_happened(
    pair: tuple[Broker, Broker], record_property: Callable[[str, object], None]
) -> None:
    """Every message has its one effect and one answer, whoever was killed in the meantime."""
    record_property("seed", SEED)
    print(f"BROKER_CRASH_SEED={SEED}")  # shown when it fails
    dice = random.Random(SEED)
    hit, spared = pair
    load = Load(hit, random.Random(SEED))
    victims = [*VICTIMS, *dice.choices(VICTIMS, weights=(4, 2, 1), k=CRASHES)][:CRASHES]
    dice.shuffle(victims)
    with load.running():
        for victim in victims:
            load.more(2)
            time.sleep(dice.random() * 0.3)
            kill(hit, victim)
        load.more(5)
    assert load.resent > 0

    messages = [(s, n) for s in load.told for n in range(len(s.messages))]
    assert {s.first[n].code for s, n in messages} == {"AA"}
    with Line(hit.hl7) as line:
        for s, n in messages:
            assert line.send(s.messages[n]).raw == s.first[n].raw
    ids = [s.first[n].control_id for s, n in messages]
    judged = (each for each in hit.archived(10**6) if each.outcome in ("applied", "stale"))
    applied = Counter(each.control_id for each in judged)
    assert {applied[control_id] for control_id in ids} == {1}

    with Line(spared.hl7) as line:
        for s, n in messages:
            assert line.send(s.messages[n]).code == "AA"
    assert state(hit, load.told) == state(spared, load.told)
    assert len(state(hit, load.told)["orders"]) == len(load.told)
    assert set(state(hit, load.told)["seen"].values()) == {1}
