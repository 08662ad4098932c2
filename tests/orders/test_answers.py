"""What each kind of source is answered, with a real store and without one (statements 85, 95)."""

from __future__ import annotations

import asyncio
import time

import pytest

from broker.hl7.acknowledgement import read_acknowledgement
from broker.hl7.header import read_header
from broker.orders.admission import Admission
from broker.probe.orders import Envelope, orm_o01
from broker.settings.orders import Sender
from broker.store.archive import Archived
from broker.store.server import EmbeddedServer
from broker.worklist.applied import NO_START
from tests.doors.actors import new_order
from tests.doors.test_refusals import edited
from tests.orders.door import Door

pytestmark = pytest.mark.peer("redis-server")


def sent_by(application: str, **said: str) -> bytes:
    return orm_o01(new_order(), envelope=Envelope(application=application, **said))


def asking(door: Door, *messages: bytes) -> list[bytes]:
    (payloads,) = door.talk([b"\x0b" + message + b"\x1c\r" for message in messages])
    return payloads


def codes(payloads: list[bytes]) -> list[str]:
    return [read_acknowledgement(payload).code for payload in payloads]


def errors(payload: bytes) -> list[list[str]]:
    return [line.split("|") for line in payload.decode().split("\r") if line.startswith("ERR")]


def without_id(message: bytes) -> bytes:
    return edited(message, ("PID", 3, b""))


def test_a_source_is_answered_in_the_mode_that_its_mapping_says(door: Door) -> None:
    both = {"accept_ack": "AL", "application_ack": "AL"}
    assert codes(asking(door, sent_by("PROBERIS", **both))) == ["CA", "AA"]
    assert codes(asking(door, sent_by("ORIGINAL", **both))) == ["AA"]
    assert codes(asking(door, without_id(sent_by("ORIGINAL", **both)))) == ["AE"]
    assert codes(asking(door, sent_by("ENHANCED"))) == ["CA"]
    assert codes(asking(door, without_id(sent_by("ENHANCED")))) == ["CE"]


def test_refused_content_under_al_ne_is_ce_with_the_reason(door: Door) -> None:
    asked = {"accept_ack": "AL", "application_ack": "NE", "version": "2.5.1"}
    (payload,) = asking(door, without_id(sent_by("PROBERIS", **asked)))
    assert codes([payload]) == ["CE"]
    assert errors(payload)[0][2] == "PID^1^3"


def test_statement_95_while_the_store_is_away_nobody_is_told_it_is_safe(
    door: Door, redis: EmbeddedServer
) -> None:
    """Closed unanswered by default, else AE or AR 207; in enhanced mode CE."""
    redis.stop()
    try:
        _without_store(door)
    finally:
        redis.start()
    assert codes(asking(door, sent_by("PROBERIS"))) == ["AA"]


def _without_store(door: Door) -> None:
    assert asking(door, sent_by("PROBERIS")) == []
    (refused,) = asking(door, sent_by("DOWN"))
    assert (codes([refused]), "207" in errors(refused)[0][1]) == (["AR"], True)
    assert codes(asking(door, sent_by("ENHANCED"))) == ["CE"]
    asked = {"accept_ack": "ER", "application_ack": "NE"}
    assert codes(asking(door, sent_by("DOWN", **asked))) == ["CE"]


def test_a_message_that_its_sender_breaks_off_is_refused_where_somebody_may_read_it(
    door: Door,
) -> None:
    """It ended its side and may be reading: without a word it would wait."""
    good, torn = sent_by("PROBERIS"), sent_by("PROBERIS", version="2.5.1")
    (payloads,) = door.talk([b"\x0b" + torn])
    assert codes(payloads) == ["AE"]
    assert "broken off before its end byte" in errors(payloads[0])[0][8]
    (payloads,) = door.talk([b"\x0b" + good + b"\x1c\r", b"\x0b" + torn[:7]])
    assert codes(payloads) == ["AA"]


def test_a_strict_source_hears_everything_that_hl7apy_has_against_it(door: Door) -> None:
    message = sent_by("STRICT", version="2.5.1")
    assert codes(asking(door, edited(message, ("ZDS", 1, b"")))) in (["AA"], ["AE"])
    bad = edited(message, ("PID", 5, b""), ("OBR", 4, b""), ("PV1", 2, b""))
    (payload,) = asking(door, bad)
    assert codes([payload]) == ["AE"]
    places = {error[2] for error in errors(payload)}
    assert {"PID^1^5", "OBR^1^4", "PV1^1^2"} <= places
    assert all(error[8].partition(": ")[2].startswith("hl7apy: ") for error in errors(payload))
    assert codes(asking(door, edited(bad, ("MSH", 3, b"PROBERIS")))) != ["AR"]


@pytest.mark.parametrize(
    ("change", "code", "place", "fact"),
    [
        (("PID", 7, b"notadate"), "102", "PID^1^7", "is not a time stamp"),
        (("PID", 7, b"19700230"), "102", "PID^1^7", "is not a time stamp"),
        (("PID", 1, b"one"), "102", "PID^1^1", "is not a whole number"),
        (("MSH", 12, b"9.9"), "203", "MSH^1^12", "is no version of HL7"),
        (("ZDS", 0, b"GARB"), "100", "ERR", "segment 6 of the message is none of HL7"),
        (("ZDS", 0, b"GAR"), "100", "GAR^1", "segment 6 of the message is none of HL7"),
    ],
)
def test_a_strict_source_hears_of_what_hl7apy_lets_pass(
    door: Door, change: tuple[str, int, bytes], code: str, place: str, fact: str
) -> None:
    (payload,) = asking(door, edited(sent_by("STRICT"), change))
    assert codes([payload]) == ["AR" if code == "203" else "AE"]
    assert place in payload.decode()
    assert f"{code}&" in payload.decode() or f"{code}^" in payload.decode()
    assert fact in payload.decode()


