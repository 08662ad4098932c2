"""The shipped mappings on messages: corpus outcomes, ranks, refusals, what each action carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.mapping.trials.trying import Trial
from broker.worklist.changes import FILLS_GAPS, Ranked

Tried = Callable[..., Trial]
Said = Callable[[Trial], dict[str, Any]]

# tests/corpus/outcomes.md, as far as one message alone decides it.
OUTCOMES: dict[str, tuple[str, dict[str, Any]]] = {
    "01": (
        "schedule",
        {
            "PatientName": "CARVER^ODELIA^JUNE^MS.",
            "PatientID": "00823417",
            "IssuerOfPatientID": "GHMC",
            "OtherPatientIDsSequence": [
                {"PatientID": "E100456", "IssuerOfPatientID": "EPI", "TypeOfPatientID": "TEXT"}
            ],
            "AccessionNumber": "24GHMC0087713",
            "Modality": "CT",
            "ScheduledStationAETitle": "GHCT2",
            "ScheduledProcedureStepStartDate": "20260316",
            "ScheduledProcedureStepStartTime": "093000",
        },
    ),
    "03": (
        "schedule",
        {
            "PatientName": "OKAFOR^NGOZI^T",
            "PatientID": "M000045678",
            "IssuerOfPatientID": "TWC",
            "AccessionNumber": "0316-00042CR",
            "Modality": "CR",
            "ScheduledProcedureStepStartTime": "110000",
            "MedicalAlerts": "COUGH",
        },
    ),
    "04": (
        "schedule",
        {
            "PatientName": "Åkerström^Märta Linnéa",
            "PatientID": "191204059993",
            "IssuerOfPatientID": "SE",
            "AccessionNumber": "NS26A0098812",
            "StudyInstanceUID": "1.2.752.24.99.7.26.55120",
            "ScheduledProcedureStepID": "SPS26-55120-1",
            "ScheduledStationAETitle": "NSCT02",
            "ScheduledProcedureStepStartTime": "084500",
        },
    ),
    "05": (
        "schedule",
        {
            "PatientName": "von der Aue^Jürgen^Günther^^Dr. med.",
            "PatientID": "4711023",
            "IssuerOfPatientID": "NORDAU",
            "AccessionNumber": "NA26-0031177",
            "ScheduledStationAETitle": "NORDCT1",
            "StudyInstanceUID": "1.2.276.0.76.999.26.31177",
            "PatientTransportArrangements": "stretcher",
        },
    ),
    "06": (
        "schedule",
        {
            "PatientName": "Größler^Änne^^Frau",
            "AccessionNumber": "SV0000771",
            "Modality": "MR",
            "ScheduledStationAETitle": "SVMR01",
        },
    ),
    "07": (
        "schedule",
        {
            "PatientName": "Brontë-Ångström^Zoë^Chloé",
            "AccessionNumber": "BK44120",
            "Modality": "US",
            "ScheduledProcedureStepStartTime": "130000",
        },
    ),
    "09": (
        "schedule",
        {
            "PatientName": "Šťastná^Růžena^^Mgr.",
            "AccessionNumber": "CZ2600009001",
            "ScheduledStationAETitle": "CZMG1",
            "RequestedProcedureDescription": "Mamografický screening",
        },
    ),
    "15": ("patient", {"PatientName": "Schlüter^Wiebke", "PatientID": "4711099"}),
    "16": (
        "patient",
        {
            "PatientName": "von der Aue-Voß^Jürgen",
            "PatientID": "4711023",
            "PatientBirthDate": "19570113",
            "PatientAddress": None,
        },
    ),
    "18": (
        "cancel",
        {
            "PatientID": "4711023",
            "PlacerOrderNumberImagingServiceRequest": "A26031600017",
            "FillerOrderNumberImagingServiceRequest": "F26031600017",
        },
    ),
    "19": (
        "update",
        {
            "AccessionNumber": "24GHMC0087999",
            "Modality": "CT",
            "RequestedProcedurePriority": "STAT",
            "ScheduledProcedureStepStartTime": "111500",
        },
    ),
    "24": (
        "schedule",
        {
            "PatientName": "Bürgi^Trudi",
            "AccessionNumber": "KA000009",
            "StudyInstanceUID": "1.2.756.99.9.1.9",
            "RequestedProcedureDescription": "MR Wirbelsäule gesamt mit und ohne "
            "Kontrastmittel & Diffusion, P",
        },
    ),
    "26": (
        "update",
        {
            "PatientName": "D&Angelò^Niccolò",
            "PatientID": "VA-99120",
            "IssuerOfPatientID": "VALLE",
            "AccessionNumber": "A7712VALLE",
            "ScheduledStationAETitle": ["VADX1", "VADX2"],
            "ScheduledProcedureStepStartTime": "163000",
        },
    ),
    "13": (
        "schedule",
        {
            "AccessionNumber": "26GHMC0090099",
            "FillerAppointmentID": "APF90071",
            "ScheduledStationAETitle": "GHMR1",
            "ScheduledProcedureStepStartTime": "101500",
        },
    ),
    "14": (
        "move",
        {
            "AccessionNumber": "absent",
            "FillerAppointmentID": "APF90071",
            "ScheduledStationAETitle": "GHMR2",
            "ScheduledProcedureStepStartTime": "140000",
        },
    ),
    "27": ("discontinue", {"FillerOrderNumberImagingServiceRequest": "24GHMC0087713"}),
}


@pytest.mark.parametrize("number", OUTCOMES)
def test_a_corpus_message_has_the_outcome_it_must_have(
    corpus: Callable[[str], Trial], said: Said, number: str
) -> None:
    action, expected = OUTCOMES[number]
    trial = corpus(number)
    found = said(trial)
    assert trial.outcomes[0].change.action == action
    assert {keyword: found.get(keyword, "absent") for keyword in expected} == expected


def test_two_ipc_are_two_steps_of_one_order(corpus: Callable[[str], Trial]) -> None:
    (outcome,) = corpus("04").outcomes
    steps = outcome.change.attributes["ScheduledProcedureStepSequence"]
    assert [step["ScheduledProcedureStepID"] for step in steps] == [
        "SPS26-55120-1",
        "SPS26-55120-2",
    ]


PID = "PID|1||4711^^^NORTH^MR||DOE^JANE||19800101|F"
ORC = "ORC|NW|P1|F1||SC||^^^20260317100000"
OBR = "OBR|1|P1|F1|X1^CT HEAD^L||||||||||||||ACC1||||||CT"


def order(*segments: str) -> str:
    return "\n".join(segments)


def test_each_order_of_a_message_is_a_change_of_its_own(tried: Tried) -> None:
    second = OBR.replace("X1", "X2").replace("ACC1", "ACC2")
    trial = tried(order(PID, ORC, OBR, ORC.replace("NW", "CA"), second, "ZDS|1.2.3"))
    assert [(each.change.location, each.change.action.value) for each in trial.outcomes] == [
        ("ORC[1]", "schedule"),
        ("ORC[2]", "cancel"),
    ]
    uids = [each.change.attributes["StudyInstanceUID"] for each in trial.outcomes]
    assert uids == [Ranked("1.2.3", 1), Ranked("1.2.3", 1)]


def test_absent_says_nothing_null_erases_and_later_alternatives_rank(tried: Tried) -> None:
    pid = 'PID|1||4711^^^NORTH^MR||DOE^JANE||""|F'
    (outcome,) = tried(order(pid, ORC.replace("NW", "XO"), OBR)).outcomes
    attributes = outcome.change.attributes
    assert attributes["PatientBirthDate"] is None
    assert "PatientWeight" not in attributes
    assert attributes["PatientSex"] == "F"
    assert attributes["AccessionNumber"] == Ranked("ACC1", 1)
    step = attributes["ScheduledProcedureStepSequence"][0]
    assert step["ScheduledStationAETitle"] == Ranked("CT1", FILLS_GAPS, ("Modality",))


def test_other_sequences_than_steps_hold_no_ranks(tried: Tried) -> None:
    pid = "PID|1||4711^^^NORTH^MR~99^^^EAST^PI||DOE^JANE"
    (outcome,) = tried(order(pid, ORC, OBR)).outcomes
    assert outcome.change.attributes["OtherPatientIDsSequence"] == [
        {"PatientID": "99", "IssuerOfPatientID": "EAST", "TypeOfPatientID": "TEXT"}
    ]


def test_a_step_without_a_time_gets_the_message_time_to_fill_the_gap(tried: Tried) -> None:
    (outcome,) = tried(order(PID, "ORC|NW|P1|F1", OBR)).outcomes
    step = outcome.change.attributes["ScheduledProcedureStepSequence"][0]
    assert step["ScheduledProcedureStepStartDate"] == Ranked("20260316", FILLS_GAPS)
    assert step["ScheduledProcedureStepStartTime"] == Ranked("081500", FILLS_GAPS)


def test_a_day_without_a_time_starts_at_midnight(tried: Tried, said: Said) -> None:
    attributes = said(tried(order(PID, "ORC|NW|P1|F1||SC||^^^20260317", OBR)))
    assert attributes["ScheduledProcedureStepStartDate"] == "20260317"
    assert attributes["ScheduledProcedureStepStartTime"] == "000000"


def test_the_offset_of_msh_7_holds_for_stamps_without_one(tried: Tried, said: Said) -> None:
    header = "MSH|^~\\&|RIS|NORTH|B|N|20260316081500+0000||ORM^O01|1|P|2.3.1"
    attributes = said(tried(order(PID, ORC, OBR), header=header))
    assert attributes["ScheduledProcedureStepStartTime"] == "110000"


@pytest.mark.parametrize(
    ("ids", "patient_id", "issuer"),
    [
        ("E1^^^EPI^EPI~00823^^^GHMC&1.2.3.9&ISO^MRN~999-12-0001^^^SSA^SS", "00823", "GHMC"),
        ('""^^^NLX^PPN~5031^^^Z^PI', "5031", "Z"),
        ("^^^HC~5031", "5031", "NORTH"),
        ("999-41-2210^^^SSA^SS~77", "77", "NORTH"),
        ("77^^^SE^NNSWE", "77", "SE"),
        ("4711^^^^MR~99^^^EAST^PI", "4711", "NORTH"),  # never another number's issuer
    ],
)
def test_the_patient_id_is_a_hospitals_number_with_its_own_issuer(
    tried: Tried, said: Said, ids: str, patient_id: str, issuer: str
) -> None:
    attributes = said(tried(order(f"PID|1||{ids}||DOE^JANE", ORC, OBR)))
    assert attributes["PatientID"] == patient_id
    assert attributes["IssuerOfPatientID"] == issuer


@pytest.mark.parametrize(
    ("segments", "refused"),
    [
        ((PID.replace("4711^^^NORTH^MR", ""), ORC, OBR), "AE 101 PID^1^3"),
        ((PID.replace("4711^^^NORTH^MR", "9^^^SSA^SS"), ORC, OBR), "AE 102 PID^1^3"),
        ((PID.replace("DOE^JANE", ""), ORC, OBR), "AE 101 PID^1^5"),
        ((PID.replace("DOE^JANE", '""'), ORC, OBR), "AE 101 PID^1^5"),
        ((ORC, OBR), "AE 101 PID^1^5"),
        ((PID, ORC, OBR.replace("ACC1", "A" * 17)), "AE 104 OBR^1^18"),
        ((PID, ORC, OBR.replace("CT", "RAD")), "AE 103 OBR^1^24"),
        ((PID, ORC, OBR.replace("||||||CT", "")), "AE 101 OBR^1^24"),
        ((PID, ORC.replace("20260317100000", "soon"), OBR), "AE 102 ORC^1^7"),
        ((PID, ORC.replace("20260317100000", "202603172500"), OBR), "AE 102 ORC^1^7"),
        ((PID, ORC.replace("NW", "XO"), OBR.replace("CT", "RAD")), "AE 103 OBR^1^24"),
        ((PID.replace("DOE^JANE", '""'), ORC.replace("NW", "XO"), OBR), "AE 101 PID^1^5"),
        ((PID, ORC, OBR, "ZDS|1.2.03"), "AE 102 ZDS^1^1^1^1"),
        (
            (PID, ORC.replace("|F1", ""), OBR.replace("ACC1", "").replace("|F1", "|")),
            "AE 101 OBR^1^18",
        ),
        ((PID,), "AE 100 ORC^1"),
    ],
)
def test_an_order_that_cannot_stand_is_refused_with_its_place(
    tried: Tried, segments: tuple[str, ...], refused: str
) -> None:
    refusal = tried(order(*segments)).refusal
    assert refusal is not None
    assert f"{refusal.acknowledgement} {refusal.code} {refusal.location}" == refused
    assert refusal.remedy
    assert not any(part in str(refusal) for part in ("4711", "DOE", "JANE", "9^^^"))


def test_the_second_order_is_named_where_it_is_the_wrong_one(tried: Tried) -> None:
    trial = tried(order(PID, ORC, OBR, ORC, OBR.replace("CT|", "CT|").replace("||CT", "||RAD")))
    assert trial.refusal is not None
    assert str(trial.refusal.location) == "OBR^2^24"


def test_a_section_is_no_modality_but_the_procedure_code_may_tell(tried: Tried, said: Said) -> None:
    obr = OBR.replace("||CT", "||RAD").replace("X1^", "71046^")
    assert said(tried(order(PID, ORC, obr)))["Modality"] == "DX"


@pytest.mark.parametrize(
    ("sent", "modality"), [("ct", "CT"), ("RUS", "US"), ("NMR", "MR"), ("NMS", "NM"), ("MRI", "MR")]
)
def test_known_words_become_dicom_terms(tried: Tried, said: Said, sent: str, modality: str) -> None:
    obr = OBR.removesuffix("CT") + sent
    assert said(tried(order(PID, ORC, obr)))["Modality"] == modality


def test_an_accession_number_is_not_guessed_from_the_filler_number(tried: Tried) -> None:
    trial = tried(order(PID, ORC, OBR.replace("ACC1", "")))
    assert trial.refusal is not None
    assert (trial.refusal.code, str(trial.refusal.location)) == ("101", "OBR^1^18")


def test_an_unknown_sender_without_accession_number_is_refused_where_epic_is_not(
    tried: Tried, said: Said
) -> None:
    segments = order(PID, ORC, OBR.replace("ACC1", ""))
    header = "MSH|^~\\&|EPIC|NORTH|B|N|20260316081500||ORM^O01|1|P|2.3"
    assert said(tried(segments, header=header))["AccessionNumber"] == "F1"
    refusal = tried(segments).refusal
    assert refusal is not None
    assert (refusal.acknowledgement, refusal.code) == ("AE", "101")


def test_what_surrounds_an_order_goes_with_it(tried: Tried, said: Said) -> None:
    segments = [
        "PID|1||4711^^^NORTH^MR||DOE^JANE^^^^^L~ROE^^^^^^M||19800101|F||2106-3^White^HL70005|||||ENG||CAT^Catholic",
        "NTE|1||deaf",
        "NTE|2||brings a dog",
        "PV1|1|I|4N^401" + "|" * 12 + "A6~B6" + "|" * 29 + "202603151822",
        "AL1|1|DA|IOD^Iodine",
        "AL1|2|DA|LAT",
        ORC + "||202603160745",
        OBR,
        "NTE|1||after contrast",
        "DG1|1||J18.9^Pneumonia^I10",
        "OBX|1|NM|3141-9^WEIGHT^LN||154|lb",
        "OBX|2|NM|X^Body height||165|cm",
        "OBX|3|DT|8665-2^LMP^LN||20260301",
    ]
    found = said(tried(order(*segments)))
    expected = {
        "PatientBirthName": "ROE",
        "EthnicGroup": "White",
        "PatientReligiousPreference": "Catholic",
        "PatientComments": "deaf\r\nbrings a dog",
        "PregnancyStatus": "3",
        "SpecialNeeds": "hearing impaired",
        "Allergies": ["Iodine", "LAT"],
        "AdmittingDate": "20260315",
        "AdmittingTime": "182200",
        "RouteOfAdmissions": "I",
        "IssueDateOfImagingServiceRequest": "20260316",
        "RequestedProcedureComments": "after contrast",
        "AdmittingDiagnosesDescription": ["Pneumonia"],
        "PatientWeight": "69.853",
        "PatientSize": "1.65",
        "LastMenstrualDate": "20260301",
        "InstitutionName": "NORTH",
    }
    assert {keyword: found.get(keyword) for keyword in expected} == expected


def test_obr_21_is_a_station_only_in_the_layout_of_ihe(tried: Tried, said: Said) -> None:
    whole = "OBR|1|P1|F1|X1^CT^L||||||||||||||ACC1|RP1|SP1|ROOM1|||CT"
    alone = "OBR|1|P1|F1|X1^CT^L||||||||||||||ACC1|||ROOM1|||CT"
    assert said(tried(order(PID, ORC, whole)))["ScheduledStationAETitle"] == "ROOM1"
    assert said(tried(order(PID, ORC, alone)))["ScheduledStationAETitle"] == "CT1"


def test_an_update_needs_only_what_it_changes(tried: Tried, said: Said) -> None:
    trial = tried("ORC|XO|P1|F1||SC||^^^20260318110000\nOBR|1|P1|F1")
    attributes = said(trial)
    assert trial.outcomes[0].change.action == "update"
    assert attributes["ScheduledProcedureStepStartDate"] == "20260318"
    assert "PatientName" not in attributes
    assert "Modality" not in attributes


def test_a_cancel_carries_what_is_there_and_no_defaults(tried: Tried) -> None:
    (outcome,) = tried("ORC|CA|P1|F1\nOBR|1|P1|F1").outcomes
    assert outcome.change.attributes == {
        "PlacerOrderNumberImagingServiceRequest": "P1",
        "FillerOrderNumberImagingServiceRequest": "F1",
    }


CODES = {
    "schedule": ["NW|", "NW|SC", "NW|IP", "NA|", "RO|"],
    "update": ["XO|SC", "XO|", "XX|", "PA|", "CH|", "SC|IP", "SC|A", "SC|SC", "SC|"],
    "replace": ["RP|", "RU|", "RP|RP", "RP|SC"],
    "hold": ["HD|", "OH|", "HR|", "SC|HD", "PA|HD", "CH|HD", "RP|HD", "RU|HD", "RO|HD"],
    "release": ["RL|", "OE|", "OR|"],
    "complete": ["XO|CM", "SC|CM", "XR|", "NW|CM", "PA|CM", "CH|CM", "RP|CM", "RU|CM", "RO|CM"],
    "cancel": [
        "CA|CA",
        "CA|",
        "OC|",
        "CR|CA",
        "SC|CA",
        "PA|CA",
        "CH|CA",
        "RP|CA",
        "RU|CA",
        "RO|CA",
    ],
    "discontinue": ["DC|CA", "DC|DC", "OD|", "DR|", "SC|DC", "PA|DC", "CH|DC", "RU|DC", "RO|DC"],
    "ignore": ["RF|IP", "KN|", "SN|", "NF|", "OK|", "UA|", "CN|", "MC|", "OF|", "PY|"],
}


@pytest.mark.parametrize(
    ("action", "codes"), [(action, each) for action, codes in CODES.items() for each in codes]
)
def test_order_control_and_status_decide_the_action(tried: Tried, action: str, codes: str) -> None:
    control, status = codes.split("|")
    (outcome,) = tried(order(PID, f"ORC|{control}|P1|F1||{status}", OBR)).outcomes
    assert outcome.change.action == action
    if action == "ignore":
        assert outcome.line.note
        assert outcome.change.attributes == {}


def test_a_strict_source_is_judged_by_hl7apy(tried: Tried, written: Callable[..., Any]) -> None:
    from broker.mapping.loading import load

    text = """\
