"""What scanners really send, case by case (Q1 to Q40), over the wire to the real door and store."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
import trustme
from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from broker.dicom.encoding import encode
from broker.probe.scanner import rejection
from broker.worklist.attributes import TYPE_1
from tests.dicom.requestor import (
    ABORT,
    VERIFICATION,
    WORKLIST,
    associate_rq,
    cancel_rq,
    echo_rq,
    find_rq,
    titled,
)
from tests.modality.door import closed_within, receive, status, wait_until
from tests.modality.site import (
    AET,
    DATE,
    EXPLICIT,
    IMPLICIT,
    STEPS,
    TIME,
    Site,
    asked,
    plan,
    private_redis,
    read_implicit,
    site_of,
)

pytestmark = pytest.mark.peer("redis-server")

CONFIG = """
timezone: Europe/Berlin
dicom:
  aes:
    - {title: ABC, labels: [abc]}
    - {title: UPPER, labels: [abc], upper_keys: true}
    - {title: LATIN, charset: ISO_IR 100, beyond_charset: transliterate}
    - {title: BARE, charset: ISO_IR 6, beyond_charset: transliterate}
    - {title: GREEK, charset: ISO_IR 126}
    - {title: FIFTY, labels: [long], max_answers: 50}
"""
HASTY = """
dicom:
  limits: {association_deadline: 0.5s, pdu_deadline: 0.5s, write_deadline: 0.5s}
"""

STRICT = """
dicom:
  called_ae: own
  unknown_ae: refuse
  lenient: {titles: false, title_case: false}
  aes: [{title: CT1}]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with private_redis() as redis, site_of(redis, CONFIG) as site:
        one = {"WorklistLabel": "abc"}
        plan(site.store, "A", **one)
        plan(
            site.store,
            "B",
            **one,
            **{AET: "MR1", DATE: "20260102", TIME: "050000", "Modality": "MR"},
        )
        plan(site.store, "C", **one, **{DATE: "20260102", TIME: "120000"})
        plan(site.store, "MUELLER", PatientName="Müller^Jörg", PatientComments=None)
        plan(site.store, "LUKASZ", PatientName="Łukasz^Wójcik")
        plan(site.store, "GREEK", PatientName="Παππάς^Αννα")
        yield site


LONG = 700
"""Steps, together more than the 4 MB that the system keeps of what a peer has not taken."""


@pytest.fixture(scope="module")
def long(site: Site) -> Site:
    """The same with many more steps, half an hour apart and not in that order, of 9 KB each."""
    for number in range(LONG):
        at = (number * 11) % LONG
        day, half_hours = divmod(at, 25)
        when = {
            DATE: f"202602{1 + day:02d}",
            TIME: f"{half_hours // 2:02d}{half_hours % 2 * 30:02d}00",
        }
        text = "x" * 9000
        plan(
            site.store,
            f"L{at:03d}",
            WorklistLabel="long",
            CommentsOnTheScheduledProcedureStep=text,
            **when,
        )
    return site


