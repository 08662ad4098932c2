"""The updates door as real processes: latency, kill -9, a dead RIS, Redis gone, SIGTERM."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from broker.probe.ris import Answer, Sink
from broker.settings import Address
from broker.store import outbox
from broker.store.executors import Store
from broker.store.server import EmbeddedServer, find_server
from tests.updates.actors import Door, Reports, control_ids, eventually, ris


def test_a_report_reaches_an_idle_ris_at_once(door: Door, report: Reports, sink: Sink) -> None:
    door.start(ris(sink), sweep_s=30)
    took = []
    for number in range(5):
        began = time.monotonic()
        report(f"H|A{number}")
        took.append(sink.wait_for(number + 1)[-1].monotonic_s - began)
    print("commit to RIS, ms:", [round(each * 1000, 1) for each in took])
    assert min(took) < 10  # the sweeper takes thirty


def test_a_lost_wake_up_is_found_by_the_sweeper(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    report()
    store.redis.delete("{broker}:wake")
    door.start(ris(sink))
    sink.wait_for(1)


def test_r07_a_worker_killed_in_the_middle_is_followed_by_the_same_bytes_once(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer_next(Answer.SILENCE)
    first, second = report(how_many=2)
    _, worker = door.start(ris(sink, ack_timeout_s=30))
    sink.wait_for(1)
    worker.kill()
    worker.wait()
    door.launch(1).ready()
    sink.wait_for(3, deadline_s=20)  # sooner than the answer that the RIS owes
    assert control_ids(sink) == [first, first, second]
    assert sink.received[0].payload == sink.received[1].payload
    eventually(lambda: store.run(outbox.pending("ris")) == 0)


def test_a_dead_and_a_mute_ris_do_not_delay_a_third(
    door: Door, report: Reports, sink: Sink
) -> None:
    mute = Sink(answer=Answer.SILENCE)
    mute.start()
    dead = ris(Address("127.0.0.1", 9), "dead")
    door.start(dead, ris(mute, "mute", ack_timeout_s=30), ris(sink, "alive"), sweep_s=30)
    for number in range(10):
        for name in ("dead", "mute", "alive"):
            report(f"H|A{number}", name)
    sink.wait_for(10, deadline_s=20)  # sooner than the mute one is given up
    door.stop()
    mute.stop()


def test_a_burst_goes_out_in_order_and_the_queue_stays_short(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    sent = {f"H|A{number}": report(f"H|A{number}", how_many=3) for number in range(100)}
    began = time.monotonic()
    door.start(ris(sink))
    longest = 0
    while len(sink.received) < 300:
        longest = max(longest, store.redis.llen("{broker}:rq:queue:ris"))
        assert time.monotonic() - began < 30
        time.sleep(0.005)
    got = control_ids(sink)
    assert {order: [c for c in got if c in ids] for order, ids in sent.items()} == sent
    assert longest <= 16


def test_sigterm_ends_after_the_message_in_flight(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    sink.delay_s = 0.4
    first, second = report(how_many=2)
    dispatcher, worker = door.start(ris(sink, ack_timeout_s=5), stop_grace_s=5)
    sink.wait_for(1)
    for process in (worker, dispatcher):
        process.send_signal(signal.SIGTERM)
    assert (worker.wait(30), dispatcher.wait(30)) == (0, 0)
    assert control_ids(sink) == [first]
    assert [event.control_id for event in store.run(outbox.events("ris", "H|A1"))] == [second]
    assert store.redis.keys("*lease*") == []


def test_sigterm_does_not_wait_for_a_mute_ris(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer = Answer.SILENCE
    report()
    _, worker = door.start(ris(sink, ack_timeout_s=60))
    sink.wait_for(1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert store.run(outbox.pending("ris")) == 1
    assert store.redis.keys("*lease*") == []


def test_an_idle_door_ends_at_once(door: Door, sink: Sink) -> None:
    processes = door.start(ris(sink))
    time.sleep(0.3)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(12) for process in processes] == [0, 0]  # RQ would take 15 s and more


def test_everything_resumes_when_redis_is_back(tmp_path: Path, sink: Sink) -> None:
    server = EmbeddedServer(tmp_path, binary=find_server())
    server.start()
    store = Store(server.url)
    report = Reports(store)
    door = Door(server.url)
    processes = door.start(ris(sink))
    report("H|A1")
    sink.wait_for(1)
    server.stop()
    time.sleep(0.3)
    server.start()
    store.redis.connection_pool.disconnect()
    report("H|A2")
    sink.wait_for(2)
    assert [process.poll() for process in processes] == [None, None]
    door.stop()
    store.close()
    server.stop()


def test_the_door_waits_for_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, binary=find_server())
    door = Door(server.url)
    waiting = door.launch(0)
    time.sleep(0.5)
    server.start()
    assert waiting.ready() == {"updates": "dispatching"}
    door.stop()
    assert waiting.poll() == 0
    server.stop()
