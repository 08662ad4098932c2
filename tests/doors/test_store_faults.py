"""The store is ill in every way it can be: nothing is promised, the list is served, all resumes.

R01, R02, R03, R05 and R17 are in test_crashes.py, a disk that is nearly full (R18) in
tests/supervising/test_disk.py, what a damaged archive shows (R12) in tests/store/test_recall.py.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from broker.probe.orders import Patient, orm_o01
from broker.probe.scanner import QueryFailed, new_uid
from broker.settings import Keep
from broker.store import archive, keys, recall, refused
from broker.updates.retention import Retention
from tests.doors.actors import (
    CONFIG,
    Broker,
    Closed,
    accepted,
    find,
    new_order,
    of_accession,
    only,
    send,
    until,
)
from tests.doors.test_refusals import edited

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
# Redis answers others while it loads only if it has much to load: here every kilobyte is much.
WRAPPER = """\
#!/bin/sh
if [ -e "{folder}/loading" ]; then
  delay_us=$(cat "{folder}/loading")
  rm "{folder}/loading"
  exec redis-server "$@" --key-load-delay "$delay_us" --loading-process-events-interval-bytes 1024
fi
if [ -e "{folder}/small" ]; then
  trap '' XFSZ
  ulimit -f "$(cat "{folder}/small")"
