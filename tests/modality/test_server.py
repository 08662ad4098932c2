"""The DICOM door on a real socket: DCMTK and pynetdicom as peers, and peers that misbehave."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from ipaddress import ip_network
from typing import Any

import pytest
import structlog
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association as Requestor
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from broker.dicom.association import Acceptor
from broker.dicom.encoding import encode
from broker.dicom.negotiation import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST,
    VERIFICATION,
    Services,
)
from broker.modality.admission import Admission
from broker.modality.connection import Connection
from broker.modality.deadline import Deadline
from broker.modality.reception import NEGOTIATED_BYTES, Limits, Reception, observe_nothing
from broker.modality.sending import Sending
from broker.modality.serving import Serving
from broker.probe.stilled import stilled
from broker.worklist.directory import Directory, Entry
from broker.worklist.rules import Rules
from tests.dicom.requestor import (
    ABORT,
    RELEASE_RQ,
    associate_rq,
    cancel_rq,
    echo_rq,
    find_rq,
    n_set,
    titled,
)
from tests.modality.door import (
    SHORT,
    Door,
    Opener,
    Program,
    associated,
    closed_within,
    receive,
    status,
    wait_until,
)


@contextmanager
def scanner(
    door: Door, contexts: list[Any] | None = None, **association: Any
) -> Iterator[Requestor]:
    """A pynetdicom SCU with an association."""
    ae = AE("CT1")
    ae.requested_contexts = contexts or [
        build_context(uid)
        for uid in (VERIFICATION, MODALITY_WORKLIST, MODALITY_PERFORMED_PROCEDURE_STEP)
    ]
    requestor = stilled(ae.associate("127.0.0.1", door.port, **association))
    assert requestor.is_established
    yield requestor
    if requestor.is_established:
        requestor.release()
    ae.shutdown()


def query(**keys: str) -> Dataset:
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


# Peers that behave


@pytest.mark.peer("dcmtk")
def test_dcmtks_echoscu_is_answered(opened: Opener, dcmtk_program: Program) -> None:
    """C-ECHO by a peer that is not ours."""
    door = opened()
    run = subprocess.run(
        [str(dcmtk_program("echoscu")), "-v", "127.0.0.1", str(door.port)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 0
    assert "Received Echo Response (Success)" in run.stdout + run.stderr


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("option", ["-xi", "-xe", "-x="])
@pytest.mark.parametrize("max_pdu", ["4096", "131072"])
def test_dcmtks_findscu_gets_its_list(
    opened: Opener, dcmtk_program: Program, option: str, max_pdu: str
) -> None:
    """In each transfer syntax and with small and large PDUs."""
    door = opened(answers=7, size=9000)
    run = subprocess.run(
        [
            str(dcmtk_program("findscu")),
            "-v",
            "-W",
            option,
            "--max-pdu",
            max_pdu,
            "-k",
            "PatientID=*",
            "127.0.0.1",
            str(door.port),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert said.count("(Pending)") == 7
    assert "Received Final Find Response (Success)" in said
    assert [key for key, _ in door.scanners.asked] == ["*"]


def test_pynetdicom_asks_again_and_again_on_one_association(opened: Opener) -> None:
    """Echo and queries in turn on an association that is kept."""
    door = opened(answers=5)
    with scanner(door) as requestor:
        for number in range(3):
            assert requestor.send_c_echo().Status == 0
            responses = list(
                requestor.send_c_find(query(PatientID=f"Q{number}"), MODALITY_WORKLIST)
            )
            assert [r.Status for r, _ in responses] == [0xFF00] * 5 + [0]
            assert [d.PatientID for _, d in responses if d] == [f"P{n}" for n in range(5)]
    peers = [peer for _, peer in door.scanners.asked]
    assert {(p.calling, p.address) for p in peers} == {("CT1", "127.0.0.1")}
    assert "PYNETDICOM" in peers[0].implementation_version


def test_twenty_contexts_and_a_user_identity_are_no_obstacle(opened: Opener) -> None:
    """Cases Q33 and Q34: what is known is accepted, the rest is rejected one by one."""
    door = opened()
    little = [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
    contexts = [
        build_context(MODALITY_WORKLIST, little),
        build_context(MODALITY_WORKLIST, ExplicitVRBigEndian),
        build_context(MODALITY_WORKLIST, DeflatedExplicitVRLittleEndian),
        build_context("1.2.840.10008.5.1.4.34.6.3"),
        *[build_context(f"1.2.840.10008.5.1.4.1.1.{n}") for n in range(1, 17)],
    ]
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field, identity.secondary_field = b"user", b"password"
    identity.positive_response_requested = True
    with scanner(door, contexts, ext_neg=[identity]) as requestor:
        assert [c.transfer_syntax for c in requestor.accepted_contexts] == [little[:1]]
        assert len(requestor.rejected_contexts) == 19
        found = list(requestor.send_c_find(query(PatientID=""), MODALITY_WORKLIST))
        assert found[-1][0].Status == 0


@pytest.mark.parametrize("max_pdu", [0, 128, 4096])
def test_q35_pynetdicom_takes_our_fragments(opened: Opener, max_pdu: int) -> None:
    """Case Q35: no limit, a tiny one, an old one."""
    door = opened(answers=3, size=5000)
    with scanner(door, max_pdu=max_pdu) as requestor:
        found = list(requestor.send_c_find(query(PatientID=""), MODALITY_WORKLIST))
        assert [len(d.PatientComments) for _, d in found if d] == [5000] * 3


def test_q24_a_c_cancel_of_pynetdicom_ends_the_list(opened: Opener) -> None:
    """Case Q24: after three answers, quickly, with FE00; the association lives on."""
    door = opened(answers=100_000, pause_s=0.005)
    with scanner(door) as requestor:
        statuses = []
        for response, _ in requestor.send_c_find(query(PatientID=""), MODALITY_WORKLIST, msg_id=7):
            statuses.append(response.Status)
            if len(statuses) == 3:
                requestor.send_c_cancel(7, query_model=MODALITY_WORKLIST)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 1000
        assert requestor.send_c_echo().Status == 0
    assert door.scanners.ended == 1


def test_a_failure_of_an_n_set_reaches_the_scanner_in_full(opened: Opener) -> None:
    """Status, Error Comment and Error ID."""
    door = opened()
    with scanner(door) as requestor:
        answer, _ = requestor.send_n_set(
            query(PerformedProcedureStepStatus="COMPLETED"),
            MODALITY_PERFORMED_PROCEDURE_STEP,
            "1.2.3",
        )
        assert (answer.Status, answer.ErrorID) == (0x0110, 0xA710)
        assert answer.ErrorComment == "may no longer be updated"
    assert door.scanners.set_steps == ["1.2.3"]


def test_a_bug_in_a_handler_is_a_failure_and_the_association_lives(opened: Opener) -> None:
    """The log names the line, and no data."""
    door = opened()
    with structlog.testing.capture_logs() as logs, scanner(door) as requestor:
        answer, _ = requestor.send_n_create(
            query(PatientName="Doe^Jane"), MODALITY_PERFORMED_PROCEDURE_STEP, "1.2.3"
        )
        assert answer.Status == 0x0110
        assert answer.ErrorComment == "internal error: ZeroDivisionError"
        silent, _ = requestor.send_n_get([0x00100010], MODALITY_PERFORMED_PROCEDURE_STEP, "1.2.3")
        assert silent.Status == 0x0110
        assert requestor.send_c_echo().Status == 0
    assert any("door.py:" in str(line.get("at")) for line in logs)
    assert "Doe" not in str(logs)


def test_what_is_not_provided_is_refused_and_the_association_lives(opened: Opener) -> None:
    """An operation that the class does not have, and a class that is not the context's."""
    door = opened()
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(1, context_id=1, identifier=b""))
        assert status(peer) == 0x0122
        peer.sendall(echo_rq(2, context_id=3))
        assert status(peer) == 0x0122
        peer.sendall(echo_rq(3))
        assert status(peer) == 0


