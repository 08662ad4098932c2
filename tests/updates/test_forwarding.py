"""MPPS sent on to other SCPs: as it came, in order, again after a lost answer, never twice."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.dicom.encoding import encode
from broker.dicom.identifier import decode
from broker.probe.datasets import to_dataset
from broker.probe.ris import Sink
from broker.settings import Address
from broker.store import dead, destinations, outbox, stored
from broker.store.executors import Store
from tests.modality.hospital import Hospital, new_order, new_uid
from tests.store.sending import take
from tests.tls.authority import Authority
from tests.updates.actors import Door, Job, eventually
from tests.updates.pacs import LOSE, Pacs, forward, pacs

pytestmark = pytest.mark.peer("redis-server")
IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)
BEGUN = {
    "PerformedProcedureStepStatus": "IN PROGRESS",
    "PatientName": "Müller^Jörg",
    "SpecificCharacterSet": "ISO_IR 100",
}
_NUMBERS = count(1)


@pytest.fixture
def peer() -> Iterator[Pacs]:
    with pacs() as running:
        yield running


def data_set(status: str = "IN PROGRESS", syntax: str = IMPLICIT) -> bytes:
    said = {**BEGUN, "PerformedProcedureStepStatus": status}
    del said["SpecificCharacterSet"]
    return encode(said, syntax, "ISO_IR 100")


def exam(store: Store, *operations: str, to: str = "pacs", syntax: str = IMPLICIT) -> str:
    """What the modality door leaves behind: requests of one exam; gives its UID."""
    uid = new_uid()
    for n, operation in enumerate(operations):
        status = "IN PROGRESS" if n < 2 else "COMPLETED"
        event = outbox.Event(
            ris=to,
            order=uid,
            control_id=f"F{next(_NUMBERS)}",
            created=float(n + 1),
            mapping="",
            note=f"{operation} {status}",
            payload=data_set(status, syntax),
            kind="mpps",
            facts={"operation": operation, "syntax": syntax, "ae": "CT1"},
        )
        for command in outbox.adding(event):
            store.redis.execute_command(*command)
    return uid


def test_requests_of_an_exam_arrive_in_order_as_they_came_over_one_association(
    drain: Job, store: Store, peer: Pacs
) -> None:
    uid = exam(store, "N-CREATE", "N-SET", "N-SET")
    drain(forward(peer, ae_title="GATE"))()
    assert peer.operations() == ["N-CREATE", "N-SET", "N-SET"]
    assert {each.uid for each in peer.got} == {uid}
    expected = [data_set(), data_set(), data_set("COMPLETED")]
    assert [each.data for each in peer.got] == expected
    assert len({id(each.association) for each in peer.got}) == 1
    assert {each.calling for each in peer.got} == {"GATE"}
    assert store.run(outbox.pending("pacs")) == 0


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_data_set_goes_in_the_syntax_in_which_it_came(
    drain: Job, store: Store, peer: Pacs, syntax: str
) -> None:
    exam(store, "N-CREATE", syntax=syntax)
    drain(forward(peer))()
    [got] = peer.got
    assert (got.syntax, got.data) == (syntax, data_set(syntax=syntax))


def test_an_scp_that_takes_another_syntax_only_gets_the_same_values(
    drain: Job, store: Store
) -> None:
    with pacs(syntaxes=[EXPLICIT]) as peer:
        exam(store, "N-CREATE", syntax=IMPLICIT)
        drain(forward(peer))()
        [got] = peer.got
    assert got.syntax == EXPLICIT
    assert got.data == data_set(syntax=EXPLICIT)
    assert decode(got.data, EXPLICIT).keys["PatientName"] == "Müller^Jörg"


@pytest.mark.parametrize(
    ("status", "becomes"),
    [
        (0x0107, "done"),
        (0x0116, "done"),
        (0x0110, "parked"),
        (0x0111, "parked"),
        (0x0112, "parked"),
        (0x0106, "parked"),
        (0x0212, "waits"),
        (0xA700, "waits"),
    ],
)
def test_what_a_status_means(
    drain: Job, store: Store, peer: Pacs, status: int, becomes: str
) -> None:
    uid = exam(store, "N-CREATE", "N-SET")
    peer.next.append(status)
    drain(forward(peer), backoff_s=(60,))()
    assert peer.operations() == ["N-CREATE"] + (["N-SET"] if becomes != "waits" else [])
    letters = store.run(dead.read(ids)) if (ids := store.run(dead.ids())) else []
    expected = [f"{status:04X}"] if becomes == "parked" else []
    assert [each.cause for each in letters] == expected
    waiting = store.run(outbox.events("pacs", uid))
    assert len(waiting) == (2 if becomes == "waits" else 0)


def test_a_site_may_say_what_a_status_means(drain: Job, store: Store, peer: Pacs) -> None:
    exam(store, "N-CREATE")
    peer.next += [0x0110, 0x0000]
    job = drain(forward(peer, statuses={"0110": "retry"}), backoff_s=(0.05,))
    eventually(lambda: (job(), store.run(outbox.pending("pacs")) == 0)[1])
    assert peer.operations() == ["N-CREATE", "N-CREATE"]
    assert store.run(dead.count()) == 0


@pytest.mark.parametrize(
    ("operations", "answer"), [(("N-CREATE",), 0x0111), (("N-CREATE", "N-SET"), 0x0110)]
)
def test_after_a_lost_answer_that_it_is_there_already_is_success(
    drain: Job, store: Store, peer: Pacs, operations: tuple[str, ...], answer: int
) -> None:
    exam(store, *operations)
    peer.next += [*[0x0000] * (len(operations) - 1), LOSE, answer]
    job = drain(forward(peer), backoff_s=(0.05,))
    eventually(lambda: (job(), store.run(outbox.pending("pacs")) == 0)[1])
    assert peer.operations() == [*operations, operations[-1]]
    assert peer.got[-1].data == peer.got[-2].data
    assert store.run(dead.count()) == 0


def test_a_worker_that_died_is_followed_by_one_that_knows_that_it_was_sent(
    drain: Job, store: Store, peer: Pacs
) -> None:
    """What a worker notes before it sends; its lease ends by itself."""
    uid = exam(store, "N-CREATE")
    taken = take(store, "killed", order=uid, ris="pacs", ttl_ms=500)
    assert taken is not None
    noted = outbox.Trouble(taken.control_id, doubt=True)
    assert store.run(outbox.note("pacs", uid, "killed", noted))
    peer.next.append(0x0111)
    job = drain(forward(peer))
    eventually(lambda: (job(), store.run(outbox.pending("pacs")) == 0)[1])
    assert store.run(dead.count()) == 0


def test_after_a_refused_begin_hold_keeps_the_end_back(
    drain: Job, store: Store, peer: Pacs
) -> None:
    uid = exam(store, "N-CREATE", "N-SET")
    peer.next.append(0x0110)
    job = drain(forward(peer, on_reject="hold"))
    job()
    assert peer.operations() == ["N-CREATE"]
    [letter] = store.run(dead.read(store.run(dead.ids())))
    assert letter.event is not None
    assert (letter.holds, letter.box, letter.event.payload) == (True, uid, data_set())
    store.run(dead.replay("pacs", uid, [(letter.id, letter.event)], now_ms=0))
    job()
    assert peer.operations() == ["N-CREATE", "N-CREATE", "N-SET"]


def test_a_refused_association_is_tried_again_and_said(drain: Job, store: Store) -> None:
    with pacs(called="PACS") as peer:
        exam(store, "N-CREATE")
        drain(forward(peer, called="ELSE"))()
        assert store.run(destinations.away())["pacs"].why == (
            "association rejected: it is not called so"
        )
        assert (peer.got, store.run(outbox.pending("pacs"))) == ([], 1)
        drain(forward(peer))()
        assert peer.operations() == ["N-CREATE"]
        assert store.run(destinations.away()) == {}


def test_an_scp_that_takes_no_mpps_is_said_so(drain: Job, store: Store) -> None:
    with pacs(syntaxes=["1.2.840.10008.1.2.2"]) as peer:
        exam(store, "N-CREATE")
        drain(forward(peer))()
    assert store.run(destinations.away())["pacs"].why == "it takes no MPPS"


def test_what_speaks_no_dicom_is_said_so(drain: Job, store: Store) -> None:
    sink = Sink()
    exam(store, "N-CREATE")
    drain(forward(Address(*sink.start())), backoff_s=(60,))()
    sink.stop()
    assert "pacs" in store.run(destinations.away())


def test_an_scp_that_was_away_gets_every_exam_in_its_order(drain: Job, store: Store) -> None:
    with pacs() as peer:
        address = peer.address
    uids = [exam(store, "N-CREATE", "N-SET", "N-SET") for _ in range(3)]
    job = drain(forward(address))
    job()
    back = Pacs()
    back.start(port=address.port)
    eventually(lambda: (job(), store.run(outbox.pending("pacs")) == 0)[1])
    back.stop()
    for uid in uids:
        mine = [each.operation for each in back.got if each.uid == uid]
        assert mine == ["N-CREATE", "N-SET", "N-SET"]


def test_an_scp_behind_tls_gets_it_and_one_that_nobody_vouches_for_does_not(
    drain: Job, store: Store, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    exam(store, "N-CREATE")
    secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secured.load_cert_chain(authority.issue("pacs", "127.0.0.1"))
    with pacs(tls=secured) as peer:
        drain(forward(peer, tls={"ca": str(Authority(tmp_path / "other").ca)}))()
        assert store.run(destinations.away())["pacs"].why.startswith("TLS: ")
        assert peer.got == []
        drain(forward(peer, tls={"ca": str(authority.ca)}))()
    assert peer.operations() == ["N-CREATE"]


def test_the_door_sends_on_with_a_process_of_its_own(door: Door, store: Store, peer: Pacs) -> None:
    door.start(forward(peer))
    exam(store, "N-CREATE", "N-SET")
    eventually(lambda: peer.operations() == ["N-CREATE", "N-SET"])


# --- from the scanner on


def test_a_scanners_requests_are_sent_on_byte_for_byte_and_repeats_are_not(
    gate: Hospital, drain: Job, peer: Pacs
) -> None:
    order = new_order()
    gate.orders(order)
    with gate.scanner() as scanner:
        begun, uid = gate.start(scanner, order), new_uid()
        create = to_dataset(begun)
        ended = to_dataset(gate.ended(uid))
        told = [scanner.create(uid, create), scanner.create(uid, create), scanner.set(uid, ended)]
    assert [each.status for each in told] == [0x0000] * 3
    waiting = gate.store.run(outbox.events("pacs", uid))
    assert [each.note for each in waiting] == ["N-CREATE IN PROGRESS", "N-SET COMPLETED"]
    received = gate.store.redis.hgetall("{broker}:mpps-received:" + uid)
    assert [each.payload for each in waiting] == [
        stored.received(received[b"created"]),
        stored.received(received[b"newest"]),
    ]
    assert gate.store.run(outbox.events("dose", uid)) == []


def test_another_broker_takes_what_is_sent_on(gate: Hospital, drain: Job, store: Store) -> None:
    """It is an SCP like any other."""
    order, uid = new_order(), new_uid()
    gate.orders(order)
    with gate.scanner() as scanner:
        begun, ended = gate.start(scanner, order), gate.ended(uid)
    to = forward(Address("127.0.0.1", gate.ports[1]), called="BROKER", ae_title="GATE")
    for n, (operation, said) in enumerate((("N-CREATE", begun), ("N-SET", ended))):
        facts = {"operation": operation, "syntax": IMPLICIT, "ae": "CT1"}
        numbered = {"control_id": f"B{n}", "created": float(n + 1), "mapping": "", "note": ""}
        event = outbox.Event(
            ris="pacs",
            order=uid,
            payload=encode(said, IMPLICIT),
            kind="mpps",
            facts=facts,
            **numbered,
        )
        for command in outbox.adding(event):
            store.redis.execute_command(*command)
    drain(to)()
    assert (store.run(outbox.pending("pacs")), store.run(dead.count())) == (0, 0)
    assert gate.states(order) == ["IP", "CM"]


def test_an_scp_hears_of_the_aes_that_it_wants_only(gate: Hospital) -> None:
    order = new_order()
    gate.orders(order)
    with gate.scanner("CT2") as scanner:
        uid = gate.begins(scanner, order)
    assert len(gate.store.run(outbox.events("dose", uid))) == 1


def test_what_is_refused_is_not_sent_on(gate: Hospital) -> None:
    uid = new_uid()
    with gate.scanner() as scanner:
        assert scanner.set(uid, gate.ended(uid)).status == 0x0112
    assert gate.store.run(outbox.events("pacs", uid)) == []


def test_an_exam_without_an_order_is_sent_on_as_well(gate: Hospital) -> None:
    order, uid = new_order(), new_uid()
    gate.orders(order)
    with gate.scanner() as scanner:
        begun = gate.start(scanner, order)
        items = [{**begun["ScheduledStepAttributesSequence"][0], "StudyInstanceUID": new_uid()}]
        for item in items:
            item["AccessionNumber"] = ""
        said = {**begun, "ScheduledStepAttributesSequence": items}
        assert scanner.create(uid, said).status == 0x0000
    assert len(gate.store.run(outbox.events("pacs", uid))) == 1
