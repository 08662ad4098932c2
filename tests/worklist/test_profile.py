"""What one AE sees, what it is taken to ask, and the form of its answers."""

from __future__ import annotations

from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from broker.worklist.attributes import ROWS, STEPS
from broker.worklist.directory import Directory, Entry, Unrecognised
from broker.worklist.profile import STATION, STATUS, Hidden, Profile, Rule
from broker.worklist.query.matching import Query
from broker.worklist.rules import HIDDEN, Rules

TODAY = date(2026, 3, 16)
LOCATION = "ScheduledProcedureStepLocation"


def item(**changed: Any) -> dict[str, Any]:
    """A step of today for CT1; a keyword of a step goes into the step."""
    step = {STATION: "CT1", "Modality": "CT", STATUS: "SCHEDULED", LOCATION: "Room 1"}
    step["ScheduledProcedureStepStartDate"] = "20260316"
    top = {"PatientName": "Doe^John^^^=東^一", "WorklistLabel": ["day", "ward"]}
    for keyword, value in changed.items():
        (step if ROWS[keyword].kept == "step" else top)[keyword] = value
    return {**top, STEPS: [step]}


def hidden(one: dict[str, Any] | None = None, **rules: Any) -> Hidden | None:
    """By which rule an AE called CT1 with these rules does not see a step."""
    return Profile("CT1", Rules(**rules), frozenset({"CT1"})).hidden(one or item(), TODAY)


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ({}, None),
        ({"own_station": True}, None),
        ({"stations": ["ct?"]}, None),
        ({"stations": ["MR*", "XA1"]}, Rule.STATION),
        ({"modalities": ["CT", "MR"]}, None),
        ({"modalities": ["MR"]}, Rule.MODALITY),
        ({"locations": ["room *"]}, None),
        ({"locations": ["Room 2"]}, Rule.LOCATION),
        ({"labels": ["ward"]}, None),
        ({"labels": ["night"]}, Rule.LABEL),
        ({"past_days": 0, "ahead_days": 0}, None),
        ({"hide": ["SCHEDULED"]}, Rule.STATUS),
    ],
)
def test_a_step_is_seen_unless_a_rule_hides_it(rules: dict[str, Any], rule: Rule | None) -> None:
    found = hidden(**rules)
    assert (found and found.rule) == rule


def test_every_filter_must_let_a_step_through() -> None:
    found = hidden(stations=["CT1"], modalities=["CT"], locations=["Ward"])
    assert found == Hidden(Rule.LOCATION, ("Room 1",), ("Ward",))


def test_a_step_without_a_location_is_in_no_room() -> None:
    assert hidden(item(**{LOCATION: ""}), locations=["*"]) == Hidden(Rule.LOCATION, (), ("*",))


def test_any_of_several_stations_will_do() -> None:
    assert hidden(item(**{STATION: ["MR1", "CT1"]}), own_station=True) is None
    other = hidden(item(**{STATION: ["MR1", "MR2"]}), own_station=True)
    assert other == Hidden(Rule.OWN_STATION, ("MR1", "MR2"), ("CT1",))


@pytest.mark.parametrize("status", HIDDEN)
def test_steps_that_are_under_way_or_over_are_hidden_unless_they_are_asked_for(
    status: str,
) -> None:
    one = item(**{STATUS: status})
    assert hidden(one) == Hidden(Rule.STATUS, (status,), HIDDEN)
    asks = Query.of({STEPS: [{STATUS: ["COMPLETED", "STARTED"]}]}).asks_for_status()
    assert Profile().hidden(one, TODAY, any_status=asks) is None
    assert hidden(one, hide=[]) is None


@pytest.mark.parametrize("key", ["", "*", [], ["", "STARTED"], None])
def test_a_status_key_that_matches_all_asks_for_none(key: Any) -> None:
    assert not Query.of({STEPS: [{STATUS: key}]}).asks_for_status()
    assert not Query.of({}).asks_for_status()


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("20260314", Hidden(Rule.PAST, ("20260314",), ("20260315",))),
        ("20260315", None),
        ("20260319", None),
        ("20260320", Hidden(Rule.AHEAD, ("20260320",), ("20260319",))),
        ("", None),
    ],
)
def test_the_window_moves_with_the_day_and_includes_its_ends(
    start: str, expected: Hidden | None
) -> None:
    one = item(ScheduledProcedureStepStartDate=start)
    assert hidden(one, past_days=1, ahead_days=3) == expected
    assert hidden(one) is None


def test_a_window_of_ages_has_no_end() -> None:
    assert hidden(past_days=10**7, ahead_days=10**7) is None


def test_why_a_step_is_hidden_is_told_in_words_without_the_patient() -> None:
    why = str(hidden(item(ScheduledProcedureStepStartDate="20260101"), past_days=1))
    assert why == "it starts on 20260101, and this AE sees nothing before 20260315"
    assert "Doe" not in repr(hidden(modalities=["MR"]))


# --- the directory


CT1 = Entry("CT1", Rules(), aliases=("OLDCT",), group="ct")
CT2 = Entry("CT2", Rules(own_station=True), group="ct")
MR1 = Entry("MR1", Rules(), addresses=(ip_network("10.1.0.0/16"),))
US_A = Entry("US", Rules(labels=("a",)), addresses=(ip_network("10.2.0.1"),))
US_B = Entry("US", Rules(labels=("b",)), addresses=(ip_network("10.2.0.2"),))
DIRECTORY = Directory((CT1, CT2, MR1, US_A, US_B))


def test_an_ae_is_known_by_its_title_and_aliases_in_any_case() -> None:
    first = DIRECTORY.profile("CT1", "10.9.9.9")
    assert first.title == "CT1"
    assert DIRECTORY.profile("OLDCT") is first
    assert DIRECTORY.profile("oldct") is first
    strict = Directory((CT1,), any_case=False)
    assert strict.recognise("ct1") is Unrecognised.UNKNOWN


