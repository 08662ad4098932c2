"""The acceptance statements on worklist queries, each over the wire; a name begins with its number.

One door and one real Redis for all of them. Peers are pynetdicom's SCU, DCMTK's findscu, and raw
PDUs for what no library sends. Statements 38 and on are about MPPS and HL7.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association as Requestor
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation

from broker.dicom.encoding import encode
from broker.probe.scanner import rejection
from broker.worklist.attributes import ROWS, TYPE_1, Kept
from tests.dicom.requestor import WORKLIST
from tests.modality.site import (
    AET,
    DATE,
    EXPLICIT,
    IMPLICIT,
    STEPS,
    TIME,
    Site,
    asked,
    in_step,
    plan,
    private_redis,
    read_implicit,
    site_of,
)

pytestmark = pytest.mark.peer("redis-server")

CONFIG = r"""
timezone: Europe/Berlin
dicom:
  called_ae: own
  aliases: [OLD_MWL]
  aes:
    - {title: ABC, labels: [abc]}
    - {title: FEW, labels: [abc], max_answers: 2}
    - {title: CUT, labels: [abc], max_answers: 2, over_limit: cut}
    - {title: ONLY_FF00, pending: FF00}
    - {title: LATIN1, charset: ISO_IR 100}
    - {title: SPELT, charset: ISO_IR 100, beyond_charset: transliterate}
    - {title: PLAIN, charset: ISO_IR 6, beyond_charset: transliterate}
    - {title: JAPAN, charset: '\ISO 2022 IR 87'}
    - {title: KOREA, charset: '\ISO 2022 IR 149'}
    - {title: CYRILLIC, charset: ISO_IR 144}
    - {title: TELLS, state_timezone: true}
    - {title: FAR, addresses: [192.0.2.7]}
    - {title: ONCE, max_associations: 1}