mapping: strict
format: 1
accept: {messages: [ORM^O01]}
source: {validate: strict}
actions: [otherwise: update]
attributes: {PatientSex: PID-8}
"""
    strict = load(written(text))
    assert tried(order(PID, ORC, OBR), of=strict).refusal is None
    refusal = tried(order(PID, ORC, OBR.replace("X1^CT HEAD^L", "")), of=strict).refusal
    assert refusal is not None
    assert (refusal.acknowledgement, refusal.code, str(refusal.location)) == (
        "AE",
        "101",
        "OBR^1^4",
    )
    assert "OBR_4" in refusal.text


def test_explaining_names_field_and_line(tried: Tried) -> None:
    (outcome,) = tried(order(PID, ORC, OBR)).outcomes
    traced = {each.keyword: each for each in outcome.traced}
    name = traced["PatientName"]
    assert (name.path, name.raw, name.value) == ("PID-5", "DOE^JANE", "DOE^JANE")
    assert name.place.endswith("ihe-orders.yaml:" + name.place.rsplit(":", 1)[1])
    station = traced["ScheduledProcedureStepSequence/ScheduledStationAETitle"]
    assert (station.value, station.rank) == ("CT1", FILLS_GAPS)


@pytest.mark.parametrize("control", ["QQ", "nw", ""])
def test_an_order_control_that_nobody_understands_is_refused(tried: Tried, control: str) -> None:
    """An AA would say that the order is on the list."""
    trial = tried(order(PID, f"ORC|{control}|P1|F1", OBR))
    assert trial.refusal is not None
    assert (trial.refusal.code, str(trial.refusal.location)) == ("103", "ORC^1^1")


@pytest.mark.parametrize("action", ["NW", "XO"])
def test_a_quantity_timing_without_a_start_says_nothing_about_it(tried: Tried, action: str) -> None:
    """A priority alone is no unreadable start: a default stands in, or what is stored stays."""
    trial = tried(order(PID, f"ORC|{action}|P1|F1||SC||^^^^^S", OBR))
    assert trial.refusal is None


def test_a_station_that_is_no_ae_title_is_refused_and_not_another_one_taken(tried: Tried) -> None:
    """The default would put the patient on another scanner's list."""
    whole = "OBR|1|P1|F1|X1^CT^L||||||||||||||ACC1|RP1|SP1|A-ROOM-OF-21-LETTERS-X|||CT"
    trial = tried(order(PID, ORC, whole))
    assert trial.refusal is not None
    assert (trial.refusal.code, str(trial.refusal.location)) == ("102", "OBR^1^21")


