"""Matching of PS3.4 K.2.2 and K.6: the fixture A, B, C of the acceptance statements 1 to 21, 33."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.worklist.attributes import ROWS, START_DATE, START_TIME, STEPS
from broker.worklist.query.criteria import fold, glob
from broker.worklist.query.matching import Query
from broker.worklist.query.narrowing import name_prefix, narrow, score, settles
from broker.worklist.query.zoned import Zoned
from broker.worklist.records import Facts, Order, Patient, Procedure, Step, items

DATE, TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
AET = "ScheduledStationAETitle"


def item(**changed: Any) -> dict[str, Any]:
    """A worklist item like A; a keyword of a step goes into the step, None takes it away."""
    step = {AET: "CT1", DATE: "20260101", TIME: "193000", "Modality": "CT"}
    step["ScheduledProcedureStepID"] = "S1"
    top: dict[str, Any] = {
        "PatientName": "DOE^JOHN",
        "PatientID": "123",
        "IssuerOfPatientID": "HOSP",
        "AccessionNumber": "A1",
        "StudyInstanceUID": "1.2.3",
        "RequestedProcedureID": "RP1",
    }
    for keyword, value in changed.items():
        (step if ROWS[keyword].kept == "step" else top)[keyword] = value
    held = {k: v for k, v in step.items() if v is not None}
    return {**{k: v for k, v in top.items() if v is not None}, STEPS: [held]}


A = item()
B = item(**{DATE: "20260102", TIME: "050000", "Modality": "MR", AET: "MR1"})
C = item(**{DATE: "20260102", TIME: "120000"})


def found(step: dict[str, Any] | None = None, **top: Any) -> str:
    """Which of A, B and C a query finds."""
    query = Query.of({**top, STEPS: [step]} if step is not None else top)
    return "".join(name for name, one in (("A", A), ("B", B), ("C", C)) if query.matches(one))


def matches(one: dict[str, Any], step: dict[str, Any] | None = None, **top: Any) -> bool:
    """Whether a query finds one item."""
    return Query.of({**top, STEPS: [step or {}]}).matches(one)


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20260101-20260102", "1800-0600", "AB"),  # 1: one period
        ("20260101", "1800-2000", "A"),  # 2
        ("20260102", "1800-0600", ""),  # 2: no range across midnight of a single date
        ("20260102-", "", "BC"),  # 3
        ("-20260101", "", "A"),
        ("20260102", "", "BC"),
        ("20260101-", "2000-", "BC"),  # 4
        ("", "1930", "A"),  # 5
        ("", "19", ""),  # 5: 19 means 19:00:00
        ("", "12", "C"),
        ("", "193000.000", "A"),
        ("-20260102", "-0500", "AB"),
        ("20260101-20260102", "1930", "A"),  # a range and a single value stand alone
        ("", "0400-0600", "B"),
        ("", "-0500", "B"),
        ("", "-04", ""),
        ("", "-05", "B"),  # the whole of that hour
        ("20260102-20260101", "", ""),  # reversed
        ("20260102-20260101", "0000-2359", ""),
        ("2026.01.02", "", "BC"),  # ACR-NEMA
        ("20260101-20260102", "", "ABC"),
        ("*", "*", "ABC"),
        ("-", "-", "ABC"),  # unusable is universal
        ("yesterday", "noon", "ABC"),
        ("20260230", "", "ABC"),  # no calendar has it, and nobody is scheduled then
        ("00000000", "2400", "ABC"),
        ("", "0560", "ABC"),
        ("20260101-20260231", "0500-2400", "ABC"),  # as an end it is a bound
        (["20260101", "20260102"], "", "ABC"),  # any of them
        (["20260101", "20260105-"], "", "A"),
        (["20260102", "20260105"], ["0500", "1930"], "B"),
        (["20260101", "today"], "", "ABC"),
        (["20260101", ""], "", "ABC"),
    ],
)
def test_start_is_matched_by_single_values_ranges_and_as_one_period(
    date: Any, time: Any, expected: str
) -> None:
    assert found({DATE: date, TIME: time}) == expected


def test_a_partial_upper_end_includes_the_rest_of_its_minute() -> None:
    late = item(**{TIME: "180030"})
    assert matches(late, {TIME: "-1800"})
    assert not matches(item(**{TIME: "180100"}), {TIME: "-1800"})


def test_a_stored_start_without_seconds_equals_one_with_them() -> None:
    assert matches(item(**{TIME: "1930"}), {TIME: "193000"})


def test_a_step_without_a_start_answers_no_query_for_one() -> None:
    undated = item(**{DATE: None, TIME: None})
    assert matches(undated, {DATE: "", TIME: ""})
    assert not matches(undated, {DATE: "20260101"})
    assert not matches(undated, {DATE: "-20260101"})


@pytest.mark.parametrize(("key", "expected"), [("CT1", "AC"), ("ct1", ""), ("CT1 ", "AC")])
def test_station_is_case_sensitive_and_its_padding_is_nothing(key: str, expected: str) -> None:
    """6."""
    assert found({AET: key}) == expected


def test_any_of_several_stations_matches_and_all_are_returned() -> None:
    """7."""
    both = item(**{AET: ["CT1", "CT2"]})
    query = Query.of({STEPS: [{AET: "CT2"}]})
    assert query.matches(both)
    assert query.answer(both) == {STEPS: [{AET: ["CT1", "CT2"]}]}
    assert not matches(both, {AET: "CT3"})


@pytest.mark.parametrize(
    ("key", "expected"),
    [("CT", "AC"), (["CT", "MR"], "ABC"), (["DX", "MR"], "B"), ("ct", ""), ([], "ABC")],
)
def test_a_list_of_modalities_asks_for_any_of_them(key: Any, expected: str) -> None:
    """8."""
    assert found({"Modality": key}) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("doe*", True),
        ("DOE^J?HN", True),
        ("DOE^J?N", False),
        ("*", True),
        ("", True),
        ("DOE^JOHN^^^", True),
        ("DOE^JOHN", True),
        ("DOE", False),
        ("*JOHN", True),
        ("D*^J*N", True),
        ("**", True),
        ('""', False),  # 33: nobody negotiated empty value matching
    ],
)
def test_names_match_by_wildcard_without_regard_to_case(key: str, expected: bool) -> None:
    """9, 33."""
    assert matches(A, PatientName=key) is expected


@pytest.mark.parametrize(
    ("stored", "key"),
    [
        ("Müller^Jörg", "muller*"),
        ("MULLER^JORG", "müller*"),
        ("Wang^XiaoDong=王^小東", "王*"),
        ("Wang^XiaoDong=王^小東", "=王*"),
        ("Wang^XiaoDong=王^小東", "wang*=王*"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍^길*"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍^?동"),
        ("Groß^A", "GROSS*"),
    ],
)
def test_names_match_in_any_group_and_without_accents(stored: str, key: str) -> None:
    assert matches(item(PatientName=stored), PatientName=key)


@pytest.mark.parametrize(
    ("stored", "key"),
    [
        ("Wang^XiaoDong=王^小東", "li*=王*"),
        ("Hong=洪=홍^길동", "?^길동?"),
        ("か^た", "が*"),  # another letter, not an accent
    ],
)
def test_names_do_not_match_by_chance(stored: str, key: str) -> None:
    assert not matches(item(PatientName=stored), PatientName=key)


def test_patient_id_is_matched_whole_and_the_issuer_restricts() -> None:
    """10."""
    assert found(PatientID="123") == "ABC"
    assert found(PatientID="12") == ""
    assert found(PatientID="123", IssuerOfPatientID="HOSP") == "ABC"
    assert found(PatientID="123", IssuerOfPatientID="OTHER") == ""


def test_an_empty_stored_value_answers_only_a_universal_key() -> None:
    """11."""
    physician = "ScheduledPerformingPhysicianName"
    assert not matches(A, {physician: "SMITH*"})
    for universal in ("", "*"):
        query = Query.of({STEPS: [{physician: universal}]})
        assert query.matches(A)
        assert query.answer(A) == {STEPS: [{physician: ""}]}


def test_the_keys_of_a_step_must_meet_in_one_step() -> None:
    """12."""
    assert found({AET: "CT1", "Modality": "MR"}) == ""


@pytest.mark.parametrize("asked", [[{}], []])
def test_an_empty_step_item_asks_for_the_whole_step(asked: list[Any]) -> None:
    """13."""
    query = Query.of({STEPS: asked})
    assert query.matches(A)
    (step,) = query.answer(A)[STEPS]
    assert step[AET] == "CT1"
    assert step["ScheduledProcedureStepID"] == "S1"
    assert step["ScheduledPerformingPhysicianName"] == ""


def test_without_a_step_sequence_in_the_request_there_is_none_in_the_answer() -> None:
    """14, 15."""
    assert Query.of({"PatientName": ""}).answer(A) == {"PatientName": "DOE^JOHN"}


def test_of_two_step_items_the_first_counts() -> None:
    assert found({AET: "MR1"}) == "B"
    query = Query.of({STEPS: [{AET: "MR1"}, {AET: "CT1"}]})
    assert [query.matches(one) for one in (A, B, C)] == [False, True, False]


def test_several_study_uids_ask_for_any_of_them() -> None:
    """17."""
    assert found(StudyInstanceUID=["1.2.3", "1.2.4"]) == "ABC"
    assert found(StudyInstanceUID=["1.2.5", "1.2.4"]) == ""
    assert found(StudyInstanceUID="1.2.*") == ""


def test_a_known_key_that_is_not_matched_is_returned() -> None:
    """18."""
    query = Query.of({"SpecialNeeds": "x"})
    assert query.matches(A)
    assert not query.supported()  # FF01: who asks for a value must hear that nobody looked
    assert Query.of({"SpecialNeeds": ""}).supported()
    assert query.answer(item(SpecialNeeds="wheelchair")) == {"SpecialNeeds": "wheelchair"}


def test_an_unknown_key_is_not_returned_and_makes_the_query_unsupported() -> None:
    """19."""
    query = Query.of({"PatientName": "", "BitsAllocated": ""})
    assert query.matches(A)
    assert not query.supported()
    assert query.answer(A) == {"PatientName": "DOE^JOHN"}
    assert Query.of({"PatientName": "", STEPS: [{AET: ""}]}).supported()


def test_the_query_retrieve_level_is_ignored() -> None:
    """34."""
    query = Query.of({"QueryRetrieveLevel": "PATIENT", "PatientID": "123"})
    assert query.matches(A)
    assert query.supported()
    assert query.answer(A) == {"PatientID": "123"}
    assert Query.of({"TimezoneOffsetFromUTC": "+0100"}).supported()


def test_a_key_at_the_wrong_level_is_no_key_of_ours() -> None:
    """Some scanners send Modality beside the step sequence; it must not empty their list."""
    query = Query.of({"Modality": "MR", DATE: "19990101", STEPS: [{AET: "CT1", "PatientID": "9"}]})
    assert query.matches(A)
    assert not query.supported()
    assert query.answer(A) == {STEPS: [{AET: "CT1"}]}


def test_a_sequence_comes_back_with_only_the_attributes_asked_for() -> None:
    code = {"CodeValue": "X1", "CodingSchemeDesignator": "L", "CodeMeaning": "Head"}
    held = item(RequestedProcedureCodeSequence=[code])
    narrowed = Query.of({"RequestedProcedureCodeSequence": [{"CodeValue": ""}]}).answer(held)
    assert narrowed == {"RequestedProcedureCodeSequence": [{"CodeValue": "X1"}]}
    for whole in ([], [{}], ""):
        answer = Query.of({"RequestedProcedureCodeSequence": whole}).answer(held)
        assert answer == {"RequestedProcedureCodeSequence": [code]}


def test_type_2_keys_without_a_value_come_back_empty() -> None:
    """20."""
    keywords = [k for k, row in ROWS.items() if row.returned == "2" and row.kept != "step"]
    assert set(Query.of(dict.fromkeys(keywords, "")).answer(A)) == set(keywords)


def joined(**said: Any) -> dict[str, Any]:
    """One item whose procedure and step say only this."""
    kept: dict[str, dict[str, Any]] = {"procedure": {}, "step": {}}
    for keyword, value in said.items():
        kept[ROWS[keyword].kept][keyword] = value
    step = Step(id="S1", facts=Facts(attributes=kept["step"]))
    procedure = Procedure(id="RP1", facts=Facts(attributes=kept["procedure"]), steps=(step,))
    order = Order(issuer="H", accession="A1", patient="H|1", source="H", procedures=(procedure,))
    (one,) = items(order, Patient(issuer="H", patient_id="1"))
    return one.attributes


@pytest.mark.parametrize(
    ("said", "procedure", "step"),
    [
        ({"RequestedProcedureDescription": "CT head"}, "CT head", "CT head"),
        ({"ScheduledProcedureStepDescription": "Head"}, "Head", "Head"),
        ({"RequestedProcedureCodeSequence": [{"CodeMeaning": "Skull"}]}, "Skull", "Skull"),
        ({"RequestedProcedureCodeSequence": [{"CodeValue": "SK"}]}, "SK", "SK"),
        ({"ScheduledProtocolCodeSequence": [{"CodeMeaning": "Native"}]}, "Native", "Native"),
        (
            {
                "RequestedProcedureDescription": "CT head",
                "ScheduledProcedureStepDescription": "Native",
            },
            "CT head",
            "Native",
        ),
    ],
)
def test_descriptions_stand_in_for_each_other(
    said: dict[str, Any], procedure: str, step: str
) -> None:
    """21."""
    one = joined(**said)
    assert one["RequestedProcedureDescription"] == procedure
    assert one[STEPS][0]["ScheduledProcedureStepDescription"] == step


# --- every matching type


CODES = [
    {"CodeValue": "CT1", "CodingSchemeDesignator": "L", "CodeMeaning": "Head"},
    {"CodeValue": "CT2", "CodingSchemeDesignator": "X"},
]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"CodeValue": "CT1"}, True),
        ({"CodeValue": "CT*", "CodingSchemeDesignator": "X"}, True),
        ({"CodeValue": "CT1", "CodingSchemeDesignator": "X"}, False),  # of two different items
        ({"CodeValue": "", "CodeMeaning": ""}, True),
        ({"CodeMeaning": "*"}, True),
        ({}, True),
    ],
)
def test_a_sequence_matches_when_one_item_has_all_of_the_key_item(
    key: dict[str, str], expected: bool
) -> None:
    assert (
        matches(item(ScheduledProtocolCodeSequence=CODES), {"ScheduledProtocolCodeSequence": [key]})
        is expected
    )
    none = item()
    universal = all(value in ("", "*") for value in key.values())
    assert matches(none, {"ScheduledProtocolCodeSequence": [key]}) is universal


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("19700101", True),
        ("1970.01.01", True),
        ("19691231-19700101", True),
        ("-19691231", False),
        ("19700102-", False),
        ("January", True),  # unreadable is universal
        ("", True),
    ],
)
def test_any_date_is_matched_by_value_and_by_range(key: str, expected: bool) -> None:
    assert matches(item(PatientBirthDate="19700101"), PatientBirthDate=key) is expected
    assert matches(item(PatientBirthDate=""), PatientBirthDate=key) is (key in ("", "January"))


@pytest.mark.parametrize(
    ("keyword", "key"),
    [
        ("ScheduledStationName", "Scanner ?"),
        ("ScheduledProcedureStepLocation", "*room"),
        ("ReferringPhysicianName", "who^*"),
        ("RequestedProcedureDescription", "CT *"),
        ("PatientSex", "F"),
        ("AdmissionID", "V1"),
        ("PlacerOrderNumberImagingServiceRequest", "PL*"),
    ],
)
def test_optional_keys_restrict_too(keyword: str, key: str) -> None:
    stored = {
        "ScheduledStationName": "Scanner 7",
        "ScheduledProcedureStepLocation": "east room",
        "ReferringPhysicianName": "Who^Jo",
        "RequestedProcedureDescription": "CT head",
        "PatientSex": "F",
        "AdmissionID": "V1",
        "PlacerOrderNumberImagingServiceRequest": "PL1",
    }
    in_step = ROWS[keyword].kept == "step"
    query = Query.of({STEPS: [{keyword: key}]} if in_step else {keyword: key})
    assert query.matches(item(**{keyword: stored[keyword]}))
    assert not query.matches(item(**{keyword: "other"}))
    assert not query.matches(item())
    assert query.supported()


def test_two_stars_by_group_want_a_name_at_least() -> None:
    """`*=*` is not universal (PS3.4 C.2.2.2.4)."""
    assert matches(A, PatientName="*=*")
    assert not matches(item(PatientName=""), PatientName="*=*")


# --- what has to be negotiated


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("Mayer", True),
        ("maier^hanz", True),
        ("Hans Meyer", True),
        ("MEYER, HANS", True),
        ("Hans", True),
        ("H* Mayer", True),
        ("Mayer^Fritz", False),
        ("Miller", False),
        ("王", True),
        ("李", False),
    ],
)
def test_fuzzy_matching_finds_names_that_sound_alike(key: str, expected: bool) -> None:
    one = item(PatientName="Meyer^Hans=王^小東")
    query = Query.of({"PatientName": key}, fuzzy=True)
    assert query.matches(one) is expected
    assert narrow(query).kind == "start"
    assert not query.matches(item(PatientName=""))


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("offset", "date", "time", "expected"),
    [
        ("+0000", "20260101", "1800-1900", "A"),  # 19:30 in Berlin is 18:30
        ("+0000", "20260101", "1930", ""),
        ("-0800", "20260101", "2000", "B"),  # 05:00 of the next day in Berlin
        ("-0800", "20260101-20260102", "2000-0300", "BC"),
        ("+1300", "20260102", "", "AB"),
        ("nonsense", "20260101", "1930", "A"),
        ("", "20260101", "1930", "A"),
    ],
)
def test_dates_and_times_are_in_the_zone_of_the_query_once_negotiated(
    offset: str, date: str, time: str, expected: str
) -> None:
    keys = {"TimezoneOffsetFromUTC": offset, STEPS: [{DATE: date, TIME: time}]}
    query = Query.of(keys, zone=BERLIN)
    assert "".join(n for n, one in (("A", A), ("B", B), ("C", C)) if query.matches(one)) == expected
    bounds = narrow(query)
    for name, one in (("A", A), ("B", B), ("C", C)):
        step = one[STEPS][0]
        if name in expected:
            assert bounds.low <= score(step[DATE], step[TIME]) <= bounds.high


def test_answers_are_in_the_zone_of_the_query_and_say_so() -> None:
    keys = {"TimezoneOffsetFromUTC": "-0800", STEPS: [{DATE: "", TIME: ""}], "PatientBirthDate": ""}
    born = {"PatientBirthDate": "19700101", "PatientBirthTime": "0100"}
    one = item(**{DATE: "20260102", TIME: "0500", **born})
    assert Query.of(keys, zone=BERLIN).answer(one) == {
        "TimezoneOffsetFromUTC": "-0800",
        "PatientBirthDate": "19700101",
        STEPS: [{DATE: "20260101", TIME: "2000"}],
    }
    assert Query.of(keys).answer(one)[STEPS] == [{DATE: "20260102", TIME: "0500"}]
    assert "TimezoneOffsetFromUTC" not in Query.of(keys).answer(one)


def test_the_offset_of_the_site_is_that_of_the_day() -> None:
    told = Query(top={}, step=None, zone=Zoned(BERLIN))
    assert told.answer(A) == {"TimezoneOffsetFromUTC": "+0100"}
    assert told.answer(item(**{DATE: "20260701"})) == {"TimezoneOffsetFromUTC": "+0200"}
    assert told.matches(A)


# --- the index that leads to the candidates


@pytest.mark.parametrize(
    ("keys", "kind", "value"),
    [
        ({"AccessionNumber": "A1", "PatientID": "1"}, "accession", "A1"),
        ({"AccessionNumber": "A*", "PatientID": "1"}, "patient_id", "1"),
        ({"StudyInstanceUID": ["1.2", "1.3"], "PatientID": "1"}, "patient_id", "1"),
        ({"StudyInstanceUID": "1.2"}, "study", "1.2"),
        ({STEPS: [{AET: "CT1", "Modality": "CT"}]}, "station", "CT1"),
        ({STEPS: [{AET: "CT?", "Modality": "CT"}]}, "modality", "CT"),
        ({"PatientName": "Müll*", STEPS: [{"Modality": "CT"}]}, "name", "mull"),
        ({"PatientName": "*", STEPS: [{}]}, "start", ""),
        ({"PatientName": "王^小*"}, "name", "王"),
        ({"PatientName": "Doe=王*"}, "start", ""),
        ({}, "start", ""),
    ],
)
def test_the_narrowest_index_is_chosen(keys: dict[str, Any], kind: str, value: str) -> None:
    chosen = narrow(Query.of(keys))
    assert (chosen.kind, chosen.value) == (kind, value)


dates = st.sampled_from(["20251231", "20260101", "20260102", "20260103"])
times = st.sampled_from(["0000", "0500", "050030", "120000", "193000.5", "2359"])
single_dates = st.one_of(
    dates, st.just(""), st.builds("{}-{}".format, st.one_of(st.just(""), dates), dates)
)
single_times = st.one_of(
    times, st.just(""), st.builds("{}-{}".format, times, st.one_of(st.just(""), times))
)
date_keys = st.one_of(single_dates, st.lists(single_dates, max_size=3))
time_keys = st.one_of(single_times, st.lists(single_times, max_size=3))


@given(date_keys, time_keys, dates, times)
def test_what_matches_a_start_lies_within_the_bounds_read_from_the_index(
    date_key: Any, time_key: Any, date: str, time: str
) -> None:
    query = Query.of({STEPS: [{DATE: date_key, TIME: time_key}]})
    bounds = narrow(query)
    if query.matches(item(**{DATE: date, TIME: time})):
        assert bounds.low <= score(date, time) <= bounds.high


names = st.text(alphabet="aÄß^ É*?=王が홍ﬁ", max_size=8)


@given(names, names)
def test_a_name_that_matches_begins_with_the_prefix_read_from_the_index(
    key: str, stored: str
) -> None:
    prefix = name_prefix(key)
    if prefix and matches(item(PatientName=stored), PatientName=key):
        groups = [fold(group.strip()) for group in stored.split("=")]
        assert any(group.startswith(prefix) for group in groups)


@given(st.text(alphabet="ab*?", max_size=7), st.text(alphabet="ab", max_size=7))
def test_wildcards_agree_with_the_same_pattern_read_as_a_regular_expression(
    pattern: str, text: str
) -> None:
    import re

    expression = "".join({"*": ".*", "?": "."}.get(c, c) for c in pattern)
    assert glob(pattern, text) == (re.fullmatch(expression, text) is not None)


def test_a_pattern_of_many_stars_ends_at_once() -> None:
    assert not glob("*a" * 150 + "b", "a" * 3000)


def test_a_date_that_nobody_can_read_matches_all_and_is_named() -> None:
    """Too long a list is seen by the operator, an empty one is not; the log says which key."""
    query = Query.of({STEPS: [{START_DATE: "TODAY", START_TIME: "0800-1200"}]})
    assert query.passed_over() == [START_DATE]
    assert Query.of({STEPS: [{START_DATE: "", START_TIME: "*"}]}).passed_over() == []
    impossible = {"PatientBirthDate": "19611332", STEPS: [{START_TIME: ["0800", "2560"]}]}
    assert Query.of(impossible).passed_over() == ["PatientBirthDate", START_TIME]


def test_a_range_that_ends_before_it_begins_is_named_and_a_night_is_none() -> None:
    """It matches nothing, and the log says of which key."""
    days, hours = "20260302-20260301", "1800-0600"
    assert Query.of({STEPS: [{START_DATE: days}]}).backwards() == [START_DATE]
    assert Query.of({STEPS: [{START_TIME: hours}]}).backwards() == [START_TIME]
    night = {STEPS: [{START_DATE: "20260301-20260302", START_TIME: hours}]}
    assert Query.of(night).backwards() == []
    assert Query.of({STEPS: [{START_DATE: [days, "20260301"]}]}).backwards() == []


def test_a_list_of_dates_is_read_from_the_index_from_the_first_to_the_last() -> None:
    query = Query.of({STEPS: [{AET: "CT1", DATE: ["20260105", "20260101"]}]})
    bounds = narrow(query)
    assert (bounds.low, bounds.high) == (20260101000000, 20260105235959)
    assert not settles(query, bounds), "the days between are not asked for"
    one = Query.of({STEPS: [{AET: "CT1", DATE: ["20260105"]}]})
    assert settles(one, narrow(one))
