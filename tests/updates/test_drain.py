"""The job against a real Redis and a RIS that answers as told: order, verdicts, leases."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from broker.hl7.framing import Block, Deframer, frame
from broker.probe.ris import Answer, Sink
from broker.settings import Address
from broker.store import dead, destinations, outbox
from broker.store.destinations import Pause
from broker.store.executors import Store
from broker.updates.drain import Attempt
from broker.updates.pace import Pace
from tests.store.sending import take
from tests.updates.actors import Job, Reports, control_ids, eventually, ris


def test_the_messages_of_an_order_go_in_order_over_one_connection(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sent = report(how_many=20)
    drain(ris(sink))()
    assert control_ids(sink) == sent
    assert {message.connection for message in sink.received} == {1}
    assert store.run(outbox.pending("ris")) == 0
    assert store.redis.keys("*lease*") == store.redis.keys("*outbox*") == []


@pytest.mark.parametrize(
    "failure",
    [
        Answer.AR,
        Answer.CR,
        Answer.SILENCE,
        Answer.GARBAGE,
        Answer.WRONG_CONTROL_ID,
        Answer.CLOSE,
    ],
)
def test_what_is_not_the_contents_fault_is_sent_again_unchanged_before_the_next(
    drain: Job, store: Store, report: Reports, sink: Sink, failure: Answer
) -> None:
    sink.answer_next(Answer.AA, failure, failure)
    first, second, third = report(how_many=3)
    job = drain(ris(sink, ack_timeout_s=0.3))
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    assert control_ids(sink) == [first, second, second, second, third]
    assert len({message.payload for message in sink.received[1:4]}) == 1
    assert store.run(dead.count()) == 0


def test_answers_that_come_quickly_are_settled_together(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    for number in range(60):
        report(f"H|A{number}")
    store.redis.config_resetstat()
    drain(ris(sink))()
    assert len(control_ids(sink)) == 60
    assert store.redis.info("commandstats")["cmdstat_evalsha"]["calls"] < 60
    assert store.redis.keys("*lease*") == store.redis.keys("*outbox*") == []


def test_while_a_ris_keeps_us_waiting_what_it_answered_is_settled_and_the_rest_is_free(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    """Otherwise a worker killed now sends it all again, and another one finds nothing to do."""
    answered: list[Attempt] = []

    def observe(attempt: Attempt) -> None:
        answered.append(attempt)
        if len(answered) == 9:
            sink.answer = Answer.SILENCE

    for number in range(20):
        report(f"H|A{number}")
    job = drain(ris(sink, ack_timeout_s=2), observe)
    worker = threading.Thread(target=job)
    worker.start()
    sink.wait_for(10)
    eventually(lambda: store.run(outbox.pending("ris")) == 11)
    eventually(lambda: len(store.redis.keys("*lease*")) == 1)
    sink.answer = Answer.AA
    worker.join()
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    assert len(set(control_ids(sink))) == 20


def test_a_job_that_is_through_looks_once_more_before_it_ends(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sent = report()

    job = drain(ris(sink), linger_s=1.5)
    worker = threading.Thread(target=job)
    worker.start()
    eventually(lambda: store.run(outbox.pending("ris")) == 0)
    sent += report("H|A2")
    worker.join()
    assert control_ids(sink) == sent


def test_a_retry_waits_and_other_orders_do_not(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer_next(Answer.AR)
    late, *_ = report("H|A1", how_many=2)
    others = [report(f"H|B{number}")[0] for number in range(3)]
    drain(ris(sink), backoff_s=(60,))()
    assert control_ids(sink) == [late, *others]
    assert store.run(outbox.pending("ris")) == 1


def test_orders_that_are_not_sent_any_more_are_free_for_others(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    orders = [f"H|C{number}" for number in range(4)]
    for order in orders:
        report(order)
    drain(ris(sink), drain_s=0)()
    assert len(sink.received) == 1
    assert store.redis.keys("*lease*") == []
    drain(ris(sink))()
    assert len(set(control_ids(sink))) == len(sink.received) == len(orders)


def test_while_much_waits_neither_the_newest_nor_the_oldest_is_last(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    """However little a job gets done: here it is one order."""
    oldest, *_ = [report(f"H|A{number:03}")[0] for number in range(250)]
    job = drain(ris(sink), drain_s=0)
    job()
    (born,) = report("H|BORN")
    for _ in range(101):
        job()
    assert {oldest, born} <= set(control_ids(sink))
    assert store.run(outbox.pending("ris")) == 149


@pytest.mark.parametrize("refusal", [Answer.AE, Answer.CE])
def test_a_refused_message_is_parked_with_its_cause_and_the_next_goes(
    drain: Job, store: Store, report: Reports, sink: Sink, refusal: Answer
) -> None:
    sink.answer_next(refusal)
    sent = report(how_many=2)
    drain(ris(sink))()
    assert control_ids(sink) == sent
    (letter,) = store.run(dead.read(store.run(dead.ids())))
    assert (letter.id, letter.cause) == (sent[0], refusal.value)
    assert letter.event is not None
    assert "Müller" in letter.event.payload.decode()
    assert store.run(outbox.pending("ris")) == 0


def test_hold_keeps_the_order_behind_the_refused_message_until_a_person_decides(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer_next(Answer.AE)
    refused, following = report("H|A1", how_many=2)
    (other,) = report("H|B1")
    job = drain(ris(sink, on_reject="hold"))
    job()
    (later,) = report("H|A1")
    job()
    assert control_ids(sink) == [refused, other]
    (letter,) = store.run(dead.read([refused]))
    assert letter.event is not None
    store.run(dead.replay("ris", "H|A1", [(refused, letter.event)], now_ms=0))
    job()
    assert control_ids(sink) == [refused, other, refused, following, later]
    assert store.run(dead.count()) == 0


def test_the_waits_grow_to_a_minute_and_are_not_all_alike() -> None:
    waits = [Pace().pause_s(attempts, lambda: 0.0) for attempts in range(1, 8)]
    assert waits == [1, 2, 5, 15, 60, 60, 60]
    assert Pace().pause_s(9, lambda: 1.0) == 72


def test_a_ris_that_is_away_is_looked_for_every_fifteen_seconds_at_least() -> None:
    waits = [Pace().knock_s(attempts, lambda: 0.0) for attempts in (1, 2, 3, 4, 5, 100)]
    assert waits == [1, 2, 5, 15, 15, 15]


def test_a_ris_that_is_away_costs_one_connection_now_and_then(
    drain: Job, store: Store, report: Reports
) -> None:
    target = ris(Address("127.0.0.1", 9))
    attempts: list[str] = []
    job = drain(target, backoff_s=(0.2,), observe=lambda each: attempts.append(each.verdict))
    for number in range(50):
        report(f"H|A{number}")
    for _ in range(20):
        job()
    assert attempts == ["unreachable"]
    time.sleep(0.25)
    job()
    assert attempts == ["unreachable"] * 2
    assert store.run(outbox.pending("ris")) == 50


def test_a_ris_that_was_away_gets_everything_in_order(
    drain: Job, store: Store, report: Reports
) -> None:
    sink = Sink()
    address = sink.start()
    sink.stop()
    job = drain(ris(Address(*address)))
    sent = {order: report(order, how_many=3) for order in ("H|A1", "H|A2")}
    job()
    sink.start(*address)
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    sink.stop()
    got = control_ids(sink)
    assert {order: [c for c in got if c in ids] for order, ids in sent.items()} == sent
    assert len(got) == 6


def test_a_ris_that_closes_after_every_message_gets_each_once(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sent = []
    job = drain(ris(sink))
    address = sink.address
    for _ in range(3):
        sent += report()
        job()
        sink.stop()
        sink.start(*address)
    assert control_ids(sink) == sent


def test_r10_two_workers_never_interleave_one_order(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    orders = [f"H|A{number}" for number in range(4)]
    sent = {order: report(order, how_many=25) for order in orders}
    jobs = [drain(ris(sink), drain_s=10) for _ in range(2)]
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: (jobs[0](), store.run(outbox.pending("ris")) == 0)[1])
    got = control_ids(sink)
    assert {order: [c for c in got if c in ids] for order, ids in sent.items()} == sent
    assert len(got) == 100


def test_a_worker_that_lost_its_lease_neither_pops_nor_sends_on(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    first, second = report(how_many=2)
    sink.delay_s = 0.3

    def steal() -> None:
        sink.wait_for(1)
        store.redis.set("{broker}:lease:ris:H|A1", "another", px=60_000)

    thief = threading.Thread(target=steal)
    thief.start()
    job = drain(ris(sink))
    job()
    thief.join()
    assert control_ids(sink) == [first]
    assert [event.control_id for event in store.run(outbox.events("ris", "H|A1"))] == [
        first,
        second,
    ]


def test_a_slow_ris_keeps_its_lease(drain: Job, store: Store, report: Reports, sink: Sink) -> None:
    sink.delay_s = 0.9
    sent = report()
    job = drain(ris(sink, ack_timeout_s=5), lease_s=0.4, renew_s=0.1)
    worker = threading.Thread(target=job)
    worker.start()
    sink.wait_for(1)
    time.sleep(0.6)
    assert not take(store, "another", order="H|A1", ris="ris", ttl_ms=100)
    worker.join()
    assert control_ids(sink) == sent
    assert store.run(outbox.pending("ris")) == 0


def test_an_application_answer_after_the_accept_answer_is_not_taken_for_the_next(
    drain: Job, store: Store, report: Reports
) -> None:
    sent = report(how_many=3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got: list[bytes] = []
        enhanced = threading.Thread(target=_accept_then_answer, args=(listener, got))
        enhanced.start()
        drain(ris(Address("127.0.0.1", listener.getsockname()[1])))()
        enhanced.join()
    assert [message.split(b"|")[9].decode() for message in got] == sent
    assert store.run(outbox.pending("ris")) == 0


def _accept_then_answer(listener: socket.socket, got: list[bytes]) -> None:
    """Answer three messages with CA, and with the AA for each only some time later."""
    connection, _ = listener.accept()
    deframer = Deframer(2**16)
    with connection:
        late = b""
        while len(got) < 3:
            for block in deframer.receive(connection.recv(2**16)):
                assert isinstance(block, Block)
                got.append(block.payload)
                control_id = block.payload.split(b"|")[9]
                head = b"MSH|^~\\&|RIS|H|BROKER|H|2026||ACK|1|P|2.3.1\rMSA|"
                connection.sendall(late + frame(head + b"CA|" + control_id + b"\r"))
                late = frame(head + b"AA|" + control_id + b"\r")


@pytest.mark.parametrize(
    "junk", [b"HTTP/1.1 400 Bad Request", b"MSH|^~\\&|RIS|H|BROKER|H|2026||ACK|1|P|2.3.1\rMSA|AA|"]
)
def test_an_answer_outside_of_a_block_is_nonsense_at_once_and_no_silence(
    drain: Job, store: Store, report: Reports, junk: bytes
) -> None:
    report()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_with, args=(listener, junk))
        answering.start()
        target = ris(Address("127.0.0.1", listener.getsockname()[1]), ack_timeout_s=60)
        job = drain(target)
        job()
        job.close()
        answering.join()
    trouble = store.run(destinations.troubles("ris"))["H|A1"]
    assert trouble.cause == "answer is in no MLLP block (VT, FS, CR)"


def _answer_with(listener: socket.socket, junk: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(2**16)
        connection.sendall(junk)
        while connection.recv(2**16):
            pass


def test_an_answer_in_pieces_with_a_lone_end_byte_is_read(
    drain: Job, store: Store, report: Reports
) -> None:
    (control_id,) = report()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_in_pieces, args=(listener, control_id))
        answering.start()
        job = drain(ris(Address("127.0.0.1", listener.getsockname()[1]), ack_timeout_s=2))
        job()
        job.close()
        answering.join()
    assert store.run(outbox.pending("ris")) == 0


def _answer_in_pieces(listener: socket.socket, control_id: str) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(2**16)
        whole = frame(
            b"MSH|^~\\&|RIS|H|BROKER|H|2026||ACK|1|P|2.3.1\rMSA|AA|%b\r" % control_id.encode()
        )
        for at in range(0, len(whole) - 1, 20):
            connection.sendall(whole[:-1][at : at + 20])
            time.sleep(0.01)
        connection.recv(1)


@pytest.mark.parametrize(
    "damaged",
    [
        "{}",
        '{"control_id": "1", "created": 1, "payload": "\u2603"}',
        '{"control_id": "1", "created": 1, "payload": "AAAA", "kind": "mpps"}',
    ],
)
def test_r09_an_unreadable_event_becomes_a_dead_letter_and_all_others_go(
    drain: Job, store: Store, report: Reports, sink: Sink, damaged: str
) -> None:
    report("H|A1")
    store.redis.lset("{broker}:outbox:ris:H|A1", 0, damaged)
    (behind,) = report("H|A1")
    (other,) = report("H|A2")
    drain(ris(sink))()
    assert sorted(control_ids(sink)) == sorted([behind, other])
    assert store.run(outbox.pending("ris")) == 0
    (letter,) = store.run(dead.read(store.run(dead.ids())))
    assert (letter.cause, letter.to, letter.box) == ("unreadable", "ris", "H|A1")


def test_nothing_is_sent_while_a_ris_is_paused_and_all_in_order_afterwards(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sent = report(how_many=2)
    store.run(destinations.pause("ris", Pause(1.0, "me")))
    job = drain(ris(sink))
    job()
    sent += report()
    job()
    assert control_ids(sink) == []
    store.run(destinations.resume("ris"))
    job()
    assert control_ids(sink) == sent


def test_a_pause_lets_the_message_in_flight_end_and_not_the_next(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    first, second = report(how_many=2)
    sink.delay_s = 0.3
    worker = threading.Thread(target=drain(ris(sink, ack_timeout_s=5)))
    worker.start()
    sink.wait_for(1)
    store.run(destinations.pause("ris", Pause(1.0, "me")))
    worker.join()
    assert control_ids(sink) == [first]
    assert [event.control_id for event in store.run(outbox.events("ris", "H|A1"))] == [second]


def test_that_a_ris_is_away_is_known_and_that_it_is_back(
    drain: Job, store: Store, report: Reports
) -> None:
    sink = Sink()
    address = sink.start()
    sink.stop()
    report()
    job = drain(ris(Address(*address)))
    job()
    assert store.run(destinations.away())["ris"].why == "Connection refused"
    sink.start(*address)
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    sink.stop()
    assert store.run(destinations.away()) == {}


def test_the_tries_of_a_message_are_counted_over_workers(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer = Answer.AR
    (sent,) = report()
    for _ in range(2):
        drain(ris(sink), backoff_s=(0.01,))()
        store.run(destinations.hurry("ris", now_ms=int(time.time() * 1000)))
    trouble = store.run(destinations.troubles("ris"))["H|A1"]
    assert (trouble.control_id, trouble.cause) == (sent, "AR")
    assert trouble.attempts >= 2
