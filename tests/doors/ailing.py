"""What ails a RIS, and what strikes a broker: each by its name."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Final

from broker.probe.ris import Answer, Sink
from broker.store import keys
from broker.store.server import embedded_url
from tests.doors.actors import Broker, until
from tests.doors.crashing import SUPERVISOR, kill

HEALTHY: Final = frozenset({Answer.AA})
HOUR_S: Final = 3600
WORKER: Final = """
import sys, time
from pathlib import Path
config, url, ahead_s = sys.argv[1:]
clock = time.time
time.time = lambda: clock() + float(ahead_s)
from broker.settings import Redis, Settings
from broker.updates.door import serve
settings = Settings.load(Path(config), {})
settings = settings.model_copy(update={"redis": Redis(mode="url", url=url)})
serve(settings, ready=lambda bound: print("ready", flush=True), instance=1)
"""


@contextmanager
def answering(answer: Answer, sink: Sink) -> Iterator[None]:
    sink.answer = answer
    try:
        yield
    finally:
        sink.answer = Answer.AA


@contextmanager
def slow(delay_s: float, sink: Sink) -> Iterator[None]:
    sink.delay_s = delay_s
    try:
        yield
    finally:
        sink.delay_s = 0.0


@contextmanager
def down(sink: Sink) -> Iterator[None]:
    address = sink.address
    sink.stop()
    try:
        yield
    finally:
        sink.start(*address)


Ailment = Callable[[Sink], AbstractContextManager[None]]
AILMENTS: Final[Mapping[str, Ailment]] = {
    "the RIS is well": partial(slow, 0.0),
    "the RIS is down": down,
    "the RIS is slow": partial(slow, 0.3),
    "the RIS answers too late": partial(slow, 0.8),
    **{
        f"the RIS answers {answer}": partial(answering, answer)
        for answer in (
            Answer.SILENCE,
            Answer.CLOSE,
            Answer.AE,
            Answer.AR,
            Answer.GARBAGE,
            Answer.WRONG_CONTROL_ID,
        )
    },
}


def killed(victim: str, broker: Broker, dice: random.Random) -> None:
    time.sleep(dice.random() * 0.3)
    kill(broker, victim)


def nudges_lost(broker: Broker, dice: random.Random) -> None:
    """For a while no wake-up and no job arrives."""
    for _ in range(dice.randrange(5, 30)):
        with suppress(ConnectionError, OSError):
            broker.store.redis.delete(keys.WAKE, f"{keys.PREFIX}rq:queue:sick")
        time.sleep(0.02)


def nudges_doubled(broker: Broker, dice: random.Random) -> None:
    with suppress(ConnectionError, OSError):
        broker.store.redis.rpush(keys.WAKE, *["sick", "well", "nobody"] * dice.randrange(1, 300))


def second_worker(ahead_s: float, broker: Broker, dice: random.Random) -> None:
    """A worker beside the broker's own for the same RIS, whose clock is `ahead_s` ahead."""
    arguments = (broker.folder / "broker.yaml", embedded_url(broker.folder / "data"), str(ahead_s))
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        if ahead_s:  # it is the only one: the clock of the machine was set
            kill(broker, "door updates")
        time.sleep(0.5 + dice.random())
    finally:
        worker.kill() if dice.random() < 0.5 else worker.terminate()
        until(lambda: worker.poll() is not None, "the end of the second worker")
        worker.stdout.close()  # type: ignore[union-attr]


Blow = Callable[[Broker, random.Random], None]
BLOWS: Final[Mapping[str, Blow]] = {
    "worker killed": partial(killed, "door updates"),
    "SCP killed": partial(killed, "door modality"),
    "Redis killed": partial(killed, "redis-server"),
    "supervisor killed": partial(killed, SUPERVISOR),
    "all doors killed": partial(killed, "forkserver"),
    "wake-ups lost": nudges_lost,
    "wake-ups doubled": nudges_doubled,
    "two workers at once": partial(second_worker, 0),
    "clock an hour ahead": partial(second_worker, HOUR_S),
    "clock an hour behind": partial(second_worker, -HOUR_S),
}
