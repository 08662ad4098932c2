"""Statements 96 to 98 of the standards, and hazards P20, P21, R8 to R11, by the door that sends."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from broker.hl7.message import parse
from broker.mapping.loading import load
from broker.probe.ris import Answer, Sink
from broker.rollout.announcing import Notice, announced
from broker.rollout.current import Mappings
from broker.settings import Address, Ris, shipped_mappings
from broker.store import dead, outbox
from broker.store.commit import Commit, Committed, commit
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from broker.updates.door import way_to
from broker.updates.drain import Drain
from broker.updates.queue import BrokerQueue
from tests.modality.hospital import ITEMS, Hospital, new_order, new_uid
from tests.updates.actors import Door, Job, Reports, control_ids, eventually, quick, ris

pytestmark = pytest.mark.peer("redis-server")
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - the site's clock
BEGUN = {
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "AccessionNumber": "A1",
    "PlacerOrderNumberImagingServiceRequest": "P1",
    "FillerOrderNumberImagingServiceRequest": "F1",
    "RequestedProcedureID": "RP1",
    "PatientName": "Größler^Änne",
}


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory) -> Mappings:
    """status-orm, and the same in 8859/1."""
    folder = tmp_path_factory.mktemp("mappings")
    shutil.copy(shipped_mappings() / "status-orm.yaml", folder)
    head = "mapping: latin\nextends: status-orm\ndirection: out\nmessage: ORM^O01\nversion: 2.3.1\n"
    (folder / "latin.yaml").write_text(f"{head}fields:\n  MSH-18: {{const: 8859/1}}\n")
    return Mappings(load(folder, examples=False), "1")


def tell(store: Store, mappings: Mappings, *targets: Ris, **said: str) -> None:
    """What a transition leaves behind for these RISs."""
    notice = Notice("H|A1", "RP1", {**BEGUN, **said})
    happened = ("1.2.3", said.get("PerformedProcedureStepStatus", "IN PROGRESS"))
    events = list(announced(mappings, targets, notice, happened, NOW))
    outcome = store.run(commit(Commit(at=NOW.astimezone(), events=events)))
    assert isinstance(outcome, Committed)


def test_riss_of_one_mapping_are_told_the_same_under_a_number_of_their_own(
    mappings: Mappings,
) -> None:
    near = Address("127.0.0.1", 9)
    targets = (ris(near, "north"), ris(near, "south"), ris(near, "west", mapping="latin"))
    notice = Notice("H|A1", "RP1", BEGUN)
    events = list(announced(mappings, targets, notice, ("1.2.3", "IN PROGRESS"), NOW))
    ids = [event.control_id.encode() for event in events]
    assert len(set(ids)) == 3
    for event, own in zip(events, ids, strict=True):
        assert event.payload.split(b"|")[9] == own
    north, south, west = (e.payload.replace(own, b"") for e, own in zip(events, ids, strict=True))
    assert north == south
    assert b"8859/1" in west


def test_statement_96_what_is_sent_is_escaped_in_the_character_set_of_msh_18_with_ip_cm_or_dc(
    drain: Job, store: Store, mappings: Mappings, sink: Sink
) -> None:
    target = ris(sink, mapping="latin")
    for status in ("IN PROGRESS", "COMPLETED", "DISCONTINUED"):
        said = {
            "PerformedProcedureStepStatus": status,
            "RequestedProcedureDescription": r"a|b^c~d\e&f",
        }
        tell(store, mappings, target, **said)
    drain(target)()
    assert [message.field("ORC", 5) for message in sink.received] == ["IP", "CM", "DC"]
    for message in sink.received:
        text = message.payload.decode("latin-1")
        assert "|8859/1" in text.split("\r")[0]
        assert "|Größler^Änne" in text
        order = parse(text).first("OBR")
        assert order is not None
        assert r"^a\F\b\S\c\R\d\E\e\T\f" in text
        assert order.field(18) == "A1"


def test_statement_97_placer_and_filler_numbers_are_those_of_the_order_when_mpps_has_none(
    gate: Hospital, sink: Sink
) -> None:
    order = new_order()
    gate.orders(order)
    with gate.scanner() as scanner:
        begun, uid = gate.start(scanner, order), new_uid()
        item = begun[ITEMS][0]
        item |= {k: "" for k in item if k.startswith(("PlacerOrder", "FillerOrder"))}
        typed = {"PlacerOrderNumberImagingServiceRequest": "TYPED"}
        assert scanner.create(uid, {**begun, ITEMS: [item | typed]}).status == 0x0000
        assert scanner.set(uid, gate.ended(uid)).status == 0x0000
    target = ris(sink)
    pace = quick(drain_s=5)
    way = way_to(target)
    Drain(
        target,
        way,
        gate.store,
        nudge=lambda: None,
        stop=Flag(),
        pace=pace,
        observe=lambda _: None,
    )()
    way.close()
    mine = [each for each in sink.received if each.field("OBR", 18) == order.accession]
    assert [each.field("ORC", 5) for each in mine] == ["IP", "CM"]
    for message in mine:
        numbers = [message.field(segment, n) for segment in ("ORC", "OBR") for n in (2, 3)]
        assert [each.split("^")[0] for each in numbers] == [order.placer, order.filler] * 2


def test_statement_98_a_refusal_is_parked_and_everything_else_tried_again_and_others_go_on(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    [refused] = report("H|A1")
    sink.answer_next(Answer.AE)
    drain(ris(sink))()
    assert store.run(dead.ids()) == [refused]
    [late], [other] = report("H|A2"), report("H|A3")
    sink.answer_next(Answer.AR, Answer.AA, Answer.SILENCE, Answer.WRONG_CONTROL_ID)
    job = drain(ris(sink, ack_timeout_s=0.3))
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    got = control_ids(sink)
    assert got.count(refused) == 1
    assert got.count(late) == 4
    assert got.count(other) == 1
    assert got.index(other) < len(got) - 1
    assert store.run(dead.ids()) == [refused]


def test_p20_a_ris_that_was_down_for_twelve_hours_gets_all_in_order_and_each_once(
    drain: Job, store: Store, report: Reports
) -> None:
    """Twelve hours are a few hundred tries in vain: as many are made here, without the waiting."""
    gone = Sink()
    address = Address(*gone.start())
    gone.stop()
    sent: dict[str, list[str]] = {f"H|A{n}": [] for n in range(10)}
    for hour in range(12):
        for order in sent:
            sent[order] += report(order)
        for _ in range(5):
            drain(ris(address), backoff_s=(0.001,))()
        assert store.run(outbox.pending("ris")) == 10, hour
    back = Sink()
    back.start(*address)
    job = drain(ris(address), drain_s=20)
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    back.stop()
    got = control_ids(back)
    assert {order: [id for id in got if id in ids] for order, ids in sent.items()} == sent
    assert len(got) == len(set(got)) == 120


def test_p21_a_ris_that_answers_anything_loses_nothing_and_repeats_are_the_same_bytes(
    drain: Job, store: Store, report: Reports, sink: Sink
) -> None:
    sink.answer_next(
        *[Answer.AE] * 5,
        *[Answer.AR, Answer.GARBAGE, Answer.SILENCE, Answer.WRONG_CONTROL_ID, Answer.CLOSE],
    )
    ids = report("H|A1", how_many=7)
    job = drain(ris(sink, ack_timeout_s=0.2))
    eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
    assert sorted(store.run(dead.ids())) == sorted(ids[:5])
    assert control_ids(sink) == [*ids[:5], *[ids[5]] * 6, ids[6]]
    assert len({message.payload for message in sink.received[5:11]}) == 1
    assert control_ids(sink, Answer.AA) == ids[5:]


def test_r08_a_worker_told_to_end_as_it_takes_a_job_loses_and_doubles_nothing(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    door.targets = (ris(sink, ack_timeout_s=5),)
    sent: list[str] = []
    for round_ in range(3):
        worker = door.launch(1)
        worker.ready()
        queue = BrokerQueue("ris", store.redis)
        sent += report(how_many=2)
        queue.nudge(timeout_s=30)
        if round_:  # at once, then ever later: before, at and after the job is taken
            time.sleep(round_ * 0.004)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert store.redis.keys("*lease*") == []
    door.launch(1).ready()
    BrokerQueue("ris", store.redis).nudge(timeout_s=30)
    eventually(lambda: store.run(outbox.pending("ris")) == 0, 30)
    assert control_ids(sink) == sent


def test_r09_a_poison_job_is_put_aside_and_the_next_one_runs(
    door: Door, store: Store, report: Reports, sink: Sink
) -> None:
    queue = BrokerQueue("ris", store.redis)
    queue.enqueue("os.abort")
    sent = report()
    door.start(ris(sink))
    eventually(lambda: control_ids(sink) == sent)
    eventually(lambda: queue.failed_job_registry.count == 1)


def test_r10_two_workers_of_one_ris_keep_the_order_of_every_order(
    door: Door, report: Reports, sink: Sink
) -> None:
    sink.delay_s = 0.01  # or the first worker is done before the second begins
    sent = {f"H|A{n}": report(f"H|A{n}", how_many=5) for n in range(40)}
    processes = door.start(ris(sink, connections=2))
    assert len(processes) == 3
    sink.wait_for(200, deadline_s=30)
    got = control_ids(sink)
    assert {order: [id for id in got if id in ids] for order, ids in sent.items()} == sent
    assert len(got) == len(set(got))
    assert len({message.connection for message in sink.received}) == 2


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_r11_foreign_bytes_in_the_key_of_a_job_are_refused_and_the_worker_goes_on(
    door: Door, store: Store, report: Reports, sink: Sink, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    queue = BrokerQueue("ris", store.redis)
    for data in (bomb, os.urandom(200)):
        job = queue.enqueue("drain")
        store.redis.hset(job.key, mapping={"data": data, "meta": data, "created_at": data})
    job = queue.enqueue("drain")
    store.redis.delete(job.key)
    store.redis.set(job.key, bomb)
    sent = report()
    _, worker = door.start(ris(sink))
    eventually(lambda: control_ids(sink) == sent, 30)
    assert not (tmp_path / "exploded").exists()
    assert worker.poll() is None


def test_rq_info_of_an_administrator_shows_queue_and_worker(
    door: Door, server: EmbeddedServer, report: Reports, sink: Sink
) -> None:
    """The command that comes with RQ, as docs/delivery.md has it."""
    door.start(ris(sink))
    report()
    sink.wait_for(1, deadline_s=20)
    rq = Path(sys.executable).with_name("rq")
    environ = {**os.environ, "RQ_KEY_PREFIX": "{broker}:rq"}

    def info() -> str:
        command = [rq, "info", "--url", server.url]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return done.stdout

    eventually(lambda: "1 workers, 1 queues" in info(), 30)
    assert "\nris " in f"\n{info()}"
