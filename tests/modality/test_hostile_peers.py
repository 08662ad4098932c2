"""Peers that misbehave: bounded in time, room and memory, and nobody else suffers."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import struct
import time
import tracemalloc
from contextlib import closing, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest

from broker.dicom.association import Sizes
from broker.dicom.encoding import encode
from broker.dicom.negotiation import MODALITY_PERFORMED_PROCEDURE_STEP, Policy
from broker.modality.admission import Admission
from broker.modality.server import Limits
from broker.worklist.directory import Directory, Entry
from broker.worklist.rules import Rules
from tests.dicom.requestor import (
    ABORT,
    BOTH,
    RELEASE_RQ,
    associate_rq,
    command,
    echo_rq,
    find_rq,
    n_set,
    p_data,
)
from tests.modality.door import (
    SHORT,
    Door,
    Opener,
    associated,
    closed_within,
    receive,
    status,
    wait_until,
)

# Peers that are not wanted


def test_policy_decides_who_is_rejected_and_why(opened: Opener) -> None:
    """RJ 1/1/7 and 1/1/3."""
    strangers = Admission(directory=Directory((Entry("CT2", Rules()),)), refuse_unknown=True)
    elsewhere = Entry("CT1", Rules(), addresses=(ip_network("10.1.2.3"),))
    for admission, reason in (
        (Admission(Policy(called_ae=frozenset({"OTHER"}))), b"\0\1\1\7"),
        (strangers, b"\0\1\1\3"),
        (Admission(directory=Directory((elsewhere,))), b"\0\1\1\3"),
    ):
        door = opened(SHORT, admission)
        with closing(door.connect(associate_rq())) as peer:
            assert receive(peer, 3) == reason
            assert closed_within(peer, 3)


TWO_OF_CT1 = Directory((Entry("CT1", Rules(max_associations=2)),))


@pytest.mark.parametrize(
    ("limits", "directory"),
    [
        (Limits(associations=2), Directory()),
        (Limits(associations_per_address=2), Directory()),
        (Limits(), TWO_OF_CT1),
    ],
)
def test_one_association_too_many_is_rejected_until_another_ends(
    opened: Opener, limits: Limits, directory: Directory
) -> None:
    """RJ 2/3/2, local limit exceeded."""
    door = opened(limits, Admission(directory=directory))
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
def test_a_newcomer_takes_the_place_of_the_socket_that_is_silent_longest(
    opened: Opener, limits: Limits
) -> None:
    """The others keep theirs."""
    door = opened(limits)
    silent = []
    for number in range(3):
        silent.append(door.connect())
        wait_until(lambda number=number: door.connections == number + 1)
    with closing(associated(door)) as peer:
        assert closed_within(silent[0], 3)
        peer.sendall(echo_rq())
        assert status(peer) == 0
        silent[1].sendall(associate_rq())
        receive(silent[1], 2)
    assert door.outcomes[0] == "made way"


@pytest.mark.parametrize(
    "limits", [Limits(connections=3), Limits(connections=99, connections_per_address=3)]
)
def test_one_socket_too_many_is_closed_at_once_where_all_have_associations(
    opened: Opener, limits: Limits
) -> None:
    """Without a word: it has not asked for anything yet."""
    door = opened(limits)
    peers = [associated(door) for _ in range(3)]
    assert closed_within(door.connect(), 3)
    for peer in peers:
        peer.sendall(echo_rq())
        assert status(peer) == 0
        peer.close()
    wait_until(lambda: door.connections == 0)
    with closing(associated(door)):
        pass


def test_a_thousand_connects_without_a_request_keep_no_scanner_out(opened: Opener) -> None:
    """Neither one at another address nor one behind the same; and no more stay than may."""
    door = opened(Limits(connections=100, connections_per_address=50))
    silent = []
    for _ in range(1000):
        silent.append(door.connect())
        if len(silent) > 60:
            silent.pop(0).close()
    for host in ("127.0.0.1", "127.0.0.2"):
        with closing(associated(door, host=host)) as peer:
            peer.sendall(find_rq(1))
            assert [status(peer) for _ in range(4)] == [0xFF00] * 3 + [0]
            assert door.connections <= 51
    for one in silent:
        one.close()
    wait_until(lambda: door.connections == 0)


def test_q29_silent_sockets_do_not_count_as_associations(opened: Opener) -> None:
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
def test_q27_who_does_not_ask_for_an_association_in_time_is_closed(
    opened: Opener, sent: bytes
) -> None:
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
    assert 0.2 < time.monotonic() - began < 20
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
    assert time.monotonic() - began < 20


def test_an_idle_association_ends_after_its_time_and_a_busy_one_does_not(opened: Opener) -> None:
    """A query that takes longer than the idle time is not idleness."""
    door = opened(SHORT, answers=10, pause_s=0.1)
    peer = associated(door)
    peer.sendall(find_rq(1))
    assert [status(peer) for _ in range(11)] == [0xFF00] * 10 + [0]
    began = time.monotonic()
    receive(peer, 7)
    assert 0.3 < time.monotonic() - began < 20
    assert closed_within(peer, 3)


def test_q26_a_peer_that_stops_reading_is_freed_by_the_deadline(opened: Opener) -> None:
    """Case Q26: a list of 2 GB is asked for and not read; memory does not grow with it."""
    door = opened(SHORT, answers=200_000, size=10_000)
    peer = associated(door)
    peer.sendall(find_rq(1))
    wait_until(lambda: door.connections == 0)
    wait_until(lambda: door.scanners.ended == 1)
    assert door.outcomes == ["peer stopped reading"]


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
def test_q28_rubbish_is_answered_by_an_abort_and_closed(opened: Opener, rubbish: bytes) -> None:
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


def test_there_are_descriptors_for_all_who_may_connect(opened: Opener) -> None:
    """Also where a shell's soft limit is less; nobody is told why a socket was not accepted."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        opened(Limits(connections=700))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 700
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Memory that all share