@pytest.mark.peer("dcmtk")
def test_dcmtk_does_not_wait_for_our_delayed_ack(opened: Opener, dcmtk_program: Program) -> None:
    """It sends a PDU in two pieces: 40 ms a request unless TCP_QUICKACK is armed before reads."""
    door = opened()
    echo = [str(dcmtk_program("echoscu")), "--repeat", "400", "127.0.0.1", str(door.port)]
    began = time.monotonic()
    subprocess.run(echo, timeout=60, check=True)
    assert time.monotonic() - began < 12


# Peers that are odd


def test_q30_a_c_find_without_message_id_is_answered(opened: Opener) -> None:
    """Case Q30."""
    door = opened(answers=1)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(None))
        assert [status(peer), status(peer)] == [0xFF00, 0]


def test_a_request_without_message_id_is_aborted_where_the_policy_wants_one(
    opened: Opener,
) -> None:
    """Never silence: a scanner that waits for an answer waits for its time-out."""
    door = opened(None, Admission(message_id_needed=True))
    peer = associated(door)
    peer.sendall(find_rq(message_id=None, identifier=b""))
    receive(peer, 7)
    assert closed_within(peer, 3)
    assert door.scanners.asked == []


def test_q31_odd_ae_titles_are_welcome(opened: Opener) -> None:
    """Case Q31: NUL-padded, 8-bit, blank."""
    door = opened()
    for calling in (b"CT1".ljust(16, b"\0"), b"R\xd6NTGEN".ljust(16), b" " * 16):
        pdu = titled(associate_rq(), called=b"\0" * 16, calling=calling)
        with closing(door.connect(pdu)) as peer:
            receive(peer, 2)
            peer.sendall(echo_rq())
            assert status(peer) == 0


