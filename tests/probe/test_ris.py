"""The pretend RIS against itself over real sockets, and python-hl7's client against its sink."""

from __future__ import annotations

import socket
import time

import pytest
from hl7.client import MLLPClient

from broker.hl7.refusal import Refusal
from broker.probe.address import Address, Unreachable
from broker.probe.orders import Envelope, Order, orm_o01
from broker.probe.ris import Answer, Sender, Sink, accepted, read_messages, send


def an_order(control_id: str = "C1", **envelope: str) -> bytes:
    return orm_o01(Order(), envelope=Envelope(control_id, **envelope))


def test_a_sent_message_arrives_whole_and_is_acknowledged(sink: Sink) -> None:
    (answer,) = send(sink.address, [an_order()])
    assert (answer.code, answer.control_id) == ("AA", "C1")
    assert accepted(answer)
    assert sink.received[0].payload == an_order()


def test_messages_go_one_after_the_other_over_one_connection(sink: Sink) -> None:
    answers = send(sink.address, [an_order(f"C{number}") for number in range(20)])
    assert [answer.control_id for answer in answers] == [f"C{number}" for number in range(20)]
    assert {message.connection for message in sink.received} == {1}


def test_the_answers_follow_the_programme_and_then_the_default(sink: Sink) -> None:
    sink.answer_next(Answer.AE, Answer.AR)
    answers = send(sink.address, [an_order(), an_order(), an_order()])
    assert [answer.code for answer in answers] == ["AE", "AR", "AA"]
    assert [message.answer for message in sink.received] == [Answer.AE, Answer.AR, Answer.AA]


def test_a_wrong_control_id_is_handed_back_as_it_came(sink: Sink) -> None:
    sink.answer_next(Answer.WRONG_CONTROL_ID)
    (answer,) = send(sink.address, [an_order()])
    assert (answer.code, answer.control_id) == ("AA", "NOTYOURS")


def test_silence_ends_at_the_deadline(sink: Sink) -> None:
    sink.answer_next(Answer.SILENCE)
    with pytest.raises(Unreachable, match=r"no acknowledgement within 0\.3 s"):
        send(sink.address, [an_order()], deadline_s=0.3)
    assert len(sink.received) == 1


def test_a_hang_up_says_that_nothing_was_acknowledged(sink: Sink) -> None:
    sink.answer_next(Answer.CLOSE)
    with pytest.raises(Unreachable, match="closed the connection without an acknowledgement"):
        send(sink.address, [an_order()])


def test_an_answer_that_is_not_hl7_is_refused(sink: Sink) -> None:
    sink.answer_next(Answer.GARBAGE)
    with pytest.raises(Refusal):
        send(sink.address, [an_order()])


def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        to = Address("127.0.0.1", closed.getsockname()[1])
    with pytest.raises(Unreachable, match="cannot connect"):
        send(to, [an_order()])


def test_an_accept_level_answer_is_enough_where_no_other_is_asked_for(sink: Sink) -> None:
    sink.answer = Answer.CA
    answers = send(sink.address, [an_order(accept_ack="AL", application_ack="NE")])
    assert [answer.code for answer in answers] == ["CA"]


def test_a_refusal_at_accept_level_is_not_followed_by_another_answer(sink: Sink) -> None:
    sink.answer = Answer.CE
    answers = send(sink.address, [an_order(accept_ack="AL", application_ack="AL")])
    assert [answer.code for answer in answers] == ["CE"]


def test_a_message_that_asks_for_no_answer_waits_for_none(sink: Sink) -> None:
    sink.answer = Answer.SILENCE
    assert send(sink.address, [an_order(accept_ack="NE", application_ack="NE")]) == []
    sink.wait_for(1)


def test_half_a_frame_arrives_when_the_rest_does(sink: Sink) -> None:
    framed = b"\x0b" + an_order() + b"\x1c\r"
    with Sender(sink.address) as sender:
        sender.send_raw(framed[:50])
        time.sleep(0.05)
        assert sink.received == []
        sender.send_raw(framed[50:])
        assert sender.receive().code == "AA"


def test_waiting_says_how_many_came(sink: Sink) -> None:
    send(sink.address, [an_order()])
    with pytest.raises(TimeoutError, match="1 of 2 messages"):
        sink.wait_for(2, deadline_s=0.05)


def test_a_received_message_is_read_by_field(sink: Sink) -> None:
    send(sink.address, [an_order()])
    (message,) = sink.wait_for(1)
    assert message.field("MSH", 10) == "C1"
    assert message.field("ORC", 1) == "NW"
    assert message.field("OBR", 99) == ""
    assert message.field("ZZZ", 1) == ""


def test_stopping_closes_idle_connections_at_once() -> None:
    sink = Sink()
    address = sink.start()
    with socket.create_connection(address) as idle:
        time.sleep(0.05)
        began = time.monotonic()
        sink.stop()
        assert time.monotonic() - began < 20
        assert idle.recv(1) == b""
    with pytest.raises(RuntimeError, match="not listening"):
        _ = sink.address


def test_the_sink_listens_again_on_the_port_it_had() -> None:
    sink = Sink()
    address = sink.start()
    send(address, [an_order("C1")])
    sink.stop()
    assert sink.start(*address) == address
    send(address, [an_order("C2")])
    sink.stop()
    assert [message.field("MSH", 10) for message in sink.received] == ["C1", "C2"]


def test_python_hl7s_client_is_acknowledged(sink: Sink) -> None:
    with MLLPClient(*sink.address) as client:
        answer = client.send_message(an_order("PYHL7").decode())
    assert b"\rMSA|AA|PYHL7\r" in answer
    assert sink.received[0].field("MSH", 10) == "PYHL7"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_a_file_is_read_whatever_ends_its_lines(end: bytes) -> None:
    raw = (an_order("C1") + an_order("C2")).replace(b"\r", end)
    assert read_messages(raw) == [an_order("C1"), an_order("C2")]


def test_a_file_of_framed_messages_is_read_too() -> None:
    raw = b"\x0b" + an_order("C1") + b"\x1c\r\x0b" + an_order("C2") + b"\x1c\r"
    assert read_messages(raw) == [an_order("C1"), an_order("C2")]


def test_a_file_without_a_message_holds_none() -> None:
    assert read_messages(b"MSHARE|this is no header\r") == []
