"""Names, times, codes, issuers and lengths: HL7 types to DICOM values (standards 4.6 and 5)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.message import parse
from broker.mapping.values.clean import OF_TEXT
from broker.mapping.values.evaluation import Evaluation, Unfit
from broker.mapping.values.fitting import fit_for
from broker.mapping.values.functions import TABLE
from broker.mapping.values.timestamps import date_of, time_of, to_zone

BERLIN = ZoneInfo("Europe/Berlin")


def made(function: str, field: str, *arguments: str) -> Any:
    message = parse(f"MSH|^~\\&|\rZZZ|{field}")
    segment = message.first("ZZZ")
    assert segment is not None
    return TABLE[function].call(Evaluation(), segment.repetitions(1), *arguments)


@pytest.mark.parametrize(
    ("xpn", "pn"),
    [
        ("ROE^ANN^K^Jr.^Dr.^PhD", "ROE^ANN^K^Dr.^Jr. PhD"),
        ("CARVER^ODELIA^JUNE^^MS.^", "CARVER^ODELIA^JUNE^MS."),
        ("Aue&von der&Aue^Jörg^K^^^Dr. med.^L~Weiß^^^^^^M", "Aue^Jörg^K^^Dr. med."),
        ("&von der&Aue^Jörg", "von der Aue^Jörg"),
        ("A^Alias^^^^^A~L^Legal^^^^^L", "L^Legal"),
        ("DOE, JANE", "DOE^JANE"),
        ('von der Aue-Voß^Jürgen^""^^^""^L', "von der Aue-Voß^Jürgen"),
        ("D\\T\\Angelò^Niccolò", "D&Angelò^Niccolò"),
        ("A\\S\\B=C\\E\\D^X", "A B C D^X"),
        ("A\\X0D\\B^X", "A B^X"),
        ("EOD\u202e\u200b^JA\u2066N\u200dE\ufeff", "EOD^JANE"),
        ("می\u200cخواهم^क्\u200dष", "می\u200cخواهم^क्\u200dष"),
        ("ROE, ANN\\E\\MARIE", "ROE^ANN MARIE"),
        ("^^^^", ""),
        ("五十嵐^厚^^^^^L^I~イガラシ^アツシ^^^^^L^P", "=五十嵐^厚=イガラシ^アツシ"),
        ("Igarashi^Atsushi^^^^^L^A~五十嵐^厚^^^^^L^I", "Igarashi^Atsushi=五十嵐^厚"),
    ],
)
def test_xpn_becomes_pn(xpn: str, pn: str) -> None:
    assert made("person", xpn) == pn


def test_a_long_name_loses_titles_before_anything_is_cut() -> None:
    name = made("person", f"{'F' * 30}^{'G' * 30}^{'M' * 20}^suffix^prefix")
    assert name == f"{'F' * 30}^{'G' * 30}"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=200))
def test_whatever_a_name_holds_it_fits_a_pn(text: str) -> None:
    for group in made("person", text).split("=") if text else ():
        assert len(group) <= 64
        assert group.count("^") <= 4
        assert "\\" not in group
        assert not any(unicodedata.category(each) == "Cc" for each in group)


def test_xcn_and_ndl_become_pn() -> None:
    assert made("clinician", "30112^Öztürk^Seyma^^^Dr.") == "Öztürk^Seyma^^Dr."
    assert made("clinician", "30112~7^HALVORSEN^PIPPA^^^^MD") == "HALVORSEN^PIPPA^^^MD"
    assert made("nested_clinician", "7&ROE&ANN&K&Jr.&Dr.&MD^20260101") == "ROE^ANN^K^Dr.^Jr. MD"


@pytest.mark.parametrize(
    "pn",
    ["Roe^Ann", "Roe^Ann^K^Dr.^Jr.", "Roe", "Größler^Änne^^Frau", "=慈^五月", "==イツクシ^サツキ"],
)
def test_pn_goes_out_as_the_xpn_it_came_from(pn: str) -> None:
    assert made("person", "^".join(TABLE["xpn"].call(Evaluation(), pn))) == pn


def test_a_name_without_an_alphabetic_group_goes_out_in_the_first_script_that_it_has() -> None:
    said = "^".join(TABLE["xpn"].call(Evaluation(), "=慈^五月=イツクシ^サツキ"))
    assert said == "慈^五月^^^^^L^I"
    assert TABLE["xcn"].call(Evaluation(), "=慈^五月") == ["", "慈", "五月", "", "", ""]


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("19570812", "19570812"),
        ("19570812000000+0100", "19570812"),
        ("195708121530", "19570812"),
        *((text, "") for text in ("1957", "195708", "00000000", "060Y", "12.08.1957", "")),
        *((text, "") for text in ("19571301", "19570230", "17001231", "1957-08-12")),
        ("20000229", "20000229"),
        ("21000229", ""),
    ],
)
def test_only_whole_and_possible_days_are_dates(text: str, day: str) -> None:
    assert date_of(text) == day


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("202603161100", "110000"),
        ("20260316110059.123", "110059"),
        ("2026031611", "110000"),
        ("20260316", ""),
        ("202603162400", ""),
        ("202603161160", ""),
        ("20260316 1100", ""),
    ],
)
def test_times_of_day_are_six_digits(text: str, clock: str) -> None:
    assert time_of(text) == clock


def test_zoned_stamps_become_the_sites_own_time() -> None:
    assert to_zone("20260317084500.123+0000", None, BERLIN) == "20260317094500"
    assert to_zone("20260701084500+0000", None, BERLIN) == "20260701104500"  # summer
    assert to_zone("20260317233000-0500", None, BERLIN) == "20260318053000"
    assert to_zone("202603170845", None, BERLIN) == "20260317084500"
    assert to_zone("202603170845", timezone(timedelta(hours=-5)), BERLIN) == "20260317144500"
    assert to_zone("20260317", timezone(timedelta(hours=-5)), BERLIN) == "20260317"
    assert to_zone("99991231235900-1200", None, BERLIN) == ""
    assert to_zone("soon", None, BERLIN) == ""
    for nowhere in ("+9900", "-1500", "+0160"):  # hours that nobody can tell
        assert to_zone(f"202603170845{nowhere}", None, BERLIN) == ""
        assert time_of(f"202603170845{nowhere}") == ""


def test_codes_need_a_code_and_a_scheme() -> None:
    item = {"CodeValue": "CT1", "CodingSchemeDesignator": "L", "CodeMeaning": "Head"}
    assert made("code", "CT1^Head^L") == [item]
    assert made("code", "CT1^Head", "99LOCAL") == [item | {"CodingSchemeDesignator": "99LOCAL"}]
    assert made("code", "CT1^Head") == []
    assert made("code", "^Head^L") == []
    assert made("code", "CT1^^L") == [item | {"CodeMeaning": "CT1"}]
    assert made("alternate_code", "X^Y^Z^CT1^Head^L") == [item]
    assert made("code", "1000000000003000200000000^X^JJ1017")[0]["LongCodeValue"]


def test_issuers_come_from_ei_and_cx_and_are_never_empty_items() -> None:
    whole = {
        "LocalNamespaceEntityID": "RIS",
        "UniversalEntityID": "1.2.3",
        "UniversalEntityIDType": "ISO",
    }
    assert made("issuer", "A1^RIS^1.2.3^ISO") == [whole]
    assert made("issuer", "A1^RIS^1.2.3") == [{"LocalNamespaceEntityID": "RIS"}]
    assert made("issuer", "A1") == []
    assert made("authority", "A1^^^RIS&1.2.3&ISO") == [whole]
    assert made("authority", 'A1^^^""') == []


@pytest.mark.parametrize(
    ("keyword", "vr", "text", "fitted"),
    [
        ("AccessionNumber", "SH", " A 1 ", "A 1"),
        ("RequestedProcedureDescription", "LO", "a\nb\\c" + "x" * 80, "a b/c" + "x" * 59),
        ("Modality", "CS", "ct", "CT"),
        ("ScheduledStationAETitle", "AE", " CT1 ", "CT1"),
        ("StudyInstanceUID", "UI", "1.2.3", "1.2.3"),
        ("PatientWeight", "DS", "81,5", "81.5"),
        ("RequestedProcedureComments", "LT", "a\r\nb\x00c", "a\r\nb c"),
        ("RequestedProcedureDescription", "LO", "a\u202eb\u200b", "ab"),
        ("PlacerOrderNumberImagingServiceRequest", "LO", "2026/4711-ä", "2026/4711-ä"),
    ],
)
def test_values_are_made_fit_for_their_vr(keyword: str, vr: str, text: str, fitted: str) -> None:
    assert fit_for(keyword, vr, None)(Evaluation(), text) == fitted


@pytest.mark.parametrize(
    ("keyword", "vr", "text"),
    [
        ("AccessionNumber", "SH", "A" * 17),
        ("PatientID", "LO", "1" * 65),
        ("Modality", "CS", "C-T"),
        ("ScheduledStationAETitle", "AE", "A" * 17),
        ("ScheduledStationAETitle", "AE", "STATIÖN"),
        ("StudyInstanceUID", "UI", "1.2.03"),
        ("StudyInstanceUID", "UI", "1.2."),
        ("StudyInstanceUID", "UI", "1." + "2" * 63),
        ("PatientWeight", "DS", "heavy"),
    ],
)
def test_what_names_something_is_never_cut(keyword: str, vr: str, text: str) -> None:
    with pytest.raises(Unfit):
        fit_for(keyword, vr, None)(Evaluation(), text)


@pytest.mark.parametrize(
    "number", ["V\\3", "V\x005", "B\r\n7", "12\u200b34", "12\u202e34", "A\x85"]
)
@pytest.mark.parametrize("too_long", [None, "surrogate"])
@pytest.mark.parametrize(
    ("keyword", "vr"),
    [
        ("PatientID", "LO"),
        ("IssuerOfPatientID", "LO"),
        ("AccessionNumber", "SH"),
        ("PlacerOrderNumberImagingServiceRequest", "LO"),
        ("RequestedProcedureID", "SH"),
        ("ScheduledProcedureStepID", "SH"),
        ("LocalNamespaceEntityID", "UT"),
    ],
)
def test_an_identifier_is_never_rewritten(
    keyword: str, vr: str, too_long: str | None, number: str
) -> None:
    with pytest.raises(Unfit, match="backslash, a control character") as refused:
        fit_for(keyword, vr, too_long)(Evaluation(), number)
    assert (refused.value.code, "never rewritten" in refused.value.remedy) == ("102", True)


def test_a_derived_number_is_stable_and_scoped_by_issuer() -> None:
    derived: Callable[..., str] = TABLE["derived"].call
    first = derived(Evaluation(issuer="NORTH"), "PRACTICE12-20260316-0000077", "G")
    assert first == derived(Evaluation(issuer="NORTH"), "PRACTICE12-20260316-0000077", "G")
    assert first != derived(Evaluation(issuer="SOUTH"), "PRACTICE12-20260316-0000077", "G")
    assert len(first) == 16


CLEAN_FIELDS = st.one_of(
    st.text(alphabet="^^^&,= AZaz09ÄäßЖ日.-'", min_size=1, max_size=90),
    st.sampled_from(
        [
            *("ROE^ANN^K^Jr.^Dr.^PhD", "&von der&Aue^Jörg", "DOE, JANE", "山田^太郎^^^^^L^I"),
            *("FERN LANE 4^^TWINCREEK^ME^04401", "FERN&4^^TWINCREEK", "^PRN^PH^^41^44^5550122"),
            *("5550139", " 5550139 ^x", "^^^^^^^^^^^41-5550122", f"{'X' * 60}^{'Y' * 9}^Z"),
        ]
    ),
)


@given(st.sampled_from(list(OF_TEXT)), CLEAN_FIELDS)
@settings(max_examples=500, deadline=None)
def test_a_clean_text_gives_what_its_repetition_gives(
    function: Callable[..., Any], text: str
) -> None:
    """Also the warnings: what is shortened is told."""
    segment = parse(f"MSH|^~\\&|\rZZZ|{text}").first("ZZZ")
    assert segment is not None
    whole, clean = Evaluation(), Evaluation()
    if not text.strip("^&~ "):
        return  # says nothing: no function is asked
    expected = function(whole, segment.repetitions(1))
    assert OF_TEXT[function](clean, text) == expected
    assert (clean.warnings, clean.rank) == (whole.warnings, whole.rank)