def element(keyword: str, value: bytes) -> bytes:
    """One element in Implicit VR Little Endian, whatever its value."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def sequence(keyword: str, *items: bytes) -> bytes:
    return element(
        keyword, b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    )


ACCESSION = element("AccessionNumber", b"")


def abc(site: Site, identifier: bytes, calling: bytes = b"ABC") -> str:
    """Which of A, B and C a raw identifier finds; it must end in success."""
    (reply,) = site.raw(identifier, calling=calling)
    assert reply.statuses[-1] == 0x0000
    return reply.accessions.replace(" ", "")


def step(**keys: bytes) -> bytes:
    """An identifier with these keys in its step item."""
    return ACCESSION + sequence(STEPS, b"".join(element(k, v) for k, v in keys.items()))


# Queries


def test_q01_no_keys_at_all_is_the_whole_list_up_to_its_limit(long: Site) -> None:
    """Who wants no attribute back either gets no answers: there is nothing to put into them."""
    (nothing,) = long.raw(b"", calling=b"ABC")
    assert nothing.statuses == (0x0000,)
    (everything,) = long.raw(ACCESSION, calling=b"ABC")
    assert everything.statuses == (0xFF00,) * 3 + (0x0000,)
    (too_much,) = long.raw(ACCESSION, calling=b"FIFTY")
    assert too_much.statuses == (0xA700,)


def test_q02_no_step_sequence(site: Site) -> None:
    assert abc(site, ACCESSION) == "ABC"


def test_q03_a_step_sequence_without_items(site: Site) -> None:
    assert abc(site, ACCESSION + sequence(STEPS)) == "ABC"


@pytest.mark.parametrize(
    "item",
    [
        struct.pack("<HHI", 0xFFFE, 0xE000, 0),
        struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0xFFFFFFFF, 0xFFFE, 0xE00D, 0),
    ],
)
def test_q04_one_empty_item_asks_for_all(site: Site, item: bytes) -> None:
    """Of explicit and of undefined length."""
    assert abc(site, ACCESSION + element(STEPS, item)) == "ABC"
    undefined = struct.pack("<HHI", 0x0040, 0x0100, 0xFFFFFFFF) + item
    assert abc(site, ACCESSION + undefined + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) == "ABC"


def test_q05_of_two_items_the_first_counts(site: Site) -> None:
    items = (element(AET, b"MR1 "), element(AET, b"CT1 "))
    assert abc(site, ACCESSION + sequence(STEPS, *items)) == "B"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (b"-20260101 ", "A"),
        (b"20260102- ", "BC"),
        (b"20260101-20260102 ", "ABC"),
        (b"20260101 - 20260101", "A"),
        (b"* ", "ABC"),
        (b"2026.01.02", "BC"),
        (b"20260102\0\0", "BC"),
        (b"20260102  ", "BC"),
        (b"- ", "ABC"),
        (b"202601* ", "ABC"),  # no wild card is allowed in dates: unreadable is universal
        (b"2026010?", "ABC"),
        (b"TODAY ", "ABC"),
        (b"20260230", "ABC"),  # so is a day that no calendar has
        (b"20260101\\20260105 ", "A"),
        (b"20260101\\20260102 ", "ABC"),
    ],
)
def test_q06_dates_in_all_forms(site: Site, date: bytes, expected: str) -> None:
    assert abc(site, step(**{DATE: date})) == expected


def test_q07_a_reversed_range_finds_nothing(site: Site) -> None:
    assert abc(site, step(**{DATE: b"20260102-20260101 "})) == ""
    assert abc(site, step(**{TIME: b"1800-0600 "})) == ""


@pytest.mark.parametrize(
    ("time_key", "expected"),
    [
        (b"12-14 ", "C"),
        (b"0800-1800 ", "C"),
        (b"-0500 ", "B"),
        (b"19- ", "A"),
        (b"05:00 ", "B"),
        (b"2560", "ABC"),
        (b"0500\\1200 ", "BC"),
        (b"*", "ABC"),
    ],
)
def test_q08_times_of_hours_only(site: Site, time_key: bytes, expected: str) -> None:
    assert abc(site, step(**{TIME: time_key})) == expected


@pytest.mark.parametrize(
    ("station", "calling", "expected"),
    [
        (b"CT1\0", b"ABC", "AC"),
        (b"CT1\0\0\0\0\0", b"ABC", "AC"),
        (b" CT1", b"ABC", "AC"),
        (b"ct1 ", b"ABC", ""),
        (b"ct1 ", b"UPPER", "AC"),
        (b"CT1\\MR1 ", b"ABC", "ABC"),
        (b"CT?\\mr1 ", b"UPPER", "ABC"),
        (b"CT* ", b"ABC", "AC"),
    ],
)
def test_q09_stations_padded_in_small_letters_and_in_lists(
    site: Site, station: bytes, calling: bytes, expected: str
) -> None:
    assert abc(site, step(**{AET: station}), calling) == expected


@pytest.mark.parametrize(
    ("modality", "expected"),
    [(b"CT\\MR ", "ABC"), (b"CR\\DX ", ""), (b"MR\0\0", "B"), (b"M? ", "B")],
)
def test_q10_lists_of_modalities(site: Site, modality: bytes, expected: str) -> None:
    assert abc(site, step(Modality=modality)) == expected


@pytest.mark.parametrize(
    ("case", "label", "name"),
    [
        ("q11", None, "müll*".encode("latin-1")),
        ("q12", None, "müll*".encode()),
        ("q13", b"ISO_IR 192", "müll*".encode("latin-1")),
        ("q13", b"ISO_IR 100", b"mull* "),
        ("q13", b"ISO_IR 999", "müll*".encode()),
        ("q13", b"", "müll*".encode("latin-1")),
        ("q13", b"ISO-IR 100", "müll*".encode("latin-1")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_q11_q12_q13_names_without_a_label_or_with_a_wrong_one(
    site: Site, case: str, label: bytes | None, name: bytes
) -> None:
    labelled = b"" if label is None else element("SpecificCharacterSet", label)
    keys = labelled + ACCESSION + element("PatientName", name + b" " * (len(name) % 2))
    assert abc(site, keys, b"ANY") == "MUELLER"


def test_q11_an_unlabelled_name_is_read_in_the_set_of_its_ae(site: Site) -> None:
    name = "Παππάς*".encode("iso8859-7")
    keys = ACCESSION + element("PatientName", name + b" " * (len(name) % 2))
    assert abc(site, keys, b"GREEK") == "GREEK"


def test_q14_group_lengths_private_tags_and_the_query_level(site: Site) -> None:
    group_length = struct.pack("<HHII", 0x0008, 0x0000, 4, 999)
    private = (
        struct.pack("<HHI", 0x0009, 0x0010, 4) + b"ACME" + struct.pack("<HHI", 9, 0x1001, 2) + b"x "
    )
    level = element("QueryRetrieveLevel", b"PATIENT ")
    assert abc(site, group_length + ACCESSION + level + sequence(STEPS, b"")) == "ABC"
    assert abc(site, group_length + ACCESSION + level + private + sequence(STEPS, b"")) == "ABC"
    (reply,) = site.raw(group_length + ACCESSION + level, calling=b"ABC")
    assert set(reply.statuses) == {0xFF00, 0x0000}
    for data in reply.data_sets:
        assert [one.keyword for one in read_implicit(data)] == ["AccessionNumber"]


def test_q15_tags_in_any_order(site: Site) -> None:
    keys = (
        element("PatientID", b"PA")
        + sequence(STEPS, element(DATE, b"") + element(AET, b""))
        + ACCESSION
    )
    (reply,) = site.raw(keys, calling=b"ABC")
    assert reply.accessions == "A"
    (answer,) = (read_implicit(data) for data in reply.data_sets)
    assert list(answer.keys()) == sorted(answer.keys())


def test_q16_a_truncated_identifier_is_a900_and_the_association_lives(site: Site) -> None:
    wrong, right = site.raw(step(**{AET: b"CT1 "})[:-3], ACCESSION, calling=b"ABC")
    assert (wrong.statuses, right.accessions) == ((0xA900,), "A B C")


def test_q17_a_sequence_that_holds_text_is_universal(site: Site) -> None:
    keys = ACCESSION + element(STEPS, b"CT1 ") + element("RequestedProcedureCodeSequence", b"XX")
    assert abc(site, keys) == "ABC"


def test_q18_three_thousand_levels_are_refused_and_the_next_query_is_answered(site: Site) -> None:
    deep = b""
    for _ in range(3000):
        deep = sequence("RequestedProcedureCodeSequence", deep)
    wrong, right = site.raw(ACCESSION + deep, ACCESSION, calling=b"ABC")
    assert (wrong.statuses, right.accessions) == ((0xA900,), "A B C")


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_q17_explicit_bytes_in_an_implicit_context_are_understood(site: Site, syntax: str) -> None:
    other = EXPLICIT if syntax == IMPLICIT else IMPLICIT
    keys = encode({"AccessionNumber": "", STEPS: [{"Modality": "MR"}]}, other)
    (reply,) = site.raw(keys, calling=b"ABC", syntax=syntax)
    assert reply.statuses == (0xFF00, 0x0000)


# Answers


def test_q19_an_entry_that_cannot_be_encoded_is_left_out_alone(site: Site) -> None:
    plan(site.store, "BAD1", WorklistLabel="bad", PregnancyStatus="perhaps")
    plan(site.store, "BAD2", WorklistLabel="bad", PregnancyStatus="2")
    reply = site.ask({"AccessionNumber": "", "WorklistLabel": "bad", "PregnancyStatus": ""})
    assert (reply.accessions, reply.status) == ("BAD2", 0x0000)
    assert site.ask({"AccessionNumber": "", "WorklistLabel": "bad"}).accessions == "BAD1 BAD2"


def test_q20_a_scanner_of_latin_letters_gets_polish_names_spelt(site: Site) -> None:
    (item,) = site.ask(asked("LUKASZ", PatientName=""), "LATIN").items
    assert item["PatientName"] == "Lukasz^Wójcik"
    assert item["SpecificCharacterSet"] == "ISO_IR 100"


def test_q21_a_scanner_without_character_sets_gets_none(site: Site) -> None:
    (item,) = site.ask(asked("LUKASZ", PatientName=""), "BARE").items
    assert item == {"AccessionNumber": "LUKASZ", "PatientName": "Lukasz^Wojcik"}


def test_q22_every_type_1_is_there_with_its_value_and_form(site: Site) -> None:
    """That a poor order has them is the mapping's promise; here they come back whole."""
    of_step = {AET, DATE, TIME, "Modality", "ScheduledProcedureStepID"}
    top = dict.fromkeys(sorted(set(TYPE_1) - of_step), "")
    for item in site.ask({**top, STEPS: [dict.fromkeys(of_step, "")]}, "ABC").items:
        assert all(item[keyword] for keyword in top)
        (one,) = item[STEPS]
        assert all(one.values())
        assert (len(one[DATE]), len(one[TIME])) == (8, 6)