def test_a_refusal_while_trying_is_a_value(tried: Tried) -> None:
    assert tried(b"nonsense").refusal is not None
    assert tried(b"MSH|^~\\&|A|B|||2026||QQQ^Q01|1|P|2.3\r").refusal is not None


STARTER = "MSH|^~\\&|STARTER|HOSPITAL|BROKER|HOSPITAL|20260316081500||ORM^O01|1|P|2.3.1"


def starter(*, time: str = "20260316100000", modality: str = "CT", sex: str = "F") -> str:
    return f"""\
PID|1||4711||ROE^ANN||19800101|{sex}
ORC|NW|P1|F1||SC||^^^{time}
OBR|1|P1|F1|CTHEAD^CT head||||||||||||||A1||||||{modality}"""


@pytest.mark.parametrize("time", ["20261399993000", "soon"])
def test_the_starter_schedules_no_time_that_nobody_can_read(tried: Tried, time: str) -> None:
    trial = tried(starter(time=time), header=STARTER)
    assert (trial.mapping, f"{trial.refusal}"[:16]) == ("minimal", "AE 102 ORC^1^7: ")


@pytest.mark.parametrize("modality", ["RAD", "KERNSPIN", ""])
def test_the_starter_takes_modalities_only(tried: Tried, modality: str) -> None:
    trial = tried(starter(modality=modality), header=STARTER)
    assert trial.refusal is not None
    assert trial.refusal.code == ("103" if modality else "101")


def test_the_starter_sends_each_modality_to_its_scanner_and_guesses_no_sex(
    tried: Tried, said: Said
) -> None:
    stated = said(tried(starter(modality="MRI", sex="Q"), header=STARTER))
    assert (stated["Modality"], stated["ScheduledStationAETitle"]) == ("MR", "MR1")
    assert "PatientSex" not in stated
