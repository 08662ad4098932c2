"""The messages of one block."""

from __future__ import annotations

import pytest

from broker.hl7.message import batch, said_count
from broker.hl7.refusal import Refusal

MSH = "MSH|^~\\&|RIS|H|MWL|R|20260316||ORM^O01|1|P|2.3.1\r"
ONE, TWO = MSH.encode() + b"PID|1\r", MSH.encode() + b"PID|2\r"


@pytest.mark.parametrize(
    ("raw", "messages"),
    [
        (ONE, [ONE]),
        (b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + ONE + TWO + b"BTS|2\rFTS|1\r", [ONE, TWO]),
        (b"BHS|^~\\&|A\r" + ONE + b"BTS|1\r", [ONE]),
        (ONE + TWO, [ONE, TWO]),
        (ONE.replace(b"\r", b"\r\n") + TWO.replace(b"\r", b"\r\n"), [ONE, TWO]),
        (b"not HL7", [b"not HL7"]),
    ],
)
def test_a_block_gives_its_messages(raw: bytes, messages: list[bytes]) -> None:
    """Wrappers are taken off, and two messages in one block are two."""
    assert [one.replace(b"\n", b"") for one in batch(raw)] == messages


@pytest.mark.parametrize(
    ("trailer", "said"),
    [("BTS|3\r", 3), ("BTS|1\rBHS|^~\\&|\rBTS|2\r", 3), ("BTS|\r", None), ("", None)],
)
def test_trailers_say_how_many_messages_a_batch_holds(trailer: str, said: int | None) -> None:
    assert said_count(f"BHS|^~\\&|\r{MSH}{trailer}".encode()) == said


def test_a_batch_without_message_is_refused() -> None:
    """Never silence."""
    with pytest.raises(Refusal, match="no message") as refused:
        batch(b"FHS|^~\\&|A\rFTS|0\r")
    assert (refused.value.acknowledgement, refused.value.code) == ("AR", "200")


def test_a_batch_has_a_bound() -> None:
    """One block of a few bytes a message must not become millions of answers."""
    with pytest.raises(Refusal, match="more than 5000 messages") as refused:
        batch(MSH.encode() * 5_001)
    assert (refused.value.acknowledgement, refused.value.code) == ("AR", "207")
    assert len(batch(MSH.encode() * 5_000)) == 5_000