"""
CODE = {"CodeValue": "CTH", "CodingSchemeDesignator": "L", "CodeMeaning": "Head"}
NAMES = {
    "MUELLER": "Müller^Jörg",
    "WANG": "Wang^XiaoDong=王^小東",
    "YAMADA": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "HONG": "Hong^Gildong=洪^吉洞=홍^길동",
    "LUKASZ": "Łukaszewicz^Żaneta",
    "IVANOV": "Люкceмбypг^Анна",
}
STATUSES = ["HELD", "STARTED", "COMPLETED", "CANCELLED", "DISCONTINUED", "ARRIVED", "READY"]


def fill(site: Site) -> None:
    """A, B and C of the statements (label abc), and one order for whatever else is asked."""
    one = {"patient_id": "123", "WorklistLabel": "abc", "IssuerOfPatientID": "HOSP"}
    plan(site.store, "A", **one)
    plan(site.store, "B", **one, **{AET: "MR1", DATE: "20260102", TIME: "050000", "Modality": "MR"})
    plan(site.store, "C", **one, **{DATE: "20260102", TIME: "120000"})
    plan(site.store, "TWOAET", **{AET: ["CT1", "CT2"]})
    plan(
        site.store, "TWOSPS", {DATE: "20260103"}, {DATE: "20260104"}, SpecialNeeds="wheelchair",
        RequestedProcedureCodeSequence=[CODE], ScheduledProtocolCodeSequence=[CODE],
    )  # fmt: skip
    plan(
        site.store,
        "CODED",
        RequestedProcedureDescription=None,
        RequestedProcedureCodeSequence=[CODE],
    )
    for accession, name in NAMES.items():
        plan(site.store, accession, PatientName=name)
    for status in STATUSES:
        plan(site.store, f"IS{status}", status=status)
    plan(site.store, "QUOTED", PatientName="QUOTED^EMPTY")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with private_redis() as redis, site_of(redis, CONFIG) as site:
        fill(site)
        yield site


def abc(site: Site, **keys: str) -> str:
    """Which of A, B and C an AE that sees them alone gets for these keys of the step."""
    reply = site.ask(in_step(**keys), "ABC")
    assert reply.status == 0x0000
    return "".join(reply.values("AccessionNumber"))


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [("20260101-20260102", "1800-0600", "AB"), ("20260101-20260102", "", "ABC")],
)
def test_01_two_ranges_are_one_period(site: Site, date: str, time: str, expected: str) -> None:
    assert abc(site, **{DATE: date, TIME: time}) == expected


@pytest.mark.parametrize(
    ("date", "time", "expected"), [("20260101", "1800-2000", "A"), ("20260102", "1800-0600", "")]
)
def test_02_a_time_range_of_one_day_stays_in_that_day(
    site: Site, date: str, time: str, expected: str
) -> None:
    assert abc(site, **{DATE: date, TIME: time}) == expected


@pytest.mark.parametrize(
    ("date", "expected"), [("20260102-", "BC"), ("-20260101", "A"), ("20260102", "BC")]
)
def test_03_dates_are_open_ended_or_single(site: Site, date: str, expected: str) -> None:
    assert abc(site, **{DATE: date}) == expected


def test_04_open_ranges_of_date_and_time_are_one_open_period(site: Site) -> None:
    assert abc(site, **{DATE: "20260101-", TIME: "2000-"}) == "BC"
    assert abc(site, **{DATE: "-20260102", TIME: "-0500"}) == "AB"


@pytest.mark.parametrize(("time", "expected"), [("1930", "A"), ("193000.000", "A"), ("19", "")])
def test_05_times_match_by_what_they_mean(site: Site, time: str, expected: str) -> None:
    """19 is 19:00:00, as docs/scanners.md has it."""
    assert abc(site, **{TIME: time}) == expected


@pytest.mark.parametrize(("key", "expected"), [("CT1", "AC"), ("ct1", ""), ("CT1 ", "AC")])
def test_06_a_station_matches_with_regard_to_case_and_without_padding(
    site: Site, key: str, expected: str
) -> None:
    assert abc(site, **{AET: key}) == expected


def test_07_any_of_several_stations_matches_and_all_come_back(site: Site) -> None:
    reply = site.ask({"AccessionNumber": "TWOAET", STEPS: [{AET: "CT2"}]})
    assert reply.values(AET) == [["CT1", "CT2"]]


@pytest.mark.parametrize(("key", "expected"), [("CT", "AC"), (["CT", "MR"], "ABC")])
def test_08_a_list_of_modalities_asks_for_any_of_them(site: Site, key: Any, expected: str) -> None:
    assert abc(site, Modality=key) == expected
    assert abc(site, Modality="MR") == "B"  # the association is as good as new


@pytest.mark.parametrize(
    ("key", "found"),
    [("doe*", 3), ("DOE^J?HN", 3), ("DOE^J?N", 0), ("*", 3), ("", 3), ("Doe^John^^", 3)],
)
def test_09_names_have_wild_cards_and_no_case(site: Site, key: str, found: int) -> None:
    assert len(site.ask({"PatientName": key}, "ABC").answers) == found


@pytest.mark.parametrize(
    ("patient_id", "issuer", "found"),
    [("123", "", 3), ("12", "", 0), ("123", "HOSP", 3), ("123", "X", 0)],
)
def test_10_a_patient_id_is_whole_and_its_issuer_restricts(
    site: Site, patient_id: str, issuer: str, found: int
) -> None:
    reply = site.ask({"PatientID": patient_id, "IssuerOfPatientID": issuer}, "ABC")
    assert (len(reply.answers), reply.status) == (found, 0x0000)


@pytest.mark.parametrize(("key", "found"), [("SMITH*", 0), ("", 3), ("*", 3)])
def test_11_an_empty_stored_value_answers_only_a_universal_key(
    site: Site, key: str, found: int
) -> None:
    reply = site.ask(in_step(ScheduledPerformingPhysicianName=key), "ABC")
    assert reply.values("ScheduledPerformingPhysicianName") == [""] * found


def test_12_the_keys_of_a_step_meet_in_one_step(site: Site) -> None:
    assert abc(site, **{AET: "CT1", "Modality": "MR"}) == ""


@pytest.mark.parametrize("sequence", [[{}], []])
def test_13_an_empty_step_item_or_sequence_asks_for_the_whole_step(
    site: Site, sequence: list[Any]
) -> None:
    reply = site.ask({"AccessionNumber": "", STEPS: sequence}, "ABC")
    assert len(reply.answers) == 3
    for item in reply.items:
        (step,) = item[STEPS]
        of_step = {k for k, row in ROWS.items() if row.kept is Kept.STEP and row.returned in "12"}
        assert set(step) >= of_step
        assert step[DATE]


def test_14_without_a_step_sequence_there_is_none_in_the_answer(site: Site) -> None:
    assert all(STEPS not in item for item in site.ask({"PatientID": "123"}, "ABC").items)


def test_15_no_attribute_comes_back_that_was_not_asked_for(site: Site) -> None:
    """But for (0008,0005) where text is not ASCII, and (0008,0201) of an AE that wants it."""
    keys = {"AccessionNumber": "MUELLER", "PatientName": "", STEPS: [{AET: ""}]}
    (item,) = site.ask(keys, "LATIN1").items
    assert set(item) == {*keys, "SpecificCharacterSet"}
    assert set(item[STEPS][0]) == {AET}
    (told,) = site.ask({**keys, "AccessionNumber": "A"}, "TELLS").items
    assert set(told) == {*keys, "TimezoneOffsetFromUTC"}
    assert told["TimezoneOffsetFromUTC"] == "+0100"


def test_16_two_steps_of_one_accession_are_two_answers(site: Site) -> None:
    reply = site.ask({"AccessionNumber": "TWOSPS", STEPS: [{"ScheduledProcedureStepID": ""}]})
    assert reply.statuses == (0xFF00, 0xFF00, 0x0000)
    assert reply.values("ScheduledProcedureStepID") == ["STWOSPS0", "STWOSPS1"]


def test_17_several_study_uids_ask_for_any_of_them(site: Site) -> None:
    both = ["A", "B"]
    uids = [site.ask(asked(one, StudyInstanceUID="")).values("StudyInstanceUID")[0] for one in both]
    reply = site.ask({"AccessionNumber": "", "StudyInstanceUID": [*uids, "1.9.9"]})
    assert reply.values("AccessionNumber") == both
    assert [answer.StudyInstanceUID for answer in reply.answers] == [UID(uid) for uid in uids]


def test_18_a_known_key_that_is_not_matched_comes_back_and_is_told(site: Site) -> None:
    reply = site.ask(asked("TWOSPS", SpecialNeeds="x"))
    assert reply.values("SpecialNeeds") == ["wheelchair", "wheelchair"]
    assert reply.statuses == (0xFF01, 0xFF01, 0x0000)


def test_19_an_unknown_key_is_not_returned_and_gives_ff01(site: Site) -> None:
    identifier = Dataset()
    identifier.AccessionNumber = "A"
    assert site.ask(identifier).statuses == (0xFF00, 0x0000)
    identifier.BitsAllocated = 8
    identifier.private_block(0x0009, "SCANNER", create=True).add_new(1, "LO", "secret")
    reply = site.ask(identifier)
    assert reply.statuses == (0xFF01, 0x0000)
    assert [element.keyword for element in reply.answers[0]] == ["AccessionNumber"]
    assert site.ask(identifier, "ONLY_FF00").statuses == (0xFF00, 0x0000)


def test_20_type_2_is_zero_length_and_type_1_never_is(site: Site) -> None:
    """Every attribute of Table K.6-1 is asked for at once."""
    top = {k: _universal(k) for k, row in ROWS.items() if row.kept is not Kept.STEP}
    step = {k: _universal(k) for k, row in ROWS.items() if row.kept is Kept.STEP}
    reply = site.ask({**top, STEPS: [step]}, "ABC")
    assert reply.statuses == (0xFF00, 0xFF00, 0xFF00, 0x0000)
    for item in reply.items:
        assert set(item) - {STEPS} == set(top)
        assert set(item[STEPS][0]) == set(step)
        for keyword in TYPE_1:
            assert item.get(keyword) or item[STEPS][0].get(keyword), keyword
        assert item["MedicalAlerts"] == item["AdmissionID"] == ""


def _universal(keyword: str) -> Any:
    return [] if keyword.endswith("Sequence") else ""


def test_21_without_a_description_the_code_speaks(site: Site) -> None:
    keys = {"RequestedProcedureDescription": "", STEPS: [{"ScheduledProcedureStepDescription": ""}]}
    (item,) = site.ask(asked("CODED", **keys)).items
    assert item["RequestedProcedureDescription"] == "Head"
    assert item[STEPS][0]["ScheduledProcedureStepDescription"] == "Head"


def test_22_step_and_procedure_code_sequences_have_one_item(site: Site) -> None:
    whole = asked("TWOSPS", RequestedProcedureCodeSequence=[], **{STEPS: []})
    part = asked("TWOSPS", RequestedProcedureCodeSequence=[{"CodeValue": ""}], **{STEPS: [{}]})
    for keys, code in ((whole, CODE), (part, {"CodeValue": "CTH"})):
        for item in site.ask(keys).items:
            assert item["RequestedProcedureCodeSequence"] == [code]
            assert len(item[STEPS]) == 1


def test_23_no_match_is_one_response_without_a_data_set(site: Site) -> None:
    (reply,) = site.raw(encode(asked("NOBODY"), IMPLICIT))
    assert (reply.statuses, reply.data_sets) == ((0x0000,), [])
    assert reply.final.CommandDataSetType == 0x0101


def test_24_a_cancel_ends_the_list_and_the_association_goes_on(site: Site) -> None:
    for number in range(600):
        plan(
            site.store,
            f"MANY{number}",
            WorklistLabel="many",
            CommentsOnTheScheduledProcedureStep="x" * 9000,
        )
    association = site.scanner("ABC2")
    identifier = Dataset()
    identifier.AccessionNumber = ""
    identifier.WorklistLabel = "many"
    identifier.ScheduledProcedureStepSequence = [Dataset()]
    identifier.ScheduledProcedureStepSequence[0].CommentsOnTheScheduledProcedureStep = ""
    statuses = []
    for response, _answer in association.send_c_find(identifier, WORKLIST, msg_id=7):
        statuses.append(int(response.Status))
        if len(statuses) == 3:
            association.send_c_cancel(7, query_model=WORKLIST)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 601
    assert site.ask(asked("A"), "ABC2").statuses == (0xFF00, 0x0000)


def test_25_a_list_that_is_too_long_is_refused_whole_or_cut_where_a_site_says_so(
    site: Site,
) -> None:
    refused = site.ask(in_step(), "FEW")
    assert refused.statuses == (0xA700,)
    assert refused.final.ErrorComment == "more than 2 answers, narrow the query"
    assert site.ask(in_step(Modality="CT"), "FEW").accessions == "A C"
    assert site.ask(in_step(), "CUT").accessions == "A B"
    overflows = {
        sample.labels["outcome"]: sample.value
        for metric in site.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "broker_modality_find_overflows_total"
    }
    assert overflows == {"refuse": 1, "cut": 1}


def test_25_without_a_store_the_answer_is_a700_with_a_comment(site: Site) -> None:
    with private_redis() as redis, site_of(redis, CONFIG) as other:
        assert other.ask(asked("A")).statuses == (0x0000,)
        redis.stop(grace_s=5)
        reply = other.ask(asked("A"))
        assert reply.statuses == (0xA700,)
        assert 0 < len(reply.final.ErrorComment) <= 64
        assert other.scanner().send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("identifier", "offending"),
    [
        (b"\x08\x00\x50\x00\xff\x00\x00\x00A", 0x00080050),  # runs past its end
        (b"\x40\x00\x00\x01\x08\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00", None),
        (b"\x08\x00", None),
    ],
)
def test_26_an_identifier_that_cannot_be_read_is_a900_and_not_an_abort(
    site: Site, identifier: bytes, offending: int | None
) -> None:
    wrong, right = site.raw(identifier, encode(asked("A"), IMPLICIT))
    assert wrong.statuses == (0xA900,)
    assert 0 < len(wrong.final.ErrorComment) <= 64
    assert wrong.final.get("OffendingElement") == offending or offending is None
    assert right.accessions == "A"


def test_27_text_that_is_not_ascii_is_labelled_as_the_site_wants_it(site: Site) -> None:
    """Not asked for any set: ISO_IR 100 where that holds it, else ISO_IR 192."""

    def labels(accession: str, calling: str) -> list[Any]:
        return site.ask(asked(accession, PatientName=""), calling).values("SpecificCharacterSet")

    assert labels("MUELLER", "NOBODY") == labels("MUELLER", "LATIN1") == ["ISO_IR 100"]
    assert labels("WANG", "NOBODY") == ["ISO_IR 192"]
    (zero_length,) = site.raw(
        b"\x08\x00\x05\x00\x00\x00\x00\x00" + encode(asked("A", PatientName=""), IMPLICIT)
    )
    assert zero_length.statuses == (0xFF00, 0x0000)


def test_28_a_name_in_latin_1_is_found(site: Site) -> None:
    label = b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100"
    name = "MÜLLER*".encode("latin-1") + b" "
    keys = (
        label
        + encode(asked(""), IMPLICIT)
        + b"\x10\x00\x10\x00"
        + bytes([len(name), 0, 0, 0])
        + name
    )
    (reply,) = site.raw(keys)
    assert reply.accessions == "MUELLER"
    assert b"M\xfcller" in reply.data_sets[0]


@pytest.mark.parametrize("key", ["王*", "=王*", "wang*=王*"])
def test_29_a_name_in_utf_8_is_found_by_its_second_group(site: Site, key: str) -> None:
    keys = {"SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": "", "PatientName": key}
    reply = site.ask(keys)
    assert reply.accessions == "WANG"
    assert reply.values("PatientName") == [NAMES["WANG"]]


@pytest.mark.parametrize(
    ("calling", "accession", "label", "name"),
    [
        ("LATIN1", "LUKASZ", "ISO_IR 192", "Łukaszewicz^Żaneta"),  # widened
        ("JAPAN", "IVANOV", ["", "ISO 2022 IR 87"], "Люкceмбypг^Анна"),  # JIS has Cyrillic letters
        ("SPELT", "LUKASZ", None, "Lukaszewicz^Zaneta"),
        ("SPELT", "MUELLER", "ISO_IR 100", "Müller^Jörg"),
        ("PLAIN", "MUELLER", None, "Muller^Jorg"),
        ("PLAIN", "WANG", None, "Wang^XiaoDong"),  # what cannot be spelt is left out
        ("PLAIN", "IVANOV", "ISO_IR 192", "Люкceмбypг^Анна"),  # or widened, never `?`
    ],
)
def test_30_what_a_set_does_not_hold_is_widened_or_spelt_and_never_lost(
    site: Site, calling: str, accession: str, label: Any, name: str
) -> None:
    (item,) = site.ask(asked(accession, PatientName=""), calling).items
    assert item.get("SpecificCharacterSet") == label
    assert item["PatientName"] == name


@pytest.mark.parametrize(
    ("calling", "accession", "label"),
    [
        ("JAPAN", "YAMADA", ["", "ISO 2022 IR 87"]),
        ("KOREA", "HONG", ["", "ISO 2022 IR 149"]),
        ("CYRILLIC", "IVANOV", "ISO_IR 144"),
        ("NOBODY", "YAMADA", "ISO_IR 192"),
        ("NOBODY", "A", None),
        ("JAPAN", "A", None),
    ],
)
def test_31_every_answer_decodes_under_its_own_label_and_ascii_has_none(
    site: Site, calling: str, accession: str, label: Any
) -> None:
    (item,) = site.ask(asked(accession, PatientName=""), calling).items
    assert item.get("SpecificCharacterSet") == label
    assert item["PatientName"] == NAMES.get(accession, "DOE^JOHN")


@pytest.mark.parametrize(
    ("terms", "key", "accession"),
    [
        ("\\ISO 2022 IR 87", "=山田*", "YAMADA"),
        ("\\ISO 2022 IR 149", "=洪*=홍*", "HONG"),
        ("GB18030", "=王^小*", "WANG"),
        ("ISO_IR 144", "Люкceмбypг*", "IVANOV"),
    ],
)
def test_31_a_query_is_read_in_its_own_set(
    site: Site, terms: str, key: str, accession: str
) -> None:
    """ISO 2022 with several values included; the answer is in the same set."""
    keys = {"SpecificCharacterSet": terms.split("\\"), "AccessionNumber": "", "PatientName": key}
    (item,) = site.ask(keys).items
    assert item["AccessionNumber"] == accession
    said = item["SpecificCharacterSet"]
    assert (said if isinstance(said, str) else "\\".join(said)) == terms
    assert item["PatientName"] == NAMES[accession]


@pytest.mark.parametrize(
    ("offered", "returned"),
    [
        (b"\1\1\1\1", b"\1\1\1\1"),
        (b"\1\1\1", b"\1\1\1"),
        (b"\1\1\0\1", b"\1\1\0\1"),
        (None, None),
    ],
)
def test_32_extended_negotiation_is_answered_byte_by_byte(
    site: Site, offered: bytes | None, returned: bytes | None
) -> None:
    association = site.scanner("EXT", extended=offered)
    assert association.acceptor.sop_class_extended.get(UID(WORKLIST)) == returned


def test_32_negotiated_names_are_fuzzy_and_others_are_not(site: Site) -> None:
    keys = {"AccessionNumber": "", "PatientName": "Jorge Mueler"}
    assert site.ask(keys, "EXT").accessions == ""
    assert site.ask(keys, "EXT", extended=b"\1\1\1\0").accessions == "MUELLER"


def test_32_negotiated_times_are_in_the_zone_of_the_query(site: Site) -> None:
    """19:30 in Berlin is 10:30 in Los Angeles."""
    keys = {
        "TimezoneOffsetFromUTC": "-0800",
        "AccessionNumber": "",
        "WorklistLabel": "abc",
        STEPS: [{DATE: "20260101", TIME: "1000-1100"}],
    }
    assert site.ask(keys, "EXT").answers == []
    (item,) = site.ask(keys, "EXT", extended=b"\1\1\0\1").items
    assert item["AccessionNumber"] == "A"
    assert item["TimezoneOffsetFromUTC"] == "-0800"
    assert item[STEPS][0] == {DATE: "20260101", TIME: "103000"}


def test_33_two_quotation_marks_are_a_literal(site: Site) -> None:
    """Nobody negotiated empty value matching."""
    assert site.ask({"AccessionNumber": "QUOTED", "ReferringPhysicianName": '""'}).answers == []


def test_34_a_query_retrieve_level_is_ignored(site: Site) -> None:
    reply = site.ask(asked("A", QueryRetrieveLevel="PATIENT"))
    assert reply.statuses == (0xFF00, 0x0000)
    assert reply.items == [{"AccessionNumber": "A"}]


def rejected(association: Requestor) -> tuple[int, int, int]:
    primitive = rejection(association)
    assert primitive is not None
    return (primitive.result, primitive.result_source, primitive.diagnostic)


def test_35_who_may_not_is_rejected_with_the_right_reason(site: Site) -> None:
    assert site.scanner("ABC", called="OLD_MWL").is_established
    assert site.scanner("ABC", called="old_mwl").is_established
    assert rejected(site.scanner("ABC", called="OTHER", kept=False)) == (1, 1, 7)
    assert rejected(site.scanner("FAR", kept=False)) == (1, 1, 3)
    first = site.scanner("ONCE")
    assert first.is_established
    assert rejected(site.scanner("ONCE", kept=False)) == (2, 3, 2)
    refusing = CONFIG.replace("called_ae: own", "unknown_ae: refuse")
    with site_of(site.redis, refusing) as strict:
        assert rejected(strict.scanner("NOBODY", kept=False)) == (1, 1, 3)
        assert strict.scanner("abc", called="ANYTHING").is_established


def test_35_asynchronous_operations_are_not_agreed_on(site: Site) -> None:
    from pynetdicom import AE

    ae = AE("ASYNC")
    ae.add_requested_context(WORKLIST)
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 9
    association = ae.associate("127.0.0.1", site.port, ae_title="BROKER", ext_neg=[window])
    assert association.is_established
    assert association.acceptor.asynchronous_operations == (1, 1)
    association.release()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_36_both_transfer_syntaxes_give_the_same(site: Site, syntax: str) -> None:
    keys = {"PatientName": "", **asked("TWOSPS", RequestedProcedureCodeSequence=[]), STEPS: [{}]}
    assert site.ask(keys, "SYN", syntax=syntax).items == site.ask(keys, "SYN").items
    assert site.scanner("SYN", syntax=syntax).send_c_echo().Status == 0x0000


@pytest.mark.peer("dcmtk")
def test_36_dcmtks_findscu_gets_the_same_too(
    site: Site, dcmtk_program: Callable[[str], Path], tmp_path: Path
) -> None:
    keys = [
        f"{STEPS}[0].{AET}=CT1",
        f"{STEPS}[0].{DATE}=20260101-20260102",
        "0008,0050",
        "0010,0010",
    ]
    words = ["-W", "-aet", "ABC", "-aec", "BROKER", "-X", "-od", str(tmp_path)]
    words += ["127.0.0.1", str(site.port), *(word for key in keys for word in ("-k", key))]
    run = subprocess.run(
        [str(dcmtk_program("findscu")), *words],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers = [read_implicit(path.read_bytes()) for path in sorted(tmp_path.glob("*.dcm"))]
    assert [str(answer.AccessionNumber) for answer in answers] == ["A", "C"]


def test_37_what_is_under_way_or_over_is_hidden_unless_asked_for(site: Site) -> None:
    listed = [s for s in STATUSES if site.ask(asked(f"IS{s}")).answers]
    assert listed == ["ARRIVED", "READY"]
    for status in STATUSES:
        key = {STEPS: [{"ScheduledProcedureStepStatus": status}]}
        assert site.ask(asked(f"IS{status}", **key)).accessions == f"IS{status}"
    both = {"ScheduledProcedureStepStatus": ["STARTED", "ARRIVED"]}
    assert sorted(site.ask(in_step(**both)).accessions.split()) == ["ISARRIVED", "ISSTARTED"]


@pytest.mark.parametrize(
    "keys",
    [
        {STEPS: [{}]},
        {STEPS: [{AET: "CT1", DATE: "20260101", "Modality": "CT"}]},
        {"PatientName": "DOE*", STEPS: [{DATE: "20260101-20260102"}]},
        {"PatientName": "*JOHN", STEPS: [{}]},
    ],
)
def test_37_steps_that_are_done_are_found_by_whatever_key(site: Site, keys: Any) -> None:
    """No index has them: all orders are looked through, those with an open step too."""
    for status in ("COMPLETED", "CANCELLED", "DISCONTINUED"):
        step = {**keys[STEPS][0], "ScheduledProcedureStepStatus": status}
        reply = site.ask({"AccessionNumber": "", **keys, STEPS: [step]})
        assert (reply.accessions, reply.status) == (f"IS{status}", 0x0000)


def test_37_the_peer_may_be_asked_again_and_again(site: Site) -> None:
    """One association, many queries: nothing of one is left in the next."""
    for _ in range(3):
        assert site.ask(asked("A", PatientName=""), "SYN").items == [
            {"AccessionNumber": "A", "PatientName": "DOE^JOHN"}
        ]
        assert site.ask(asked("MUELLER"), "SYN").items == [{"AccessionNumber": "MUELLER"}]