def test_everything_at_once_is_answered_in_order(opened: Opener) -> None:
    """A peer that waits for nothing: request, association and release in one write."""
    door = opened(answers=1)
    with closing(door.connect(associate_rq() + echo_rq(1) + find_rq(2) + echo_rq(3))) as peer:
        receive(peer, 2)
        assert [status(peer) for _ in range(4)] == [0, 0xFF00, 0, 0]
        peer.sendall(RELEASE_RQ)
        receive(peer, 6)


def test_a_report_is_carried_out_although_the_scanner_leaves(opened: Opener) -> None:
    """N-SET and release, or N-SET and gone: what was said is kept."""
    door = opened(pause_s=0.05)
    set_rq = n_set("1.2.3")
    with closing(associated(door)) as peer:
        peer.sendall(set_rq + n_set("1.2.4") + RELEASE_RQ)
        receive(peer, 6)
    peer = associated(door)
    peer.sendall(n_set("1.2.5"))
    peer.close()
    wait_until(lambda: sorted(door.scanners.set_steps) == ["1.2.3", "1.2.4", "1.2.5"])


def test_a_cancel_before_the_first_answer_ends_the_list_too(opened: Opener) -> None:
    """In one write with the request; a cancel of something else is no cancel."""
    door = opened(answers=100_000, pause_s=0.01)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(4) + cancel_rq(5) + cancel_rq(4))
        assert status(peer) == 0xFE00


def test_a_cancel_is_seen_by_a_handler_that_never_pauses(opened: Opener) -> None:
    """Between blocks of answers the socket gets its turn."""
    door = opened(answers=1_000_000, size=1000)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(4))
        assert status(peer) == 0xFF00
        peer.sendall(cancel_rq(4))
        answers = 1
        while (last := status(peer)) == 0xFF00:
            answers += 1
        assert last == 0xFE00
        assert answers < 500_000


def test_an_illegal_priority_is_no_reason_for_an_abort(opened: Opener) -> None:
    """Nobody's answer depends on it."""
    door = opened(answers=1)
    request = find_rq(1, identifier=encode({"PatientID": "P1"}, "1.2.840.10008.1.2"))
    odd = request.replace(b"\0\0\0\x07\2\0\0\0\0\0", b"\0\0\0\x07\2\0\0\0\x09\xff")
    assert odd != request
    with closing(associated(door)) as peer:
        peer.sendall(odd)
        assert [status(peer), status(peer)] == [0xFF00, 0]


def test_cancels_of_what_was_never_asked_are_not_kept(opened: Opener) -> None:
    """A thousand of them end no later request that has one of their numbers."""
    door = opened(answers=2)
    with closing(associated(door)) as peer:
        peer.sendall(b"".join(cancel_rq(number) for number in range(1000)))
        peer.sendall(find_rq(4))
        assert [status(peer) for _ in range(3)] == [0xFF00, 0xFF00, 0]
        ((_, association),) = door.scanners.asked
        assert not association._cancelled


