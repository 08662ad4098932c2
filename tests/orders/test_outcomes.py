"""What the archive, the counters and the sender are told of messages that change nothing."""

from __future__ import annotations

import pytest

from broker.store import reads
from tests.orders.said import PID, Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")


def order(control: str = "NW", status: str = "", **sent: str) -> bytes:
    return hl7("ORM^O01", PID, orc(control, status), obr(), **sent)


def test_a_message_older_than_what_is_known_is_stale_in_the_archive_and_in_its_answer(
    ris: Ris,
) -> None:
    ris.send(order(sent="20260316120000"))
    (answer,) = ris.answers(order("XO", sent="20260316110000"))
    assert b"MSA|AA|" in answer
    assert b"older than what is known" in answer
    (late,) = ris.archived()
    assert (late.outcome, late.cause) == ("stale", "stale")


def test_of_a_patient_message_that_is_older_the_archive_says_so(ris: Ris) -> None:
    for minute in ("30", "20"):
        ris.send(hl7("ADT^A08", PID, sent=f"2026031612{minute}00"))
    assert [each.outcome for each in ris.archived(2)] == ["stale", "applied"]


def test_an_order_sent_as_new_after_its_exam_is_answered_counted_flagged_and_on_no_list(
    ris: Ris,
) -> None:
    def count() -> float:
        return ris.intake.metrics.registry.get_sample_value("broker_orders_finished_total") or 0.0

    ris.send(order(), order("XO", "CM", sent="20260316120100"))
    before = count()
    for again in ("NW", "XO"):
        (answer,) = ris.answers(order(again, sent="20260316120200"))
        assert b"MSA|AA|" in answer
        assert b"on no list" in answer
        assert ris.lines() == []
        assert ris.archived()[0].cause == "finished"
    assert count() == before + 2
    (stored,) = ris.store.run(reads.orders(["NORTH|A1"])).known.orders.values()
    assert stored.flags == ("ordered again after its end",)
