"""What each answer of a RIS means: by default, and by the table of that RIS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from broker.hl7.framing import Block, Deframer, frame
from broker.probe.ris import Answer, Sink
from broker.settings import Address, Verdict
from broker.store import dead, outbox
from broker.store.executors import Store
from tests.updates.actors import Job, Reports, eventually, ris


@pytest.mark.parametrize(
    ("answers", "answer", "verdict"),
    [
        ({}, Answer.AE, "park"),
        ({"AE": "retry"}, Answer.AE, "retry"),
        ({"AR": "park"}, Answer.AR, "park"),
        ({"CE": "done"}, Answer.CE, "done"),
        ({"silence": "done"}, Answer.SILENCE, "done"),
        ({"silence": "park"}, Answer.CLOSE, "park"),
        ({"nonsense": "park"}, Answer.GARBAGE, "park"),
        ({"wrong_id": "done"}, Answer.WRONG_CONTROL_ID, "done"),
    ],
)
def test_what_an_answer_means_is_a_table_of_each_ris(
    drain: Job,
    store: Store,
    report: Reports,
    sink: Sink,
    answers: dict[str, str],
    answer: Answer,
    verdict: str,
) -> None:
    sink.answer_next(answer)
    first, second = report(how_many=2)
    drain(ris(sink, answers=answers, ack_timeout_s=0.3), backoff_s=(60,))()
    left = [event.control_id for event in store.run(outbox.events("ris", "H|A1"))]
    # The connection is closed after an answer that is none, so the next goes in the next turn.
    expected = {"retry": {first, second}, "park": {second}, "done": {second}}[verdict]
    assert set(left) <= expected
    assert (first in left) == (verdict == "retry")
    assert store.run(dead.ids()) == ([first] if verdict == "park" else [])


@pytest.mark.parametrize("version", ["2.3.1", "2.5.1"])
def test_an_error_code_of_a_ris_may_mean_something_else_than_its_answer(
    drain: Job, store: Store, report: Reports, version: str
) -> None:
    sent = report(how_many=2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers = iter(["207", "204", ""])
        answering = threading.Thread(target=_answer_with, args=(listener, answers, version))
        answering.start()
        target = ris(
            Address("127.0.0.1", listener.getsockname()[1]),
            answers={"AE 207": "retry"},
            ack_timeout_s=5,
        )
        job = drain(target, backoff_s=(0.05,))
        eventually(lambda: (job(), store.run(outbox.pending("ris")) == 0)[1])
        job.close()
        answering.join()
    (letter,) = store.run(dead.read(store.run(dead.ids())))
    assert (letter.id, letter.cause) == (sent[0], "AE 204")


def _answer_with(listener: socket.socket, codes: Iterator[str], version: str) -> None:
    """Answer each message with the next code, AA when it is empty; as this version says it."""
    connection, _ = listener.accept()
    deframer = Deframer(2**16)
    with connection:
        while data := connection.recv(2**16):
            for block in deframer.receive(data):
                assert isinstance(block, Block)
                control_id, code = block.payload.split(b"|")[9].decode(), next(codes)
                error = f"||{code}^text" if version == "2.5.1" else f"OBR^1^4^{code}&text"
                lines = [
                    f"MSH|^~\\&|RIS|H|BROKER|H|2026||ACK|1|P|{version}",
                    f"MSA|{'AE' if code else 'AA'}|{control_id}",
                    *([f"ERR|{error}"] if code else []),
                ]
                connection.sendall(frame("".join(f"{line}\r" for line in lines).encode()))


def test_every_code_of_table_0008_has_a_verdict(sink: Sink) -> None:
    table = {code: ris(sink).verdict(code) for code in ("AA", "AE", "AR", "CA", "CE", "CR")}
    assert {code for code, verdict in table.items() if verdict is Verdict.DONE} == {"AA", "CA"}
    assert None not in table.values()
    assert ris(sink).verdict("XX") is None
