"""Processes are killed and Redis stands still: no acknowledged order is lost, none is doubled."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest

from broker.probe.address import Address
from broker.probe.orders import Envelope, Step, orm_o01
from broker.probe.ris import Sink, listening
from broker.probe.scanner import STEP, QueryFailed, Status, new_uid
from tests.doors.actors import (
    CONFIG,
    Answer,
    Broker,
    Closed,
    Line,
    accepted,
    find,
    living,
    new_order,
    only,
    send,
    until,
)

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
WRAPPER = """\
#!/bin/sh
[ -e "{slow}" ] && rm "{slow}" && sleep 3
exec redis-server "$@"
"""


@pytest.fixture(scope="module")
def north() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def sturdy(north: Sink) -> Iterator[Broker]:
    """A broker to be ill-treated; its Redis starts slowly where the file `slow` is."""
    broker = Broker()
    server = broker.folder / "slowly"
    server.write_text(WRAPPER.format(slow=broker.folder / "slow"))
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    config = CONFIG.replace("processes: 2", "processes: 1")
    config += f"redis: {{server: {server}}}\nris: [{{name: north, to: '{north.address}'}}]\n"
    (broker.folder / "broker.yaml").write_text(config)
    try:
        yield broker
    finally:
        broker.end()


@pytest.fixture
def broker(sturdy: Broker) -> Broker:
    """The same broker, running, on the data that earlier tests left."""
    return sturdy if sturdy.runs else sturdy.start()


# --- under load


class Load:
    """Senders that each send order after order, every one again until it is acknowledged."""

    def __init__(self, to: Callable[[], Address], station: str) -> None:
        self._to, self._station = to, station
        self._stop = threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.refused: list[Answer] = []
        self.resent = 0

    @contextmanager
    def running(self, senders: int = 3) -> Iterator[None]:
        with ThreadPoolExecutor(senders) as pool:
            running = [pool.submit(self._send_forever) for _ in range(senders)]
            try:
                yield
            finally:
                self._stop.set()
        for each in running:
            each.result()

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        goal = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= goal, f"{count} more acknowledgements")

    def _send_forever(self) -> None:
        line: Line | None = None
        while not self._stop.is_set():
            order, envelope = new_order(Step(station_ae=self._station)), Envelope()
            message = orm_o01(order, envelope=envelope)
            answer = None
            while answer is None:
                try:
                    line = line or Line(self._to(), 5)
                    answer = line.send(message)
                except (OSError, Closed):
                    if line:
                        line.close()
                    line = None
                    self.resent += 1
                    time.sleep(0.05)
            assert answer.control_id == envelope.control_id
            if answer.code == "AA":
                self.acknowledged[order.accession] = envelope.control_id
            else:
                self.refused.append(answer)
        if line:
            line.close()


def nothing_lost_and_nothing_doubled(broker: Broker, load: Load, station: str) -> None:
    keys = {"AccessionNumber": "", STEP: [{"ScheduledStationAETitle": station}]}
    seen = Counter(item["AccessionNumber"] for item in broker.scanner.find(keys))
    assert load.refused == []
    assert set(load.acknowledged) <= set(seen)
    assert set(seen.values()) == {1}
    applied = Counter(
        each.control_id for each in broker.archived(20_000) if each.outcome == "applied"
    )
    assert {applied[control_id] for control_id in load.acknowledged.values()} == {1}


def test_r05_killed_orders_process_and_killed_redis_lose_nothing_under_load(broker: Broker) -> None:
    load = Load(lambda: broker.hl7, "LOAD1")
    with load.running():
        load.more(20)
        broker.kill("door orders")
        load.more(20)
        broker.kill("redis-server")
        load.more(20)
        assert broker.runs
    assert load.resent > 0
    nothing_lost_and_nothing_doubled(broker, load, "LOAD1")


def test_r17_a_stop_under_load_ends_with_0_and_loses_nothing(broker: Broker) -> None:
    load = Load(lambda: broker.hl7, "LOAD3")
    with load.running():
        load.more(20)
        children = broker.children()
        assert broker.stop() == 0
        assert not living(children)
        broker.start()
        load.more(20)
    nothing_lost_and_nothing_doubled(broker, load, "LOAD3")


def test_a_killed_supervisor_takes_all_down_and_a_new_start_loses_nothing(
    broker: Broker, north: Sink
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    address = north.address
    north.stop()
    uid = new_uid()
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0x0000
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    load = Load(lambda: broker.hl7, "LOAD2")
    with load.running():
        load.more(20)
        children = broker.children()
        assert broker.process is not None
        broker.process.send_signal(signal.SIGKILL)
        broker.process.wait()
        until(lambda: not living(children), "the end of every child")
        broker.start()
        load.more(20)
    nothing_lost_and_nothing_doubled(broker, load, "LOAD2")
    assert find(broker, accession=order.accession) == []
    north.start(*address)

    def told() -> list[str]:
        mine = (m for m in list(north.received) if m.field("OBR", 18) == order.accession)
        return [message.field("ORC", 5) for message in mine]

    until(lambda: told() == ["IP", "CM"], "what the RIS had not been told")


# --- Redis gone


@contextmanager
def standing_still(broker: Broker) -> Iterator[None]:
    """Redis takes connections and does not answer."""
    (server,) = broker.children("redis-server")
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


@contextmanager
def killed(broker: Broker) -> Iterator[None]:
    """Redis is away for three seconds."""
    (broker.folder / "slow").touch()
    broker.kill("redis-server")
    until(lambda: not broker.children("redis-server"))
    yield


def timed(asked: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    try:
        answer = asked()
    except (Closed, QueryFailed) as refusal:
        answer = refusal
    return answer, time.monotonic() - began


@pytest.mark.parametrize("gone", [standing_still, killed])
def test_r01_r02_without_redis_nothing_is_promised_and_all_resumes(
    broker: Broker, gone: Any
) -> None:
    known, new, exam = new_order(), new_order(), new_uid()
    accepted(broker.hl7, orm_o01(known))
    item, message = only(broker, known), orm_o01(new)
    running = new_uid()
    assert broker.scanner.mpps_start(item, uid=running, now=NOW) == 0x0000
    questions = [
        lambda: send(broker.hl7, message),
        lambda: send(broker.hl7, b"not HL7 at all"),
        lambda: find(broker, accession=known.accession),
        lambda: broker.scanner.mpps_start(item, uid=exam, now=NOW),
        lambda: broker.scanner.mpps_complete(running, now=NOW),
    ]
    with ThreadPoolExecutor(len(questions)) as pool, gone(broker):
        answers = list(pool.map(timed, questions))
        assert broker.scanner.echo() == 0x0000
    (sent, garbage, found, created, completed), seconds = zip(*answers, strict=True)
    assert max(seconds) < 8  # four are usual; a test shares its machine
    assert isinstance(sent, Closed)
    assert isinstance(garbage, Closed)
    assert isinstance(found, QueryFailed)
    assert found.status == 0xA700
    assert found.status.comment
    for refused in (created, completed):
        assert isinstance(refused, Status)
        assert refused == 0x0110
        assert refused.comment
    until(lambda: resumed(broker, message), "a store that takes orders")
    assert len(find(broker, accession=new.accession)) == 1
    assert broker.scanner.mpps_start(item, uid=exam, now=NOW) in (0x0000, 0x0111)
    for uid in (running, exam):
        assert broker.scanner.mpps_complete(uid, now=NOW) == 0x0000
    assert find(broker, accession=known.accession) == []


def test_r03_a_full_redis_takes_nothing_more_and_goes_on_answering(broker: Broker) -> None:
    known, message, exam = new_order(), orm_o01(new_order()), new_uid()
    accepted(broker.hl7, orm_o01(known))
    item = only(broker, known)
    allowed = broker.store.redis.config_get("maxmemory")["maxmemory"]
    broker.store.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Closed):
            send(broker.hl7, message)
        assert only(broker, known) == item
        assert broker.scanner.mpps_start(item, uid=exam, now=NOW) == 0x0110
    finally:
        broker.store.redis.config_set("maxmemory", allowed)
    assert resumed(broker, message)
    assert broker.scanner.mpps_start(item, uid=exam, now=NOW) == 0x0000


def resumed(broker: Broker, message: bytes) -> bool:
    with suppress(Closed):
        return send(broker.hl7, message).code == "AA"
    return False
