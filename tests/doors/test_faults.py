"""Whatever strikes broker and RIS at random, the RIS is told everything, once and in its order.

`make faults` lets every ailment of a RIS meet every blow; the test suite plays some of them.
`BROKER_FAULT_SEED` chooses those again that a failure has named.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any, Final

import pytest
from redis import RedisError

from broker.probe.address import Unreachable
from broker.probe.orders import Order, Step, orm_o01
from broker.probe.ris import Sink, listening
from broker.probe.scanner import STEP, QueryFailed, Scanner, new_uid, worklist_keys
from broker.store import dead, keys, outbox
from broker.store.executors import StoreUnavailable
from tests.doors.actors import CONFIG, Broker, Closed, new_order, send, until
from tests.doors.ailing import AILMENTS, BLOWS, HEALTHY
from tests.doors.crashing import kept

FAULTS = int(os.environ.get("BROKER_FAULTS", "3"))
SEED = int(os.environ.get("BROKER_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
SCANNERS: Final = 2
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
WITHOUT_A_TRY: Final = """
local lost = {}
for _, name in ipairs({'sick', 'well'}) do
  local outbox = KEYS[1] .. 'outbox:' .. name .. ':'
  for _, key in ipairs(redis.call('KEYS', outbox .. '*')) do
    if not redis.call('ZSCORE', KEYS[1] .. 'dirty:' .. name, key:sub(#outbox + 1)) then
      lost[#lost + 1] = key
    end
  end
end
return lost
"""
LONGEST_WAIT_S: Final = 75.0
"""Of a message that could not be delivered: the longest back-off, and a lease."""

pytestmark = [pytest.mark.peer("redis-server"), pytest.mark.timeout(180 + 20 * FAULTS)]


@dataclass
class Story:
    """An order whose steps are examined one after the other, and what was acknowledged."""

    order: Order
    happened: list[tuple[str, str]] = field(default_factory=list)


class Scanning:
    """Scanners that report exam after exam, each request again until it is Success."""

    def __init__(self, broker: Broker, dice: random.Random) -> None:
        self.told: list[Story] = []
        self.repeated = 0
        self._broker, self._dice = broker, dice
        self._stop, self._given_up = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._running: list[Future[None]] = []
        self._last: dict[int, object] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(SCANNERS) as pool:
            self._running = [pool.submit(self._tell) for _ in range(SCANNERS)]
            try:
                yield
                self._stop.set()
                until(lambda: kept(self._broker) and all(e.done() for e in self._running), "ends")
            finally:
                self._stop.set()
                self._given_up.set()
        self._judge()

    def more(self, count: int) -> None:
        goal = len(self.told) + count

        def told() -> bool:
            self._judge()
            return kept(self._broker) and len(self.told) >= goal

        try:
            until(told, f"{count} more orders", 60)
        except AssertionError as late:
            raise AssertionError(f"{late}; last answers {self._last}") from late

    def _judge(self) -> None:
        """Say at once what has ended a scanner."""
        for each in self._running:
            if each.done():
                each.result()

    def _tell(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = len(self.told) + self._dice.randrange(10**6)
                steps = [Step(step_id=f"S{number}{n}") for n in range(self._dice.choice((1, 2)))]
                ends = [self._dice.choice(("CM", "DC")) for _ in steps]
                story = Story(new_order(*steps))
            message = orm_o01(story.order)
            self._again(lambda scanner, m=message: send(self._broker.hl7, m, 5).code == "AA")
            items = self._again(lambda scanner, s=story: scanner.find(_of(s)))
            by_id = {item[STEP][0]["ScheduledProcedureStepID"]: item for item in items}
            for step, end in zip(steps, ends, strict=True):
                self._examine(story, by_id[step.step_id], end)
            self.told.append(story)

    def _examine(self, story: Story, item: dict[str, Any], end: str) -> None:
        uid, step_id = new_uid(), item[STEP][0]["ScheduledProcedureStepID"]

        def ended(scanner: Scanner) -> bool:
            ways = {"CM": scanner.mpps_complete, "DC": scanner.mpps_discontinue}
            return ways[end](uid, now=NOW) == 0x0000

        self._again(lambda scanner: scanner.mpps_start(item, uid=uid, now=NOW) == 0x0000)
        story.happened.append((step_id, "IP"))
        self._again(ended)
        story.happened.append((step_id, end))

    def _again(self, asked: Callable[[Scanner], Any]) -> Any:
        while not self._given_up.is_set():
            answer: Any = None
            try:
                if answer := asked(Scanner(self._broker.dicom, calling="CT1", deadline_s=5)):
                    return answer
            except (OSError, Closed, Unreachable, QueryFailed) as problem:
                answer = problem
            self._last[threading.get_ident()] = answer
            self.repeated += 1
            time.sleep(0.05)
        raise Closed


def _of(story: Story) -> dict[str, Any]:
    return worklist_keys(accession=story.order.accession)


@pytest.fixture
def sick() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture
def well() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture
def hit(new_broker: Callable[..., Broker], sick: Sink, well: Sink) -> Broker:
    told = ", ".join(
        f"{{name: {name}, to: '{sink.address}', ack_timeout_s: 0.5}}"
        for name, sink in (("sick", sick), ("well", well))
    )
    return new_broker(f"{CONFIG}ris: [{told}]\n").start()


def test_a_ris_hears_everything_in_order_whatever_strikes(
    hit: Broker, sick: Sink, well: Sink, record_property: Callable[[str, object], None]
) -> None:
    """What is missing is a dead letter with its cause; what comes twice is the same message."""
    record_property("seed", SEED)
    print(f"BROKER_FAULT_SEED={SEED}")  # shown when it fails
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # whom it does not reach it says
    dice = random.Random(SEED)
    pairs = list(product(AILMENTS, BLOWS))
    dice.shuffle(pairs)
    load, began = Scanning(hit, random.Random(SEED)), time.monotonic()
    with load.running():
        for ailment, blow in pairs[:FAULTS]:
            print(
                f"{time.monotonic() - began:7.1f} s  {len(load.told):5} orders  {ailment} + {blow}"
            )
            with AILMENTS[ailment](sick):
                load.more(1)
                BLOWS[blow](hit, dice)
                load.more(1)
            nothing_in_limbo(hit)
    kept(hit)
    until(lambda: delivered(hit), "the end of what waits", LONGEST_WAIT_S)
    ids = hit.store.run(dead.ids())
    letters = {each.id: each for each in hit.store.run(dead.read(ids))} if ids else {}
    assert all(letter.cause and letter.to == "sick" for letter in letters.values())
    assert load.told
    for story in load.told:
        heard_in_order(sick, story, dead=set(letters))
        heard_in_order(well, story, dead=set())
    _summary(load, sick, well, letters, time.monotonic() - began)


def heard_in_order(sink: Sink, story: Story, *, dead: set[str]) -> None:
    """Everything that happened to an order, by the RIS's own record."""
    mine = [m for m in sink.received if m.field("OBR", 18) == story.order.accession]
    ids = [message.field("MSH", 10) for message in mine]
    firsts = {message.field("MSH", 10): message for message in reversed(mine)}
    once = list(dict.fromkeys(ids))
    happened = [(firsts[i].field("OBR", 20), firsts[i].field("ORC", 5)) for i in once]
    assert happened == story.happened
    assert [once.index(each) for each in ids] == sorted(once.index(each) for each in ids)
    assert {(m.field("MSH", 10), m.payload) for m in mine} == {
        (i, message.payload) for i, message in firsts.items()
    }
    taken = {m.field("MSH", 10) for m in mine if m.answer in HEALTHY}
    assert set(once) - taken <= dead


def nothing_in_limbo(broker: Broker) -> None:
    """Whatever waits for a RIS has its next try."""

    def lost() -> list[bytes]:
        kept(broker)
        return broker.store.redis.eval(WITHOUT_A_TRY, 1, keys.PREFIX)  # type: ignore[return-value]

    def seen() -> bool:
        with suppress(RedisError):
            assert lost() == []
            return True
        return False

    until(seen, "a look at what waits")


def delivered(broker: Broker) -> bool:
    kept(broker)
    try:
        return not any(broker.store.run(outbox.pending(ris)) for ris in ("sick", "well"))
    except StoreUnavailable:
        return False


def _summary(
    load: Scanning, sick: Sink, well: Sink, letters: dict[str, Any], took_s: float
) -> None:
    transitions = sum(len(story.happened) for story in load.told)
    print(
        f"{FAULTS} faults, {len(load.told)} orders, {transitions} transitions in {took_s:.0f} s; "
        f"scanners repeated {load.repeated} requests; the sick RIS got {len(sick.received)} "
        f"messages, the well one {len(well.received)}; {len(letters)} dead letters"
    )