def test_q23_what_is_asked_for_and_not_known_comes_back_empty(site: Site) -> None:
    keys = {
        "MedicalAlerts": "",
        "ReferencedStudySequence": [],
        "ReferencedPatientSequence": [
            {"ReferencedSOPClassUID": "", "ReferencedSOPInstanceUID": ""}
        ],
        "RequestedProcedureCodeSequence": [{"CodeValue": "", "CodeMeaning": ""}],
    }
    (item,) = site.ask(asked("A", **keys)).items
    assert item == {
        "AccessionNumber": "A",
        "MedicalAlerts": "",
        "ReferencedStudySequence": [],
        "ReferencedPatientSequence": [],
        "RequestedProcedureCodeSequence": [],
    }


LONG_KEYS = encode(
    {
        "AccessionNumber": "",
        "WorklistLabel": "long",
        STEPS: [{"CommentsOnTheScheduledProcedureStep": ""}],
    },
    IMPLICIT,
)


def connected(site: Site, *, taking: int | None = None, **request: Any) -> socket.socket:
    """A raw association, of a peer whose system takes so many bytes ahead of it."""
    peer = socket.socket()
    peer.settimeout(30)
    if taking is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taking)
    peer.connect(("127.0.0.1", site.port))
    peer.sendall(associate_rq(**request))
    receive(peer, 2)
    return peer