fi
exec redis-server "$@"
"""


@pytest.fixture(scope="module")
def frail() -> Iterator[Broker]:
    """A broker whose Redis can be made to load slowly, and to have little room for its file."""
    broker = Broker()
    server = broker.folder / "frail"
    server.write_text(WRAPPER.format(folder=broker.folder))
    server.chmod(server.stat().st_mode | stat.S_IXUSR)
    config = CONFIG.replace("processes: 2", "processes: 1")
    (broker.folder / "broker.yaml").write_text(f"{config}redis: {{server: {server}}}\n")
    with broker.started():
        yield broker


@pytest.fixture
def broker(frail: Broker) -> Broker:
    """The same one; no test of this file restarts it."""
    assert frail.runs, frail.log()[-2000:]
    return frail


def is_taken(broker: Broker, message: bytes) -> bool:
    with suppress(Closed, OSError):
        return send(broker.hl7, message).code == "AA"
    return False


def resumes(broker: Broker, message: bytes) -> None:
    until(lambda: is_taken(broker, message), "a store that takes orders")


def test_r04_a_read_only_replica_takes_nothing_and_serves_the_list(broker: Broker) -> None:
    known, message = new_order(), orm_o01(new_order())
    accepted(broker.hl7, orm_o01(known))
    item = only(broker, known)
    broker.store.redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Closed):
            send(broker.hl7, message)
        with pytest.raises(Closed):
            send(broker.hl7, b"not HL7 at all")
        assert only(broker, known) == item
        assert broker.scanner.mpps_start(item, uid=new_uid(), now=NOW) == 0x0110
    finally:
        broker.store.redis.replicaof("NO", "ONE")
    resumes(broker, message)


def test_r04_while_redis_loads_its_data_nothing_is_taken_and_then_everything(
    broker: Broker,
) -> None:
    orders = [new_order() for _ in range(40)]
    accepted(broker.hl7, *map(orm_o01, orders))
    message = orm_o01(new_order())
    redis = broker.store.redis
    # Redis looks up after each kilobyte: many keys, so that it may take its time for each and yet
    # answers twenty times a second.
    much = {f"{keys.PREFIX}much:{n}": "x" * 500 for n in range(2000)}
    redis.mset(much)
    redis.bgrewriteaof()  # of commands it would load a thousand before it looks up
    until(lambda: not redis.info("persistence")["aof_rewrite_in_progress"], "one snapshot")
    (broker.folder / "loading").write_text(
        f"{20_000_000 // redis.dbsize()}"
    )  # some 20 s, if we let it
    broker.kill("redis-server")
    until(lambda: not (broker.folder / "loading").exists(), "a new Redis")
    with pytest.raises(Closed):
        send(broker.hl7, message)
    with pytest.raises(QueryFailed) as failed:
        find(broker, accession=orders[0].accession)
    assert failed.value.status == 0xA700
    redis.config_set("key-load-delay", 0)
    resumes(broker, message)
    redis.delete(*much)
    assert all(of_accession(broker, order) for order in orders)


def test_r06_a_store_that_was_emptied_is_filled_again_by_those_who_send_again(
    broker: Broker,
) -> None:
    order = new_order()
    message = orm_o01(order)
    accepted(broker.hl7, message)
    item = only(broker, order)
    children = broker.children()
    broker.store.redis.flushall()
    assert find(broker) == []
    assert send(broker.hl7, message).code == "AA"
    assert only(broker, order) == item
    assert broker.children() == children


@pytest.mark.parametrize(
    "rubbish", [b"000000000001not JSON", b"", b"\xff\x00", b'000000000001{"a":1}']
)
def test_r12_a_damaged_record_is_left_out_and_named_and_hides_no_other(
    broker: Broker, rubbish: bytes
) -> None:
    patient = Patient(f"P{new_order().accession}", "MUSTER^MIRJAM")
    damaged, sound = new_order(patient=patient), new_order(patient=patient)
    accepted(broker.hl7, orm_o01(damaged), orm_o01(sound))
    broker.store.redis.set(keys.order(f"NORTH|{damaged.accession}"), rubbish)
    seen = find(broker, patient_id=patient.patient_id)
    assert [item["AccessionNumber"] for item in seen] == [sound.accession]
    update = edited(orm_o01(damaged, control="XO"), ("OBR", 31, b"^reason"))
    answer = send(broker.hl7, update)
    assert (answer.code, b"207" in answer.raw) == ("AE", True)
    assert send(broker.hl7, orm_o01(new_order())).code == "AA"


def test_r15_what_is_purged_while_scanners_ask_makes_no_answer_wrong(broker: Broker) -> None:
    """Old orders go one slice after the other; the others are in every answer meanwhile."""
    patient = Patient(f"P{new_order().accession}", "MUSTER^MIRJAM")
    stay = [new_order(patient=patient) for _ in range(5)]
    go = [new_order(patient=patient) for _ in range(60)]
    accepted(broker.hl7, *map(orm_o01, stay + go))
    accepted(broker.hl7, *(orm_o01(each, control="CA", status="CA") for each in go[:30]))
    wanted = {order.accession for order in stay}
    answers: list[set[str]] = []
    done = threading.Event()

    def seen() -> set[str]:
        items = find(broker, patient_id=patient.patient_id)
        return {item["AccessionNumber"] for item in items}

    def ask() -> None:
        while not done.is_set():
            answers.append(seen())

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        until(lambda: answers, "an answer from before the purge")
        future = datetime.fromisoformat("2090-01-01T00:00+00:00")
        retention = Retention(broker.store, Keep(), lambda: future)
        broker.store.redis.zadd(keys.UNPERFORMED, dict.fromkeys(_keys(stay), 4e9), xx=True)
        until(lambda: not retention.slice(), "the end of the purge")
    finally:
        done.set()
        asking.join()
    assert all(wanted <= each for each in answers)
    assert seen() == wanted  # asked after the purge; the thread's last question may be older


def _keys(orders: list) -> list[str]:  # type: ignore[type-arg]
    return [f"NORTH|{order.accession}" for order in orders]


def test_r18_redis_that_cannot_write_its_file_ends_and_loses_nothing_acknowledged(
    broker: Broker,
) -> None:
    """The file system has no room for one byte more, and nobody has foreseen it."""
    files = [path for path in (broker.folder / "data").rglob("*") if path.is_file()]
    largest = max(path.stat().st_size for path in files)
    (broker.folder / "small").write_text(f"{largest // 512 + 100}")  # sh counts half kilobytes
    broker.kill("redis-server")
    taken: list[str] = []
    resumes(broker, orm_o01(new_order()))
    for _ in range(2000):
        order = new_order()
        if not is_taken(broker, orm_o01(order)):
            break
        taken.append(order.accession)
    else:
        raise AssertionError("the file was never too small")
    (broker.folder / "small").unlink()
    resumes(broker, orm_o01(order))
    seen = {item["AccessionNumber"] for item in find(broker)}
    assert {*taken, order.accession} <= seen
    assert broker.runs


def test_r18_a_disk_that_fills_up_stops_orders_and_nothing_else_till_there_is_room(
    new_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    """No restart is needed; the margins are wide, since others use the same disk."""
    room, ballast = 512 * 2**20, tmp_path / "ballast"
    broker = new_broker(CONFIG)
    reserve = shutil.disk_usage(broker.folder).free - room
    (broker.folder / "broker.yaml").write_text(f"{CONFIG}redis: {{disk_reserve: {reserve}}}\n")
    broker.start()
    known, message = new_order(), orm_o01(new_order())
    accepted(broker.hl7, orm_o01(known))
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * room)
    try:
        until(lambda: broker.store.redis.exists(keys.REFUSE_WRITES), "the sign of a full disk")
        with pytest.raises(Closed):
            send(broker.hl7, message)
        with pytest.raises(Closed):
            send(broker.hl7, b"not HL7 at all")
        assert only(broker, known)
        assert broker.store.run(archive.count()) == 1
        assert broker.store.run(refused.count()) == 0
    finally:
        ballast.unlink()
    resumes(broker, message)
    assert broker.store.run(recall.before("+"))[0].acks == ("AA",)
