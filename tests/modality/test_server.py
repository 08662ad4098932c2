"""The DICOM door on a real socket: DCMTK and pynetdicom as peers, and peers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
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

from broker.dicom.association import Sizes
from broker.dicom.dimse import IDENTIFIER_DOES_NOT_MATCH, PENDING, SUCCESS, DimseRequest, Response
from broker.dicom.identifier import UnreadableIdentifier, decode, encode
from broker.dicom.negotiation import (
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST,
    VERIFICATION,
    Policy,
)
from broker.modality.echo import answer_echo
from broker.modality.server import Association, Limits, Server
from tests.dicom.requestor import (
    ABORT,
    RELEASE_RQ,
    associate_rq,
    cancel_rq,
    command,
    echo_rq,
    find_rq,
    p_data,
    titled,
)

SHORT = Limits(association_s=0.3, message_s=0.3, idle_s=0.5, write_s=0.3, close_s=0.3)


@dataclass
class Scanners:
    """A toy worklist: how many answers, and what was asked and by whom."""

    answers: int = 3
    pause_s: float = 0.0
    size: int = 10
    asked: list[tuple[str, Association]] = field(default_factory=list)
    set_steps: list[str] = field(default_factory=list)
    ended: int = 0

    async def find(self, request: DimseRequest, peer: Association) -> AsyncIterator[Response]:
        try:
            identifier = decode(request.dataset or b"", request.transfer_syntax)
        except UnreadableIdentifier as fault:
            yield Response(IDENTIFIER_DOES_NOT_MATCH, error_comment=fault.fact)
            return
        self.asked.append((str(identifier.keys.get("PatientID", "")), peer))
        try:
            for number in range(self.answers):
                answer = {"PatientID": f"P{number}", "PatientComments": "x" * self.size}
                yield Response(PENDING, encode(answer, request.transfer_syntax))
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
            yield Response(SUCCESS)
        finally:
            self.ended += 1

    async def set_step(self, request: DimseRequest, _peer: Association) -> AsyncIterator[Response]:
        await asyncio.sleep(self.pause_s)
        self.set_steps.append(request.sop_instance)
        yield Response(0x0110, error_comment="may no longer be updated", error_id=0xA710)

    async def fail(self, _request: DimseRequest, _peer: Association) -> AsyncIterator[Response]:
        raise ZeroDivisionError("Doe^Jane")
        yield Response(SUCCESS)

    async def stay_silent(self, _asked: DimseRequest, _by: Association) -> AsyncIterator[Response]:
        return
        yield Response(SUCCESS)


@dataclass
class Door:
    """A running server in a thread of its own, and how to knock."""

    port: int
    scanners: Scanners
    server: Server
    loop: asyncio.AbstractEventLoop
    observed: list[tuple[str, Mapping[str, str]]]
    peers: list[socket.socket] = field(default_factory=list)

    def connect(self, *sent: bytes) -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        self.peers.append(peer)
        for data in sent:
            peer.sendall(data)
        return peer

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    @property
    def connections(self) -> int:
        return len(self.server._reception.connections)


Opener = Callable[..., Door]
Program = Callable[[str], Path]


@contextmanager
def running(
    limits: Limits | None = None, policy: Policy | None = None, **scanners: Any
) -> Iterator[Door]:
    toy = Scanners(**scanners)
    observed: list[tuple[str, Mapping[str, str]]] = []
    handlers = {
        (VERIFICATION, "C-ECHO"): answer_echo,
        (MODALITY_WORKLIST, "C-FIND"): toy.find,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-SET"): toy.set_step,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-CREATE"): toy.fail,
        (MODALITY_PERFORMED_PROCEDURE_STEP, "N-GET"): toy.stay_silent,
    }
    loop = uvloop.new_event_loop()  # what the door runs on
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = Server(
            handlers, policy, limits, lambda name, labels, _s: observed.append((name, labels))
        )
        _, port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(5)
        door = Door(port, toy, server, loop, observed)
        yield door
        door.run(server.stop(0.5))
        for peer in door.peers:
            peer.close()
        assert door.connections == 0
        assert not server._reception.tasks
        assert not server._reception.associated
        assert not +server._reception.by_address
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens doors and sees to it that they are closed and empty again."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(running(*args, **kwargs))


def receive(peer: socket.socket, kind: int) -> bytes:
    """The next PDU, which must be of this type."""
    header = exactly(peer, 6)
    assert header[0] == kind, header
    return exactly(peer, int.from_bytes(header[2:], "big"))


def exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = peer.recv(size - len(data))
        assert more, "closed too early"
        data += more
    return data


def status(peer: socket.socket) -> int:
    """The status of the next response; its data set, if it has one, is skipped."""
    command = receive(peer, 4)[6:]
    if command[command.index(b"\0\0\0\x08\x02\0\0\0") + 8 :][:2] != b"\1\1":
        receive(peer, 4)
    return int.from_bytes(command[command.index(b"\0\0\0\x09\x02\0\0\0") + 8 :][:2], "little")


def associated(door: Door, **request: Any) -> socket.socket:
    peer = door.connect(associate_rq(**request))
    receive(peer, 2)
    return peer


def closed_within(peer: socket.socket, seconds: float) -> bool:
    """Whether the broker closes; whatever it still says is read."""
    peer.settimeout(seconds)
    try:
        while peer.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def wait_until(fact: Callable[[], bool], seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


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
    requestor = ae.associate("127.0.0.1", door.port, **association)
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
def test_pynetdicom_takes_our_fragments(opened: Opener, max_pdu: int) -> None:
    """Case Q35: no limit, a tiny one, an old one."""
    door = opened(answers=3, size=5000)
    with scanner(door, max_pdu=max_pdu) as requestor:
        found = list(requestor.send_c_find(query(PatientID=""), MODALITY_WORKLIST))
        assert [len(d.PatientComments) for _, d in found if d] == [5000] * 3


def test_a_c_cancel_of_pynetdicom_ends_the_list(opened: Opener) -> None:
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
    assert any("test_server.py:" in str(line.get("at")) for line in logs)
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
    echo = [str(dcmtk_program("echoscu")), "--repeat", "100", "127.0.0.1", str(door.port)]
    began = time.monotonic()
    subprocess.run(echo, timeout=20, check=True)
    assert time.monotonic() - began < 3


# Peers that are odd


def test_a_c_find_without_message_id_is_answered(opened: Opener) -> None:
    """Case Q30."""
    door = opened(answers=1)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(None))
        assert [status(peer), status(peer)] == [0xFF00, 0]


def test_odd_ae_titles_are_welcome(opened: Opener) -> None:
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


def n_set(instance: str) -> bytes:
    sent = command(
        RequestedSOPClassUID=MODALITY_PERFORMED_PROCEDURE_STEP,
        CommandField=0x0120,
        MessageID=1,
        CommandDataSetType=1,
        RequestedSOPInstanceUID=instance,
    )
    return p_data(5, sent, is_command=True) + p_data(5, b"", is_command=False)


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


def test_a_message_id_may_be_used_again_after_a_cancel(opened: Opener) -> None:
    """The cancel is forgotten with its request."""
    door = opened(answers=2)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(4) + cancel_rq(4))
        assert status(peer) == 0xFE00
        peer.sendall(cancel_rq(4) + find_rq(4))
        assert [status(peer) for _ in range(3)] == [0xFF00, 0xFF00, 0]


def test_a_truncated_identifier_is_a_failure_and_the_association_lives(opened: Opener) -> None:
    """Case Q16."""
    door = opened()
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(1, identifier=b"\x10\0\x20\0\xff\0\0\0P1"))
        assert status(peer) == 0xA900
        peer.sendall(echo_rq(2))
        assert status(peer) == 0


@pytest.mark.parametrize("goodbye", [RELEASE_RQ, ABORT, b""], ids=["release", "abort", "gone"])
def test_a_scanner_may_leave_in_the_middle_of_its_list(opened: Opener, goodbye: bytes) -> None:
    """Case Q25: release, abort, or just gone; the query ends and nothing is left."""
    door = opened(answers=1_000_000, pause_s=0.001)
    peer = associated(door)
    peer.sendall(find_rq(1))
    assert status(peer) == 0xFF00
    peer.sendall(goodbye)
    peer.close()
    wait_until(lambda: door.scanners.ended == 1 and door.connections == 0)


# Peers that are not wanted


def test_policy_decides_who_is_rejected_and_why(opened: Opener) -> None:
    """RJ 1/1/7 and 1/1/3."""
    for policy, reason in (
        (Policy(called_ae=frozenset({"OTHER"})), b"\0\1\1\7"),
        (Policy(calling_ae=frozenset({"CT2"})), b"\0\1\1\3"),
    ):
        door = opened(SHORT, policy)
        with closing(door.connect(associate_rq())) as peer:
            assert receive(peer, 3) == reason
            assert closed_within(peer, 3)


@pytest.mark.parametrize("limits", [Limits(associations=2), Limits(associations_per_address=2)])
def test_one_association_too_many_is_rejected_until_another_ends(
    opened: Opener, limits: Limits
) -> None:
    """RJ 2/3/2, local limit exceeded."""
    door = opened(limits)
    first, _ = associated(door), associated(door)
    with closing(door.connect(associate_rq())) as third:
        assert receive(third, 3) == b"\0\2\3\2"
    first.sendall(RELEASE_RQ)
    receive(first, 6)
    with closing(associated(door)) as fourth:
        fourth.sendall(echo_rq())
        assert status(fourth) == 0


@pytest.mark.parametrize(
    "limits", [Limits(connections=3), Limits(connections=99, connections_per_address=3)]
)
def test_one_socket_too_many_is_closed_at_once(opened: Opener, limits: Limits) -> None:
    """Without a word: it has not asked for anything yet."""
    door = opened(limits)
    silent = [door.connect() for _ in range(3)]
    wait_until(lambda: door.connections == 3)
    assert closed_within(door.connect(), 3)
    for peer in silent:
        peer.close()
    wait_until(lambda: door.connections == 0)
    with closing(associated(door)):
        pass


def test_silent_sockets_keep_nobody_out(opened: Opener) -> None:
    """Case Q29: fifty of them."""
    door = opened(Limits(associations=5))
    silent = [door.connect() for _ in range(50)]
    with closing(associated(door)) as peer:
        peer.sendall(echo_rq())
        assert status(peer) == 0
    for one in silent:
        one.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x01\x00\x00",
        b"\x01\x00\x00\x00\x01\x00",
        associate_rq()[:-1],
    ],
    ids=["nothing", "half a header", "a header", "nearly all"],
)
def test_who_does_not_ask_for_an_association_in_time_is_closed(opened: Opener, sent: bytes) -> None:
    """Case Q27 and every silent client."""
    door = opened(SHORT)
    peer = door.connect(sent)
    began = time.monotonic()
    assert closed_within(peer, 3)
    assert time.monotonic() - began > 0.2
    wait_until(lambda: door.connections == 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x04\x00\x00",
        b"\x04\x00\x00\x00\x20\x00",
        find_rq(1)[:-12],
        find_rq(1, identifier=bytes(2000))[:-500],
    ],
    ids=["half a header", "a header", "a command", "half an identifier"],
)
def test_half_a_message_then_silence_is_aborted_in_time(opened: Opener, sent: bytes) -> None:
    """With an A-ABORT; nothing of it is held."""
    door = opened(SHORT)
    peer = associated(door)
    peer.sendall(sent)
    began = time.monotonic()
    receive(peer, 7)
    assert 0.2 < time.monotonic() - began < 5
    assert closed_within(peer, 3)
    wait_until(lambda: door.connections == 0)


def test_dripping_bytes_do_not_prolong_the_deadline(opened: Opener) -> None:
    """One byte every 50 ms of a request of hundreds of bytes."""
    door = opened(SHORT)
    peer = associated(door)
    began = time.monotonic()
    request = find_rq(1, identifier=bytes(2000))
    sent = 0
    with suppress(OSError):
        while sent < len(request):
            peer.sendall(request[sent : sent + 1])
            sent += 1
            time.sleep(0.05)
    assert sent < 40
    assert time.monotonic() - began < 5


def test_an_idle_association_ends_after_its_time_and_a_busy_one_does_not(opened: Opener) -> None:
    """A query that takes longer than the idle time is not idleness."""
    door = opened(SHORT, answers=10, pause_s=0.1)
    peer = associated(door)
    peer.sendall(find_rq(1))
    assert [status(peer) for _ in range(11)] == [0xFF00] * 10 + [0]
    began = time.monotonic()
    receive(peer, 7)
    assert 0.3 < time.monotonic() - began < 5
    assert closed_within(peer, 3)


def test_a_peer_that_stops_reading_is_freed_by_the_deadline(opened: Opener) -> None:
    """Case Q26: a list of 2 GB is asked for and not read; memory does not grow with it."""
    door = opened(SHORT, answers=200_000, size=10_000)
    peer = associated(door)
    peer.sendall(find_rq(1))
    wait_until(lambda: door.connections == 0, 5)
    wait_until(lambda: door.scanners.ended == 1)
    assert ("association", {"outcome": "peer stopped reading"}) in door.observed


def test_a_slow_reader_gets_everything(opened: Opener) -> None:
    """Back-pressure, not loss."""
    door = opened(answers=2000, size=10_000)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(1))
        time.sleep(0.2)
        assert not door.scanners.ended
        for _ in range(2000):
            assert status(peer) == 0xFF00
        assert status(peer) == 0


@pytest.mark.parametrize(
    "rubbish",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x01\x00\xff\xff\xff\xff", bytes(100)],
    ids=["HTTP", "TLS", "4 GiB", "zeros"],
)
def test_rubbish_is_answered_by_an_abort_and_closed(opened: Opener, rubbish: bytes) -> None:
    """Case Q28 among them: a PDU of 4 GiB."""
    door = opened(SHORT)
    with closing(door.connect(rubbish)) as peer:
        receive(peer, 7)
        assert closed_within(peer, 3)


def test_a_data_set_above_the_limit_aborts_its_association_only(opened: Opener) -> None:
    """While another goes on."""
    door = opened(Limits(sizes=Sizes({"C-FIND": 1000})))
    with closing(associated(door)) as other, closing(associated(door)) as peer:
        peer.sendall(find_rq(1, identifier=bytes(2000)))
        receive(peer, 7)
        other.sendall(echo_rq())
        assert status(other) == 0


def test_too_many_requests_at_once_are_too_many(opened: Opener) -> None:
    """Asynchronous operations are not negotiated; a few are borne."""
    door = opened(Limits(waiting_requests=4, waiting_bytes=1000), pause_s=0.2)
    for ahead in ([echo_rq(n) for n in range(50)], [find_rq(2, identifier=bytes(1002))]):
        with closing(associated(door)) as peer:
            peer.sendall(find_rq(1) + b"".join(ahead))
            assert closed_within(peer, 3)
    ended = [labels["outcome"] for name, labels in door.observed if name == "association"]
    assert ended == ["too many requests at once"] * 2
    wait_until(lambda: door.scanners.ended == 2)


def test_a_request_has_an_end(opened: Opener) -> None:
    """A handler that hangs is a failure that says so; the association lives."""
    door = opened(Limits(request_s=0.2), answers=2, pause_s=5)
    with closing(associated(door)) as peer:
        peer.sendall(find_rq(1))
        assert [status(peer), status(peer)] == [0xFF00, 0xC001]
        peer.sendall(echo_rq(2))
        assert status(peer) == 0
    assert door.scanners.ended == 1


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
    stop.result(5)
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
    assert time.monotonic() - began < 5
    assert closed_within(peer, 1)
    wait_until(lambda: door.scanners.ended == 1)


def test_fifty_parallel_polls_are_all_answered(opened: Opener) -> None:
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