def big(size: int) -> bytes:
    """The beginning of an N-SET whose data set has so many bytes and no end."""
    sent = command(
        RequestedSOPClassUID=MODALITY_PERFORMED_PROCEDURE_STEP,
        CommandField=0x0120,
        MessageID=1,
        CommandDataSetType=1,
        RequestedSOPInstanceUID="1.2.3",
    )
    part = p_data(5, bytes(60_000), is_command=False, is_last=False)
    return p_data(5, sent, is_command=True) + part * (size // 60_000)


def test_all_peers_together_hold_no_more_than_may_be_held(opened: Opener) -> None:
    """Whoever asks for more is aborted; what others have begun goes on, and a query finds room."""
    door = opened(Limits(held=3_000_000, held_freely=100_000))
    with closing(associated(door)) as asking, closing(associated(door)) as one:
        one.sendall(big(2_400_000))
        wait_until(lambda: door.held >= 2_400_000)
        with closing(associated(door)) as two:
            with suppress(OSError):
                two.sendall(big(2_400_000))
            assert closed_within(two, 3)
        assert door.held < 3_000_000
        asking.sendall(find_rq(1, identifier=small_identifier()))
        assert [status(asking) for _ in range(4)] == [0xFF00] * 3 + [0]
        one.sendall(p_data(5, b"", is_command=False))
        assert status(one) == 0x0110  # the toy's answer to a whole N-SET
        wait_until(lambda: door.held == 0)
    assert door.outcomes[0] == "too much at once"


def small_identifier() -> bytes:
    return encode({"PatientID": "P1"}, "1.2.840.10008.1.2")


def test_reports_of_peers_that_have_left_count_until_they_are_done(opened: Opener) -> None:
    """Else a peer that comes and goes could have us hold any number of them."""
    door = opened(pause_s=0.3)
    for _ in range(3):
        peer = associated(door)
        peer.sendall(big(300_000) + p_data(5, b"", is_command=False))
        peer.close()
    wait_until(lambda: door.connections == 0)
    wait_until(lambda: door.held == 900_000)
    wait_until(lambda: door.held == 0)
    assert len(door.scanners.set_steps) == 3


def test_an_idle_association_holds_nothing_of_what_it_was_asked(opened: Opener) -> None:
    """Twenty associations that have each had a large question are as small as new ones."""
    door = opened()
    peers = [associated(door) for _ in range(20)]
    question = find_rq(
        1, identifier=encode({"PatientComments": "x" * 200_000}, "1.2.840.10008.1.2"), parts=4
    )
    gc.collect()
    tracemalloc.start()
    try:
        for peer in peers:
            peer.sendall(question)
            assert [status(peer) for _ in range(4)] == [0xFF00] * 3 + [0]
        door.scanners.asked.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5 * 200_000


# What is not served here


def test_wrong_abstract_syntaxes_are_rejected_one_by_one_and_data_on_them_is_an_abort(
    opened: Opener,
) -> None:
    """An association without any accepted context is legal, if pointless (PS3.8 §9.3.3.2)."""
    door = opened(SHORT)
    unknown = ("1.2.840.10008.5.1.4.34.6.1", "1.2.3", "1.2.840.10008.1.20.1")
    peer = door.connect(associate_rq([(uid, BOTH) for uid in unknown]))
    answer = receive(peer, 2)
    results = [answer[at + 6] for at in range(len(answer) - 4) if answer[at : at + 2] == b"\x21\0"]
    assert results == [3, 3, 3]
    peer.sendall(find_rq(1, context_id=1))
    assert receive(peer, 7)[2:] == b"\2\6"
    assert closed_within(peer, 3)


@pytest.mark.parametrize("max_pdu", [0, 1, 7, 100])
def test_a_list_reaches_a_peer_with_a_tiny_or_no_maximum_length(
    opened: Opener, max_pdu: int
) -> None:
    """Pieces of eight bytes where the peer says less than a header takes."""
    door = opened(answers=50)
    with closing(associated(door, max_pdu=max_pdu)) as peer:
        peer.sendall(find_rq(1))
        commands, longest = 0, 0
        while commands < 51:
            value = receive(peer, 4)
            longest = max(longest, len(value))
            commands += value[5] == 3
        assert longest <= (max(14, max_pdu) if max_pdu else 65_536)
        peer.sendall(echo_rq(2))


def test_an_instance_uid_that_is_none_is_refused_by_its_own_status(opened: Opener) -> None:
    """It would become a key of the store and stand in logs (PS3.7 Annex C.5.7)."""
    door = opened()
    with closing(associated(door)) as peer:
        for instance in ("1." * 33, "1.2\n3"):
            peer.sendall(n_set(instance))
            assert status(peer) == 0x0117
        peer.sendall(n_set("1.2.3"))
        assert status(peer) == 0x0110
    assert door.scanners.set_steps == ["1.2.3"]


# What is left


def test_nothing_is_left_of_a_thousand_associations_that_end_in_every_way(opened: Opener) -> None:
    """No task, no descriptor, no byte; `broker bench visits` counts ten thousand."""
    door = opened(answers=20, size=100)
    ways = (
        (associate_rq(), find_rq(1), RELEASE_RQ),
        (associate_rq(), echo_rq(1), echo_rq(2)),
        (associate_rq(), find_rq(1), ABORT),
        (associate_rq(), n_set("1.2.3"), RELEASE_RQ),
        (associate_rq(), find_rq(1)[:-20]),
        (associate_rq()[:50],),
        (b"GET / HTTP/1.1\r\n\r\n",),
        (),
    )
    for way in ways:
        visit(door, *way)
    wait_until(lambda: door.connections == 0)
    before = standing(door)
    for number in range(1000):
        visit(door, *ways[number % len(ways)], reset=number % 3 == 0)
    wait_until(lambda: door.connections == 0)
    wait_until(lambda: standing(door) == before)
    assert len(door.scanners.set_steps) >= 80  # a reset may overtake what was said


def visit(door: Door, *said: bytes, reset: bool = False) -> None:
    """Say it and go; with a reset, or when the first answer has come."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as peer, suppress(OSError):
        peer.sendall(b"".join(said))
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif said:
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1)


def standing(door: Door) -> tuple[int, int, int]:
    """Tasks, descriptors and held bytes of this process."""
    return len(asyncio.all_tasks(door.loop)), len(list(Path("/proc/self/fd").iterdir())), door.held