def test_q24_a_cancel_after_three_answers_is_heeded_at_once(long: Site) -> None:
    """The scanner takes little at once, and the network does not hold the whole list."""
    with closing(connected(long, taking=4096)) as peer:
        peer.sendall(find_rq(5, identifier=LONG_KEYS))
        assert [status(peer) for _ in range(3)] == [0xFF00] * 3
        peer.sendall(cancel_rq(5))
        rest = [0xFF00]
        while rest[-1] == 0xFF00:
            rest.append(status(peer))
        assert rest[-1] == 0xFE00
        assert len(rest) < LONG - 2
        peer.sendall(find_rq(5, identifier=ACCESSION + element("WorklistLabel", b"abc ")))
        assert [status(peer) for _ in range(4)] == [0xFF00] * 3 + [0x0000]


def test_q25_an_abort_in_the_middle_of_a_list_leaves_nothing(long: Site) -> None:
    before = threading.active_count()
    with closing(connected(long)) as peer:
        peer.sendall(find_rq(identifier=LONG_KEYS))
        assert status(peer) == 0xFF00
        peer.sendall(ABORT)
    wait_until(lambda: long.connections == len(long.established))
    assert threading.active_count() == before
    assert long.ask(asked("A")).statuses == (0xFF00, 0x0000)