def test_strangers_share_one_profile_with_the_general_rules() -> None:
    directory = Directory((CT1,), Rules(modalities=("CT",)))
    assert directory.profile("XA7") is directory.stranger
    assert directory.stranger.rules.modalities == ("CT",)


def test_a_title_of_another_address_is_not_that_ae() -> None:
    assert DIRECTORY.profile("MR1", "10.1.7.7").title == "MR1"
    assert DIRECTORY.profile("MR1", "::ffff:10.1.7.7").title == "MR1"
    assert DIRECTORY.recognise("MR1", "10.2.0.1") is Unrecognised.ELSEWHERE
    assert DIRECTORY.recognise("MR1", "?") is Unrecognised.ELSEWHERE


def test_devices_that_share_a_title_are_told_apart_by_address() -> None:
    assert DIRECTORY.profile("US", "10.2.0.1").rules.labels == ("a",)
    assert DIRECTORY.profile("US", "10.2.0.2").rules.labels == ("b",)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("CT1", ["CT1", "CT2", "OLDCT"]),
        ("oldct ", ["CT1", "CT2", "OLDCT"]),
        ("CT2", "CT2"),
        ("*", "*"),
        (["CT1", "MR1"], ["CT1", "MR1"]),
    ],
)
def test_who_asks_for_its_own_station_asks_for_its_group(asked: Any, meant: Any) -> None:
    query = Query.of({STEPS: [{STATION: asked, "Modality": "CT"}]})
    assert DIRECTORY.profile("CT1").asked(query).step == {STATION: meant, "Modality": "CT"}


def test_the_own_station_of_a_group_is_any_of_it() -> None:
    second = DIRECTORY.profile("CT2")
    assert second.hidden(item(**{STATION: "OLDCT"}), TODAY) is None
    assert second.hidden(item(**{STATION: "CT3"}), TODAY)


def test_rules_of_one_ae_stand_above_the_general_ones() -> None:
    general = Rules(modalities=("CT",), max_answers=7)
    own = Rules(modalities=()).under(general)
    assert (own.modalities, own.max_answers) == ((), 7)
    assert Rules().under(general) is general


# --- the form of the answers


def formed(answer: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return Profile(rules=Rules(**rules)).formed(answer)


def test_nothing_is_changed_unless_a_rule_says_so() -> None:
    one = item()
    assert Profile().formed(one) is one


@pytest.mark.parametrize(
    ("stored", "rules", "name"),
    [
        ("Doe^John^^^=東^一", {"name_groups": "alphabetic"}, "Doe^John"),
        ("=東^一", {"name_groups": "alphabetic"}, "=東^一"),
        ("Doe^Straße", {"name_case": "upper"}, "DOE^STRASSE"),
        ("Doe^John^Q^Dr^Jr", {"name_components": 2}, "Doe^John"),
        ("Doe^John^Q=東^一^二", {"name_components": 2}, "Doe^John=東^一"),
        ("Featherstonehaugh^Anne", {"lengths": {"PatientName": 18}}, "Featherstonehaugh"),
        ("Featherstone^Anne", {"lengths": {"PatientName": 17}}, "Featherstone^Anne"),
    ],
)
def test_names_come_in_the_form_that_a_scanner_shows(
    stored: str, rules: dict[str, Any], name: str
) -> None:
    assert formed({"PatientName": stored}, **rules) == {"PatientName": name}


def test_texts_are_shortened_and_attributes_left_out_at_every_level() -> None:
    answer = item(MedicalAlerts=["penicillin", "latex"], Allergies="nuts")
    lengths = {"MedicalAlerts": 5, LOCATION: 4}
    short = formed(answer, omit=["Allergies", "WorklistLabel"], lengths=lengths)
    assert short["MedicalAlerts"] == ["penic", "latex"]
    assert short[STEPS][0][LOCATION] == "Room"
    assert not {"Allergies", "WorklistLabel"} & set(short)


def test_constants_replace_what_is_asked_for_and_add_nothing() -> None:
    constants = {STATION: "CT9", "InstitutionName": "North"}
    answer = formed(item(), constants=constants)
    assert answer[STEPS][0][STATION] == "CT9"
    assert "InstitutionName" not in answer


def test_what_an_ae_gets_unasked_is_asked_for_it() -> None:
    profile = Profile(rules=Rules(extra=("StudyInstanceUID", STATION)))
    asked = profile.asked(Query.of({"PatientName": "", STEPS: [{"Modality": "CT"}]}))
    assert asked.answer(item(StudyInstanceUID="1.2"))["StudyInstanceUID"] == "1.2"
    assert asked.answer(item())[STEPS] == [{STATION: "CT1", "Modality": "CT"}]
    without_step = profile.asked(Query.of({"PatientName": "DOE*"}))
    assert without_step.step is None


@pytest.mark.parametrize(
    "rules",
    [
        {"omit": ["PatientID"]},
        {"extra": ["PixelData"]},
        {"lengths": {"AccessionNumber": 8}},
        {"lengths": {"PatientName": 0}},
        {"constants": {"PatientName": "X"}},
        {"constants": {"RequestedProcedureCodeSequence": "X"}},
        {"constants": {"Modality": "computed tomography"}},
        {"constants": {"Modality": ""}},
        {"constants": {"ScheduledProcedureStepStartDate": "tomorrow"}},
        {"constants": {STATION: "SEVENTEEN_LETTERS"}},
        {"charset": "latin-1"},
        {"hide": ["GONE"]},
        {"past_days": -1},
        {"max_answers": 0},
    ],
)
def test_rules_that_would_do_harm_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rules(**rules)