def test_a_strict_source_hears_where_a_segment_has_too_many_fields(door: Door) -> None:
    message = edited(sent_by("STRICT", version="2.5.1"), ("ORC", 60, b"x"))
    (payload,) = asking(door, message)
    (told,) = (each for each in errors(payload) if each[2] == "ORC^1")
    assert "ORC has more fields than its version knows" in told[8]


def test_what_hl7apy_does_not_know_is_read_by_ourselves(door: Door) -> None:
    """A strict source with version 2.9, and a structure that no version has."""
    for change in (("MSH", 12, b"2.9"), ("MSH", 9, b"ORM^O01^ORM_O99")):
        (payload,) = asking(door, edited(sent_by("STRICT"), change))
        assert codes([payload]) == ["AA"]


def test_a_large_strict_message_makes_nobody_else_wait(door: Door) -> None:
    slow = sent_by("STRICT") + b"OBX|1|ST|A^B^C||text|||||F\r" * 400
    quick = sent_by("PROBERIS")

    async def race() -> tuple[float, float]:
        return await asyncio.gather(_timed(door, slow), _timed(door, quick, 0.02))

    slow_s, quick_s = door.run(race())
    assert quick_s < slow_s / 2


async def _timed(door: Door, message: bytes, wait_s: float = 0.0) -> float:
    await asyncio.sleep(wait_s)
    reader, writer = await asyncio.open_connection(*door.address)
    began = time.monotonic()
    writer.write(b"\x0b" + message + b"\x1c\r")
    await reader.readuntil(b"\x1c\r")
    writer.close()
    return time.monotonic() - began


def test_a_message_too_large_for_the_judge_is_refused_by_a_strict_source(door: Door) -> None:
    large = sent_by("STRICT") + b"OBX|1|ST|A^B^C||text|||||F\r" * 2000
    (payload,) = asking(door, large)
    assert codes([payload]) == ["AE"]
    assert b"strict validation" in payload


def test_a_source_s_own_bytes_are_read_as_its_mapping_says(door: Door) -> None:
    for label in ("", "MAZOVIA-X"):
        message = sent_by("POLISH", charset=label)
        message = edited(message, ("PID", 5, "Żółć^Łucja".encode("cp1250")))
        assert codes(asking(door, message)) == ["AA"]


def test_a_listener_takes_only_the_senders_and_the_processing_ids_it_is_for(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        door.intake.admission, door.listener.port, Admission((Sender(sender="PROBERIS|*"),), ("P",))
    )
    assert codes(asking(door, sent_by("PROBERIS"))) == ["AA"]
    (stranger,) = asking(door, sent_by("OTHER"))
    assert (codes([stranger]), "MSH^1^3^103" in errors(stranger)[0][1]) == (["AR"], True)
    (trial,) = asking(door, edited(sent_by("PROBERIS"), ("MSH", 11, b"T")))
    assert (codes([trial]), "MSH^1^11^202" in errors(trial)[0][1]) == (["AR"], True)


@pytest.mark.parametrize("control_id", [b"a^b~c&d", b" 7 ", b"x" * 60, b"G\xfc\\T\\"])
def test_a_control_id_comes_back_byte_for_byte(door: Door, control_id: bytes) -> None:
    (payload,) = asking(door, edited(sent_by("PROBERIS", charset=""), ("MSH", 10, control_id)))
    assert b"\rMSA|AA|" + control_id + b"\r" in payload


def test_an_answer_speaks_the_character_set_of_its_message(door: Door) -> None:
    for label in ("8859/1", "UNICODE UTF-8", "~ISO IR87"):
        (payload,) = asking(door, without_id(sent_by("PROBERIS", charset=label)))
        assert read_header(payload).field(18) == label


def test_what_the_mapping_leaves_empty_or_cuts_is_noted_counted_and_logged_without_the_value(
    door: Door, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, told = "broker_orders_odd_values_total", list[Archived]()
    monkeypatch.setitem(vars(door.intake.answering), "told", told.append)
    metrics = door.intake.metrics.registry
    odd = edited(sent_by("PROBERIS"), ("PID", 7, b"1961X502"), ("PID", 8, b"Q"))
    notes = ("PID-7 is not a complete date", "PID-8 is not in table 'sex'")
    before = [metrics.get_sample_value(name, {"note": note}) or 0 for note in notes]
    assert codes(asking(door, odd)) == ["AA"]
    assert all(note in told[0].cause for note in notes)
    after = [metrics.get_sample_value(name, {"note": note}) for note in notes]
    assert after == [each + 1 for each in before]
    assert notes[0] in capsys.readouterr().out
    assert "1961X502" not in told[0].cause

    assert codes(asking(door, edited(sent_by("PROBERIS"), ("PID", 8, b"U")))) == ["AA"]
    assert codes(
        asking(door, edited(sent_by("PROBERIS"), ("OBR", 24, b"RAD"), ("OBR", 4, b"71046^Chest")))
    ) == ["AA"]
    assert [each.cause for each in told[1:]] == ["", ""]  # another place knew the modality


def test_an_order_without_a_start_is_noted_and_counted(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, told = "broker_orders_odd_values_total", list[Archived]()
    monkeypatch.setitem(vars(door.intake.answering), "told", told.append)
    metrics, note = door.intake.metrics.registry, {"note": NO_START}
    before = metrics.get_sample_value(name, note) or 0
    unplanned = edited(sent_by("PROBERIS"), ("ORC", 7, b""), ("OBR", 27, b""))
    assert codes(asking(door, unplanned)) == ["AA"]
    assert told[0].cause == NO_START
    assert metrics.get_sample_value(name, note) == before + 1