def test_q26_a_client_that_stops_reading_is_freed(long: Site) -> None:
    with site_of(long.redis, HASTY) as hasty, closing(connected(hasty)) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for number in range(8):
            peer.sendall(find_rq(number, identifier=LONG_KEYS))
        wait_until(lambda: hasty.connections == 0)


def test_q27_a_pdu_header_and_then_silence_is_freed(site: Site) -> None:
    with site_of(site.redis, HASTY) as hasty, closing(connected(hasty)) as peer:
        peer.sendall(b"\x04\x00\x00\x00\x10\x00")
        assert closed_within(peer, 5)
        wait_until(lambda: hasty.connections == 0)


def test_q28_a_pdu_of_4_gib_is_refused(site: Site) -> None:
    with closing(connected(site)) as peer:
        peer.sendall(b"\x04\x00\xff\xff\xff\xff" + bytes(100))
        receive(peer, 7)


# Associations


def test_q29_forty_silent_sockets_keep_nobody_waiting(site: Site) -> None:
    silent = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(40)]
    try:
        began = time.monotonic()
        assert site.ask(asked("A"), "CT9", kept=False).statuses == (0xFF00, 0x0000)
        assert time.monotonic() - began < 20
    finally:
        for peer in silent:
            peer.close()


def test_q30_a_query_without_message_id_is_answered_or_aborted_and_never_ignored(
    site: Site,
) -> None:
    request = find_rq(None, identifier=ACCESSION + element("WorklistLabel", b"abc "))
    with closing(connected(site)) as peer:
        peer.sendall(request)
        assert [status(peer) for _ in range(4)] == [0xFF00] * 3 + [0x0000]
    strict = "dicom: {lenient: {message_id: false}}"
    with site_of(site.redis, strict) as other, closing(connected(other)) as peer:
        peer.sendall(request)
        receive(peer, 7)
        assert closed_within(peer, 5)


@pytest.mark.parametrize(
    ("called", "calling"),
    [
        (b"BROKER".ljust(16, b"\0"), b"CT1".ljust(16, b"\0")),
        (b"broker".ljust(16), b"ct1".ljust(16)),
        (b"BROKER".ljust(16), "RÖNTGEN".encode("latin-1").ljust(16)),
        (b" BROKER".ljust(16), b" ".ljust(16)),
    ],
)
def test_q31_titles_padded_in_small_letters_8_bit_or_blank(
    site: Site, called: bytes, calling: bytes
) -> None:
    """Taken by default; a strict site rejects each by its reason."""
    request = titled(associate_rq(), called=called, calling=calling)
    with closing(socket.create_connection(("127.0.0.1", site.port), timeout=30)) as peer:
        peer.sendall(request + echo_rq())
        receive(peer, 2)
        assert status(peer) == 0x0000
    with (
        site_of(site.redis, STRICT) as other,
        closing(socket.create_connection(("127.0.0.1", other.port), timeout=30)) as peer,
    ):
        peer.sendall(request)
        assert receive(peer, 3)[1:3] == b"\x01\x01"


def test_q32_the_called_title_matters_where_a_site_says_so(site: Site) -> None:
    assert site.scanner("ANY", called="WHATEVER").is_established
    with site_of(site.redis, "dicom: {called_ae: own}") as strict:
        refused = rejection(strict.scanner("ANY", called="WHATEVER", kept=False))
        assert refused is not None
        assert refused.diagnostic == 7
        assert strict.scanner("ANY", called="BROKER").is_established


