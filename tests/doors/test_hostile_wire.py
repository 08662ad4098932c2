"""W1 to W27: what arrives on the HL7 port that is no well-behaved message, on a whole broker.

W19 and W24 look into sockets and TLS, so they are in tests/orders/test_listener.py.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient

from broker.probe.orders import Envelope, Order, orm_o01
from broker.settings import Hl7Limits
from tests.doors.actors import (
    CONFIG,
    Broker,
    Closed,
    Line,
    find,
    new_order,
    of_accession,
    only,
    send,
    until,
)
from tests.doors.test_refusals import edited, nothing_of

pytestmark = pytest.mark.peer("redis-server")
VT, FS, CR = b"\x0b", b"\x1c", b"\r"


def framed(message: bytes) -> bytes:
    return VT + message + FS + CR


def named(order: Order, control_id: str, **said: str) -> bytes:
    return orm_o01(order, envelope=Envelope(control_id=control_id, **said))


@pytest.fixture
def line(broker: Broker) -> Iterator[Line]:
    with Line(broker.hl7) as opened:
        yield opened


def codes(line: Line, count: int) -> list[tuple[str, str]]:
    found = [line.answer() for _ in range(count)]
    return [(answer.code, answer.control_id) for answer in found]


def closed(line: Line) -> bool:
    with suppress(ConnectionError):
        try:
            line.answer()
        except Closed:
            return True
        return False
    return True


def test_w01_an_end_without_cr_then_the_next_start_are_two_messages(line: Line) -> None:
    line.write(VT + named(new_order(), "A") + FS + VT + named(new_order(), "B") + FS + CR)
    assert codes(line, 2) == [("AA", "A"), ("AA", "B")]


def test_w02_an_end_that_comes_in_two_packets_is_one_answer(line: Line) -> None:
    line.write(VT + named(new_order(), "A") + FS)
    time.sleep(0.05)
    line.write(CR)
    assert codes(line, 1) == [("AA", "A")]
    line.write(framed(named(new_order(), "B")))
    assert codes(line, 1) == [("AA", "B")]


def test_w03_and_s91_a_message_byte_by_byte_is_answered(broker: Broker, line: Line) -> None:
    order = new_order()
    for byte in framed(named(order, "A")):
        line.write(bytes([byte]))
    assert codes(line, 1) == [("AA", "A")]
    only(broker, order)


def test_w04_and_s91_a_hundred_messages_in_one_write_are_answered_in_order(line: Line) -> None:
    line.write(b"".join(framed(named(new_order(), str(n))) for n in range(100)))
    assert codes(line, 100) == [("AA", str(n)) for n in range(100)]


@pytest.mark.parametrize(
    ("before", "name"), [(b"\r\n\r\n", "w05 line ends"), (b"\x00" * 40, "w06 NULs")]
)
def test_w05_w06_and_s91_filler_between_messages_is_passed_over(
    line: Line, before: bytes, name: str
) -> None:
    for control_id in ("A", "B"):
        line.write(before + framed(named(new_order(), control_id)) + before)
        assert codes(line, 1) == [("AA", control_id)], name


def test_w07_a_message_without_its_start_byte_is_answered(line: Line) -> None:
    for control_id in ("A", "B"):
        line.write(named(new_order(), control_id) + FS + CR)
        assert codes(line, 1) == [("AA", control_id)]


@pytest.mark.parametrize(("end", "name"), [(b"\n", "w08 LF"), (b"\r\n", "w09 CRLF")])
def test_w08_w09_segments_may_end_in_line_feeds(broker: Broker, end: bytes, name: str) -> None:
    order = new_order()
    assert send(broker.hl7, orm_o01(order).replace(b"\r", end)).code == "AA", name
    assert only(broker, order)["PatientID"] == order.patient.patient_id


def test_w10_a_line_feed_in_a_comment_is_text_and_no_segment(broker: Broker) -> None:
    order = new_order()
    note = b"NTE|1||first line\nsecond line of PID text"
    message = orm_o01(order).replace(b"\rZDS", CR + note + b"\rZDS")
    assert send(broker.hl7, message).code == "AA"
    (item,) = broker.scanner.find(
        {"AccessionNumber": order.accession, "RequestedProcedureComments": ""}
    )
    assert item["RequestedProcedureComments"].split() == note.decode().split("||")[1].split()


def test_w11_an_end_byte_inside_a_document_cuts_nothing(broker: Broker, line: Line) -> None:
    order = new_order()
    line.write(framed(named(order, "A") + b"OBX|1|ED|PDF||x\x1cy\r"))
    line.write(framed(named(new_order(), "B")))
    assert codes(line, 2) == [("AA", "A"), ("AA", "B")]
    only(broker, order)


def test_w12_and_s91_17_mib_are_refused_by_name_and_memory_is_given_back(
    broker: Broker, line: Line
) -> None:
    order = new_order()
    line.write(framed(named(order, "warm") + b"OBX|1|ED|||" + b"x" * (1 << 20) + CR))
    assert codes(line, 1) == [("AA", "warm")]
    before = _memory(broker)
    for n in range(3):
        line.write(framed(named(order, str(n)) + b"OBX|1|ED|||" + b"x" * (17 << 20) + CR))
        answer = line.answer()
        assert (answer.code, answer.control_id) == ("AR", str(n))
        assert "hl7.limits.max_message" in answer.error
    assert _memory(broker) < before + (60 << 20)
    line.write(framed(named(new_order(), "B")))
    assert codes(line, 1) == [("AA", "B")]


def _memory(broker: Broker) -> int:
    """Resident bytes of the orders processes."""
    pages = 0
    for pid in broker.children("door orders"):
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_w13_a_slow_loris_is_told_so_and_closed_at_the_deadline(broker: Broker) -> None:
    order, began = new_order(), time.monotonic()
    with Line(broker.hl7) as loris:
        loris.write(VT + named(order, "SLOW")[:-20])
        with suppress(ConnectionError):
            for _ in range(100):
                loris.write(b"x")
                time.sleep(0.05)
        answer = loris.answer()
        assert (answer.code, answer.control_id) == ("AE", "SLOW")
        assert "did not end within 1 seconds" in answer.error
        assert closed(loris)
    assert 0.9 < time.monotonic() - began < 20
    nothing_of(broker, order)


def test_w14_a_sender_is_served_beside_500_silent_connections(broker: Broker) -> None:
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(socket.create_connection(broker.hl7, timeout=30))
        order = new_order()
        assert send(broker.hl7, named(order, "A")).code == "AA"
        only(broker, order)


def test_w14_a_sender_is_served_beside_500_slow_lorises(broker: Broker) -> None:
    """Each has begun a message and never ends it: neither silent nor proven."""
    start = VT + named(new_order(), "LORIS")[:60]
    with ExitStack() as stack, Line(broker.hl7) as regular:
        regular.write(framed(named(new_order(), "0")))
        assert codes(regular, 1) == [("AA", "0")]
        for n in range(1, 501):
            loris = stack.enter_context(socket.create_connection(broker.hl7, timeout=30))
            with suppress(ConnectionError):
                loris.sendall(start)
            if n % 25 == 0:  # one that was here before, and one that comes in between
                regular.write(framed(named(new_order(), str(n))))
                assert codes(regular, 1) == [("AA", str(n))]
                assert send(broker.hl7, named(new_order(), f"NEW{n}")).code == "AA"


@pytest.fixture(scope="module")
def strict_broker() -> Iterator[Broker]:
    """One that waits for no peer for longer than a second."""
    limits = "limits: {message_deadline: 1s, write_deadline: 1s"
    with Broker(CONFIG.replace("limits: {message_deadline: 1s", limits)).started() as broker:
        yield broker


def test_w15_a_sender_that_never_reads_its_answers_is_dropped(strict_broker: Broker) -> None:
    """The echo of a long MSH-10 fills the pipe soon."""
    event = {"event": "write_deadline"}
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(20)
    with deaf:
        deaf.connect(strict_broker.hl7)
        message = framed(edited(named(new_order(), "C" * 12_000), ("MSH", 9, b"ORU^R01")))
        with suppress(ConnectionError, TimeoutError):
            for _ in range(3000):
                deaf.sendall(message)
        metric = "broker_orders_connection_events_total"
        until(lambda: strict_broker.metric(metric, **event) >= 1, "dropped")
    assert send(strict_broker.hl7, named(new_order(), "A")).code == "AA"


def test_w16_a_sender_that_leaves_at_once_has_sent_an_order(broker: Broker) -> None:
    order = new_order()
    message = named(order, "A")
    with Line(broker.hl7) as line:
        line.write(framed(message))
    until(lambda: of_accession(broker, order), "stored")
    before = only(broker, order)
    assert send(broker.hl7, message).code == "AA"
    assert only(broker, order) == before
    outcomes = [each.outcome for each in broker.archived(5) if each.control_id == "A"]
    assert outcomes.count("applied") >= 1


def test_w17_a_connection_that_breaks_within_a_message_leaves_nothing(broker: Broker) -> None:
    order = new_order()
    half = socket.create_connection(broker.hl7)
    half.sendall(framed(named(order, "A"))[:-10])
    half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    half.close()  # RST
    assert send(broker.hl7, named(new_order(), "B")).code == "AA"
    nothing_of(broker, order)


def test_w18_a_connection_may_be_idle_for_a_day(broker: Broker, line: Line) -> None:
    """Longer than every other deadline here; the default is two days."""
    line.write(framed(named(new_order(), "A")))
    assert codes(line, 1) == [("AA", "A")]
    time.sleep(1.5)
    line.write(framed(named(new_order(), "B")))
    assert codes(line, 1) == [("AA", "B")]
    assert Hl7Limits().idle.total_seconds() > 24 * 3600


def test_w20_an_empty_block_is_refused_and_the_connection_lives(line: Line) -> None:
    line.write(framed(b"") + framed(named(new_order(), "A")))
    assert codes(line, 2) == [("AR", ""), ("AA", "A")]


def test_w21_random_bytes_are_refused_with_a_header_of_ours(line: Line) -> None:
    line.write(framed(bytes(range(0x20, 0x100)) * 3))
    answer = line.answer()
    assert answer.code == "AR"
    parsed = hl7.parse(answer.raw.decode())
    assert (str(parsed.segment("MSH")[3]), str(parsed.segment("MSH")[12])) == ("BROKER", "2.3.1")
    line.write(framed(named(new_order(), "A")))
    assert codes(line, 1) == [("AA", "A")]


def test_w22_an_acknowledgement_that_comes_in_is_never_answered(line: Line) -> None:
    ours = b"MSH|^~\\&|X|Y|BROKER|H|20260316||ACK^O01|77|P|2.3.1\rMSA|AA|1\r"
    line.write(framed(ours) + framed(named(new_order(), "A")))
    assert codes(line, 1) == [("AA", "A")]


def test_w23_a_byte_order_mark_after_the_start_is_passed_over(broker: Broker, line: Line) -> None:
    order = new_order()
    line.write(framed(b"\xef\xbb\xbf" + named(order, "A")))
    assert codes(line, 1) == [("AA", "A")]
    only(broker, order)


def test_w25_what_is_no_hl7_at_all_is_closed_and_costs_nothing(broker: Broker) -> None:
    before = broker.processor_s("door orders")
    with ExitStack() as stack:
        scans = [stack.enter_context(Line(broker.hl7)) for _ in range(30)]
        for scan in scans:
            scan.write(b"GET / HTTP/1.1\r\nHost: broker\r\nAccept: */*\r\n\r\n")
        for scan in scans:
            assert closed(scan)
    for _ in range(200):
        socket.create_connection(broker.hl7, timeout=30).close()
    assert broker.processor_s("door orders") - before < 4.0
    assert send(broker.hl7, named(new_order(), "A")).code == "AA"


def test_w26_and_s93_each_message_of_a_batch_is_answered(broker: Broker, line: Line) -> None:
    one, bad, two = new_order(), new_order(), new_order()
    batch = [
        b"FHS|^~\\&|RIS|H\rBHS|^~\\&|RIS|H\r",
        named(one, "A"),
        edited(named(bad, "B"), ("PID", 3, b"")),
        named(two, "C"),
        b"BTS|3\rFTS|1\r",
    ]
    line.write(framed(b"".join(batch)))
    assert codes(line, 3) == [("AA", "A"), ("AE", "B"), ("AA", "C")]
    assert len(of_accession(broker, one)) == len(of_accession(broker, two)) == 1
    assert find(broker, accession=bad.accession) == []


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", ["AA"], ["AE"]),
        ("AL", "NE", ["CA"], ["CE"]),
        ("NE", "AL", ["AA"], ["AE"]),
        ("AL", "AL", ["CA", "AA"], ["CA", "AE"]),
        ("ER", "ER", [], ["AE"]),
        ("NE", "NE", [], []),
        ("SU", "ER", ["CA"], ["CA", "AE"]),
        ("SU", "SU", ["CA", "AA"], []),
        ("SU", "NE", ["CA"], []),
        ("ER", "NE", [], ["CE"]),
        ("AL", "", ["CA"], ["CE"]),
        ("", "AL", ["AA"], ["AE"]),
    ],
)
def test_w27_and_s85_the_sender_gets_the_answers_that_msh_15_and_16_ask_for(
    line: Line, accept: str, application: str, good: list[str], bad: list[str]
) -> None:
    asked = {"accept_ack": accept, "application_ack": application}
    line.write(framed(named(new_order(), "A", **asked)))
    line.write(framed(edited(named(new_order(), "B", **asked), ("PID", 3, b""))))
    line.write(framed(named(new_order(), "END")))
    expected = [*((code, "A") for code in good), *((code, "B") for code in bad), ("AA", "END")]
    assert codes(line, len(expected)) == expected


def test_an_independent_client_reads_what_we_answer(broker: Broker) -> None:
    """python-hl7's client reads once: an answer has to be one segment on the wire."""
    orders = [new_order() for _ in range(3)]
    with MLLPClient(*broker.hl7) as client:
        for n, order in enumerate(orders):
            reply = client.send_message(named(order, str(n)))
            assert isinstance(reply, bytes)
            parsed = hl7.parse(reply.strip(VT + FS + CR).decode())
            assert [str(parsed.segment("MSA")[k]) for k in (1, 2)] == ["AA", str(n)]
        bad = client.send_message(edited(named(new_order(), "9"), ("PID", 3, b"")))
        error = hl7.parse(bad.strip(VT + FS + CR).decode()).segment("ERR")
        assert str(error[1]).startswith("PID^1^3^101&Required field missing&HL70357&")
    for order in orders:
        only(broker, order)