def test_a_message_id_may_be_used_again_after_a_cancel(opened: Opener) -> None:
    """The cancel is forgotten with its request."""
    door = opened(answers=2)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(4) + cancel_rq(4))
        assert status(peer) == 0xFE00
        peer.sendall(cancel_rq(4) + find_rq(4))
        assert [status(peer) for _ in range(3)] == [0xFF00, 0xFF00, 0]


def test_q16_a_truncated_identifier_is_a_failure_and_the_association_lives(opened: Opener) -> None:
    """Case Q16."""
    door = opened()
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(1, identifier=b"\x10\0\x20\0\xff\0\0\0P1"))
        assert status(peer) == 0xA900
        peer.sendall(echo_rq(2))
        assert status(peer) == 0


@pytest.mark.parametrize("goodbye", [RELEASE_RQ, ABORT, b""], ids=["release", "abort", "gone"])
def test_q25_a_scanner_may_leave_in_the_middle_of_its_list(opened: Opener, goodbye: bytes) -> None:
    """Case Q25: release, abort, or just gone; the query ends and nothing is left."""
    door = opened(answers=1_000_000, pause_s=0.001)
    peer = associated(door)
    peer.sendall(find_rq(1))
    assert status(peer) == 0xFF00
    peer.sendall(goodbye)
    peer.close()
    wait_until(lambda: door.scanners.ended == 1 and door.connections == 0)


# The end


def test_stopping_lets_a_request_end_and_aborts_the_idle(opened: Opener) -> None:
    """Within its grace."""
    door = opened(answers=5, pause_s=0.05)
    idle, busy = associated(door), associated(door)
    busy.sendall(find_rq(1))
    assert status(busy) == 0xFF00
    stop = asyncio.run_coroutine_threadsafe(door.server.stop(5), door.loop)
    receive(idle, 7)
    assert [status(busy) for _ in range(5)] == [0xFF00] * 4 + [0]
    receive(busy, 7)
    stop.result(30)
    with pytest.raises(ConnectionRefusedError):
        door.connect()


def test_stopping_does_not_wait_longer_than_its_grace(opened: Opener) -> None:
    """A request without end is aborted."""
    door = opened(answers=2, pause_s=60)
    peer = associated(door)
    peer.sendall(find_rq(1))
    assert status(peer) == 0xFF00
    began = time.monotonic()
    door.run(door.server.stop(0.2))
    assert time.monotonic() - began < 20
    assert closed_within(peer, 1)
    wait_until(lambda: door.scanners.ended == 1)


def test_q37_fifty_parallel_polls_are_all_answered(opened: Opener) -> None:
    """Case Q37: associate, ask, release, fifty times at once."""
    door = opened()

    def poll(_number: int) -> list[int]:
        with closing(associated(door)) as peer:
            peer.sendall(find_rq(1))
            got = [status(peer) for _ in range(4)]
            peer.sendall(RELEASE_RQ)
            receive(peer, 6)
            return got

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(poll, range(50))) == [[0xFF00] * 3 + [0]] * 50


def test_the_log_has_one_line_for_each_request_and_association(opened: Opener) -> None:
    """Calling AE, outcome and time, and nothing of the patient."""
    door = opened()
    with structlog.testing.capture_logs() as logs:
        with closing(associated(door)) as peer:
            peer.sendall(
                find_rq(1, identifier=encode({"PatientName": "Doe^Jane"}, "1.2.840.10008.1.2"))
            )
            assert [status(peer) for _ in range(4)] == [0xFF00] * 3 + [0]
            peer.sendall(RELEASE_RQ)
            receive(peer, 6)
        wait_until(lambda: len(logs) == 2)
    request, association = logs
    assert {k: request[k] for k in ("event", "kind", "status", "answers", "calling")} == {
        "event": "request",
        "kind": "C-FIND",
        "status": "0000",
        "answers": 3,
        "calling": "CT1",
    }
    assert (association["outcome"], association["requests"]) == ("released", 1)
    assert "Doe" not in str(logs)
    assert ("request", {"kind": "C-FIND", "status": "0000"}) in door.observed


