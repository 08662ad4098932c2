"""What an expression gives is known before any message, and judged by what it shall fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.hl7.refusal import Location
from broker.mapping.checking import check
from broker.mapping.compiling import compiler as compiling
from broker.mapping.loading import load
from broker.mapping.trials.trying import Trial

HEAD = """\
mapping: site
extends: ihe-orders
accept:
  messages: [ORM^O01, ZOR^Z01, ADT^*]
  senders: ['SITE|*']
"""
STEP = "ScheduledProcedureStepSequence: {item: {"
Written = Callable[..., Path]


def facts(folder: Path) -> list[str]:
    """Severity, line and fact of each complaint."""
    found = check(folder, examples=False)
    return [f"{'warning: ' * (e.severity == 'warning')}{e.line} {e.fact}" for e in found]


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        # sequences take items, leaves do not
        ("RequestedProcedureCodeSequence: OBR-4.1", "is a sequence, this gives text"),
        ("IssuerOfPatientIDQualifiersSequence: PID-3.4", "is a sequence, this gives text"),
        ("OrderPlacerIdentifierSequence: ORC-2.2", "is a sequence, this gives text"),
        ("RequestedProcedureCodeSequence: {const: abc}", "is a sequence, this is text"),
        ("RequestedProcedureCodeSequence: \"OBR-4 ?? 'x' | code | trim ?? 'y'\"", "not expected"),
        ("RequestedProcedureCodeSequence: OBR-4 | code | upper", "is a sequence, this gives text"),
        (f"{STEP}ScheduledProtocolCodeSequence: OBR-4.1}}}}", "is a sequence, this gives text"),
        (f"{STEP}ScheduledProtocolCodeSequence: {{const: abc}}}}}}", "is a sequence, this is text"),
        (
            "OtherPatientIDsSequence: {from: PID-3.1, item: ~, each: ~, leave_out: ~}",
            "OtherPatientIDsSequence is a sequence, this gives text",
        ),
        ("Allergies: OBR-4 | code", "Allergies is no sequence, and this gives items"),
        ("Allergies: RequestedProcedureCodeSequence", "stands further down"),
        # values by the VR of the encoder
        ("PregnancyStatus: {const: pregnant}", "the constant is not a whole number"),
        ("PregnancyStatus: {const: '70000'}", "is not a whole number from 0 to 65535"),
        ("PregnancyStatus: PV1-15 | map(B6, yes)", "a value of 'map' 'yes' is not a whole number"),
        ("PregnancyStatus: \"PV1-15 ?? 'no'\"", "the text 'no' is not a whole number"),
        ("PatientWeight: {const: heavy}", "the constant is not a number"),
        ("PatientAge: {const: old}", "the constant is not an age as 045Y"),
        ("PatientSexNeutered: {const: A-B}", "is not a code string"),
        (f"{STEP}Modality: {{const: MRI}}}}}}", "warning: 7 the constant is no modality"),
        # functions by the VR of the target
        (f"{STEP}ScheduledProcedureStepStartTime: TQ1-7 | date}}}}", "(TM) does not take a date"),
        ("PatientBirthDate: PID-7 | time", "PatientBirthDate (DA) does not take a time of day"),
        ("AdmittingDate: PV1-44 | local", "AdmittingDate (DA) does not take a date with a time"),
        ("PatientName: PID-7 | date", "PatientName (PN) does not take a date"),
        ("PatientWeight: OBX-5 | convert(lb, g)", "PatientWeight is in kg, not in g"),
        # and by the type of the field
        ("PatientBirthDate: PID-5 | date", "'date' does not understand XPN, the type of PID-5"),
        ("EthnicGroup: PID-8 | date", "warning: 7 'date' does not understand IS"),
        ("StudyInstanceUID: OBR-4.1", "(UI) does not take OBR-4.1 as it stands, which is CE"),
        ("PatientWeight: PID-8", "(DS) does not take PID-8 as it stands, which is IS"),
        ("PatientName: PID-5", "warning: 7 PID-5 alone is only its first component"),
        ("ReferringPhysicianName: PV1-8", "its first component, the ID number"),
        ("Allergies: PID-5 | part(99)", "PID-5.99 does not exist"),
        ('Allergies: "PID-3 | part(4, 9)"', "PID-3.4.9 does not exist"),
        ("PatientSize: OBX-5 | convert(lb, m)", "lb measures mass and m measures length"),
        # paths that begin with a dot, and segments that others follow
        ("MedicalAlerts: AL1[.99.1 = X]-3", "AL1-99 does not exist"),
        ('MedicalAlerts: "PID-3[.99 = X].1"', "PID-3.99 does not exist"),
        ("PatientComments: NTE[after XYZ]-3", "has no segment XYZ"),
        ("OtherPatientIDsSequence: {item: {PatientID: .999.1}}", "PID-3.999.1 does not exist"),
        (f"{STEP}RequestedContrastAgent: IPC-99}}}}", "IPC-99 does not exist"),
        # places
        ("OtherPatientIDsSequence: {item: {PatientName: .1}}", "has no place in OtherPatientIDs"),
        ("PixelData: OBR-4", "PixelData belongs to no worklist item"),
        ("Rows: OBR-4", "Rows belongs to no worklist item"),
        ("StudyDescription: OBR-4.2", "warning: 7 StudyDescription is not in Table K.6-1"),
    ],
)
def test_a_source_that_cannot_fill_its_attribute_is_told(
    written: Written, rule: str, fact: str
) -> None:
    found = facts(written(f"{HEAD}attributes:\n  {rule}\n"))
    assert any(fact in each for each in found), found
    assert all(each.removeprefix("warning: ").startswith("7 ") for each in found), found


@pytest.mark.parametrize(
    "rule",
    [
        "RequestedProcedureCodeSequence: (OBR-44 | code) ?? (OBR-4 | alternate_code | first)",
        "PatientBirthDate: ZPI-7 | date",
        "PatientBirthDate: PID-7",
        "AdmittingDate: today",
        "StudyInstanceUID: ZDS-1.1 ?? (OBR-3.1 | derived_uid)",
        "LastMenstrualDate: OBX-5 | date",
        "PatientWeight: OBX-5",
        "PregnancyStatus: PV1-15 | map(B6, 3)",
        f"{STEP}Modality: {{const: mr}}}}}}",
        "Allergies: ZAL[.99.1 = X]-3",
        "OtherPatientIDsSequence: {each: ZPI-3, item: {PatientID: .9}}",
    ],
)
def test_what_can_fill_an_attribute_is_right(written: Written, rule: str) -> None:
    assert facts(written(f"{HEAD}attributes:\n  {rule}\n")) == []


@pytest.mark.parametrize(
    ("messages", "fact", "hint"),
    [
        ("OMI^023", "HL7 has no event '023' (OMI^023)", "did you mean 'O23'?"),
        ("0RM^O01", "HL7 has no message type '0RM' (0RM^O01)", "did you mean 'ORM'?"),
        ("ORM^X01", "HL7 has no event 'X01' (ORM^X01)", "did you mean 'O01'?"),
    ],
)
def test_types_and_events_are_those_of_hl7(
    written: Written, messages: str, fact: str, hint: str
) -> None:
    folder = written(HEAD.replace("ORM^O01", messages))
    (complaint,) = check(folder, examples=False)
    assert (complaint.line, complaint.column) == (4, 14)
    assert (complaint.fact, complaint.hint) == (fact, hint)


def test_a_table_cannot_refuse_and_give_a_default(written: Written) -> None:
    table = "tables:\n  t: {rows: {A: B}, on_miss: reject, default: C}\n"
    rules = "attributes: {Allergies: OBR-4 | lookup(t)}\n"
    assert facts(written(HEAD + table + rules)) == [
        "7 a key that is missing is refused: the default is never given"
    ]


def test_expectations_that_cannot_fail_are_told(written: Written) -> None:
    examples = "examples:\n  - message: m.hl7\n    expect:\n      - action: schedule\n"
    attributes = "        attributes: {PatientNam: ~, Modality: ~, PatientSe: M, PatientID: ~}\n"
    folder = written(HEAD + examples + attributes)
    assert facts(folder) == [
        "10 'PatientNam' is not a DICOM keyword",
        "warning: 10 the mapping never fills Modality: that it is absent cannot fail",
        "10 'PatientSe' is not a DICOM keyword",
    ]
    assert check(folder, examples=False)[0].hint == "did you mean 'PatientName'?"


def test_a_constant_is_stored_as_it_is_encoded(
    written: Written, tried: Callable[..., Trial], said: Callable[[Trial], dict[str, object]]
) -> None:
    bundle = load(written(f"{HEAD}attributes:\n  {STEP}Modality: {{const: ' mr '}}}}}}\n"))
    assert said(tried(ORDER, header=SITE, of=bundle))["Modality"] == "MR"


SITE = "MSH|^~\\&|SITE|NORTH|BROKER|NORTH|20260316081500||ORM^O01|1|P|2.3.1"
ORDER = """\
PID|1||4711^^^NORTH^PI||ROE^ANN||19570131|F
ORC|NW|P1|F1
OBR|1|P1|F1|CT1^Head||||||||||||||A1|RP1|SP1||||CT|||^^^202603161000
"""


def test_text_for_a_sequence_is_refused_where_it_gets_past_the_check(
    written: Written, tried: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "judge_source", lambda *_: ())
    rules = f"attributes:\n  {STEP}ScheduledProtocolCodeSequence: OBR-4.1}}}}\n"
    bundle = load(written(HEAD + rules))
    refusal = tried(ORDER, header=SITE, of=bundle).refusal
    assert refusal is not None
    assert (refusal.acknowledgement, refusal.code) == ("AE", "102")
    assert refusal.location == Location("OBR", 1, 4, 1, 1)
    assert refusal.rule == "site.yaml:7"
    assert "is text, where only the items of a sequence can stand" in str(refusal)


def test_an_expected_change_needs_no_attributes(written: Written) -> None:
    folder = written(f"{HEAD}examples:\n  - {{message: a.hl7, expect: [{{action: cancel}}]}}\n")
    (folder / "a.hl7").write_text(
        "MSH|^~\\&|SITE|NORTH|||20260316||ORM^O01|1|P|2.3.1\rPID|||1\rORC|CA|P1\rOBR|1|P1\r"
    )
    assert [str(each) for each in check(folder)] == []


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        (f"{STEP}Modality: OBR-4.2}}}}", "OBR-4.2 as it was sent perhaps is no modality"),
        ("PregnancyStatus: OBR-13", "OBR-13 as it was sent perhaps is no pregnancy status"),
        ("PatientSex: PID-8", "PID-8 as it was sent perhaps is no sex"),
        ("PatientSex: {const: Q}", "the constant is no sex that DICOM knows"),
        ("PregnancyStatus: {const: '7'}", "the constant is no pregnancy status"),
        (
            f"{STEP}ScheduledProcedureStepStatus: {{const: HURRAH}}}}}}",
            "the constant is no status of a step that DICOM knows",
        ),
    ],
)
def test_words_that_are_no_terms_of_dicom_are_odd(written: Written, rule: str, fact: str) -> None:
    (found,) = facts(written(f"{HEAD}attributes:\n  {rule}\n"))
    assert found.startswith(f"warning: 7 {fact}"), found


def test_a_constant_that_would_be_two_values_is_wrong(written: Written) -> None:
    (found,) = facts(written(f"{HEAD}attributes:\n  PatientID: {{const: 'A\\B'}}\n"))
    assert found.startswith("7 the constant holds a backslash")


def test_an_unknown_key_blames_nothing_of_the_base_and_says_where_it_belongs(
    written: Written,
) -> None:
    rule = f"{STEP}Modality: {{from: OBR-24, on_miss: hold}}}}}}"
    (found,) = check(written(f"{HEAD}attributes:\n  {rule}\n"), examples=False)
    assert found.fact == "unknown key 'on_miss'"
    assert found.hint.startswith("it belongs to a table")


def test_accept_says_how_a_facility_is_named(written: Written) -> None:
    (found,) = check(written(f"{HEAD}  facility: HARBOR\n"), examples=False)
    assert found.hint == "senders says it: senders: ['*|FACILITY']"


def test_names_that_nothing_uses_are_told_up_to_a_bound(written: Written) -> None:
    names = "".join(f"  n{number:04}: PID-3\n" for number in range(100))
    found = facts(written(f"{HEAD}let:\n{names}"))
    assert len(found) == 21
    assert sum(each.endswith("80 more below are used nowhere") for each in found) == 1


def test_a_table_whose_name_is_misspelt_where_it_is_looked_up_is_not_unused(
    written: Written,
) -> None:
    table = "tables: {rooms: {A: CT}}\n"
    found = facts(written(f"{HEAD}{table}attributes: {{PatientSex: PID-8 | lookup(roms)}}\n"))
    assert found == ["7 unknown table 'roms'"]