def test_q33_q34_twenty_contexts_and_a_user_identity_are_no_obstacle(site: Site) -> None:
    """UPS, storage commitment and odd syntaxes are rejected one by one, the worklist is not."""
    odd = [f"1.2.840.10008.5.1.4.34.6.{n}" for n in range(1, 5)] + [
        f"1.2.840.10008.1.20.{n}" for n in range(12)
    ]
    ae = AE("MANY")
    ae.requested_contexts = [
        *(build_context(uid) for uid in odd),
        build_context(WORKLIST, [DeflatedExplicitVRLittleEndian]),
        build_context(WORKLIST, [ExplicitVRBigEndian]),
        build_context(WORKLIST, [ExplicitVRBigEndian, IMPLICIT]),
        build_context(VERIFICATION),
    ]
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 1
    identity.primary_field = b"scanner"
    association = ae.associate("127.0.0.1", site.port, ext_neg=[identity])
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    assert accepted == {WORKLIST, VERIFICATION}
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize("max_pdu", [0, 4096, 16000])
def test_q35_lists_reach_peers_with_any_maximum_pdu(long: Site, max_pdu: int) -> None:
    with closing(connected(long, max_pdu=max_pdu)) as peer:
        peer.sendall(find_rq(identifier=LONG_KEYS))
        statuses = [0xFF00]
        sizes: set[int] = set()
        while statuses[-1] == 0xFF00:
            body = receive(peer, 4)
            sizes.add(len(body))
            if body[5] & 3 == 3:
                statuses.append(int(read_implicit(body[6:]).Status))
        assert len(statuses) == LONG + 2
        assert max_pdu == 0 or max(sizes) <= max_pdu


def test_q36_a_long_list_comes_whole_and_by_start(long: Site) -> None:
    reply = long.ask({"AccessionNumber": "", "WorklistLabel": "long"})
    assert reply.values("AccessionNumber") == [f"L{number:03d}" for number in range(LONG)]
    assert long.ask({"AccessionNumber": "", "WorklistLabel": "long"}, "FIFTY").statuses == (0xA700,)


def test_q37_fifty_polls_at_once_are_all_answered(site: Site) -> None:
    """An association each: ask, release."""

    def poll(number: int) -> str:
        with closing(connected(site)) as peer:
            peer.sendall(find_rq(number, identifier=step(**{AET: b"MR1 "})))
            return f"{status(peer):04X} {status(peer):04X}"

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(poll, range(1, 51))) == {"FF00 0000"}


def test_q38_one_association_serves_query_after_query_and_echoes_between(site: Site) -> None:
    with closing(connected(site)) as peer:
        for number in range(1, 201):
            peer.sendall(
                echo_rq(number)
                if number % 5 == 0
                else find_rq(number, identifier=step(**{AET: b"MR1 "}))
            )
            assert status(peer) == (0x0000 if number % 5 == 0 else 0xFF00)
            if number % 5:
                assert status(peer) == 0x0000


def test_q38_a_scanner_may_go_without_a_word_after_success(site: Site) -> None:
    peer = connected(site)
    peer.sendall(find_rq(identifier=ACCESSION + element("WorklistLabel", b"abc ")))
    assert [status(peer) for _ in range(4)][-1] == 0x0000
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    wait_until(lambda: site.connections == len(site.established))


def test_q39_without_redis_the_answer_is_a700_and_then_the_list_again(site: Site) -> None:
    with private_redis() as redis, site_of(redis, CONFIG) as other:
        plan(other.store, "A")
        assert other.ask(asked("A")).statuses == (0xFF00, 0x0000)
        redis.stop(grace_s=5)
        assert other.ask(asked("A")).statuses == (0xA700,)
        redis.start()
        assert other.ask(asked("A")).statuses == (0xFF00, 0x0000)


def test_q40_a_silent_client_of_a_tls_listener_keeps_nobody_waiting(site: Site) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    with site_of(site.redis, HASTY, tls=lambda: ours) as secure, ExitStack() as stack:
        address = ("127.0.0.1", secure.port)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(12)]
        ae = AE("TLS")
        ae.add_requested_context(VERIFICATION)
        association = ae.associate("127.0.0.1", secure.port, tls_args=(theirs, "127.0.0.1"))
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        association.release()
        assert all(closed_within(peer, 5) for peer in silent)