def test_a_rejected_association_is_a_warning_with_its_remedy_and_again_only_later(
    opened: Opener,
) -> None:
    """Whoever asks every few seconds is one warning; the lines in between are of level info."""
    known = Directory((Entry("CT1", Rules(max_associations=1), (), (ip_network("127.0.0.1"),)),))
    door = opened(None, Admission(directory=known, refuse_unknown=True))
    with structlog.testing.capture_logs() as logs:
        for host, calling in (
            *(("127.0.0.1", b"CT9"),) * 3,
            ("127.0.0.2", b"CT9"),
            *(("127.0.0.2", b"CT1"),) * 2,
        ):
            pdu = titled(associate_rq(), called=b"BROKER".ljust(16), calling=calling.ljust(16))
            with closing(door.connect(pdu, host=host)) as peer:
                receive(peer, 3)
        with closing(associated(door)) as peer:
            pdu = titled(associate_rq(), called=b"BROKER".ljust(16), calling=b"CT1".ljust(16))
            with closing(door.connect(pdu)) as second:
                receive(second, 3)
            peer.sendall(RELEASE_RQ)
            receive(peer, 6)
        wait_until(lambda: len(logs) == 8)
    lines = [line for line in logs if line["event"] == "association"]
    assert [(each["log_level"], each["address"], each.get("reason")) for each in lines] == [
        ("warning", "127.0.0.1", "calling AE title not recognized"),
        ("info", "127.0.0.1", "calling AE title not recognized"),
        ("info", "127.0.0.1", "calling AE title not recognized"),
        ("warning", "127.0.0.2", "calling AE title not recognized"),
        ("warning", "127.0.0.2", "calling AE title not from its address"),
        ("info", "127.0.0.2", "calling AE title not from its address"),
        ("warning", "127.0.0.1", "local limit exceeded"),
        ("info", "127.0.0.1", None),
    ]
    assert all(each["remedy"] for each in lines[:-1])
    assert all(each["calling"] in ("CT1", "CT9") for each in lines)


def test_what_the_door_cuts_off_is_a_warning_and_what_ends_well_is_not(opened: Opener) -> None:
    door = opened(SHORT)
    with structlog.testing.capture_logs() as logs:
        with closing(associated(door)) as peer:
            peer.sendall(echo_rq()[:9])
            assert closed_within(peer, 5)
        with closing(door.connect(b"GET / HTTP/1.0\r\n\r\n")) as peer:
            assert closed_within(peer, 5)
        wait_until(lambda: len([each for each in logs if each["event"] == "association"]) == 2)
    levels = {each["outcome"]: each["log_level"] for each in logs}
    assert levels == {"message deadline": "warning", "protocol fault": "info"}


def test_what_was_agreed_on_is_kept_within_its_bound() -> None:
    """Scanners send the same bytes at every poll; who sends others each time makes nothing grow."""
    reception = Reception({}, Services(), Admission(), Limits(), observe_nothing)
    same = associate_rq()[6:]
    assert reception.negotiate(same) is reception.negotiate(same)
    for number in range(2000):
        title = f"CT{number}".ljust(16).encode()
        other = titled(associate_rq(), called=b"BROKER".ljust(16), calling=title)
        request, agreement = reception.negotiate(other[6:])
        assert request.calling_ae == f"CT{number}"
        assert agreement.answer[26:42] == title
    assert 0 < reception.negotiated.held_bytes <= NEGOTIATED_BYTES


def test_a_connection_that_has_ended_is_free_memory_without_the_garbage_collector(
    opened: Opener,
) -> None:
    door = opened(answers=3)
    gc.collect()
    gc.disable()
    try:
        with scanner(door) as requestor:
            assert list(requestor.send_c_find(query(PatientID="*"), MODALITY_WORKLIST))
        associated(door).close()
        door.connect(b"no DICOM at all").close()
        wait_until(lambda: not door.connections)
        parts = Connection, Acceptor, Serving, Sending, Deadline
        wait_until(lambda: not [one for one in gc.get_objects() if isinstance(one, parts)])
    finally:
        gc.enable()


def test_a_report_that_ends_although_it_is_cancelled_leaves_nothing_running(
    opened: Opener,
) -> None:
    """The next one of the same peer begins then, and is cancelled as well."""
    door = opened(pause_s=60, stubborn=True)
    peer = associated(door)
    peer.sendall(n_set("1.2.3") + n_set("1.2.4") + n_set("1.2.5"))
    (served,) = door.server._reception.connections
    assert isinstance(served, Connection)
    wait_until(lambda: served.busy and len(served._serving._waiting) == 2)
    door.run(door.server.stop(0))
    assert not door.server._reception.tasks
    assert door.scanners.set_steps[0] == "1.2.3"
