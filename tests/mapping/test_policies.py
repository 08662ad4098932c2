"""Policies: what is missing, too long or in no table, and what a check says before it happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.mapping.checking import check
from broker.mapping.language.parsing import parse_condition
from broker.mapping.language.reaching import unreached
from broker.mapping.loading import load
from broker.mapping.trials.trying import Trial
from broker.worklist.changes import FILLS_GAPS, Ranked, Unmapped

SITE = """\
mapping: site
format: 1
accept: {messages: [ORM^O01]}
tables:
  modality: {CT: CT, MR: MR}
actions:
  - {when: ORC-1 = NW, do: schedule}
  - {when: ORC-1 = CA, do: cancel}
  - otherwise: update
attributes:
  PatientName: PID-5 | person
  PatientID: PID-3
  AccessionNumber: {from: OBR-18}
  RequestedProcedureDescription: OBR-4.2
  RequestedProcedureID: OBR-19
  StudyInstanceUID: ZDS-1.1
  AdmissionID: PV1-19.1
  ScheduledProcedureStepSequence:
    item:
      Modality: {from: OBR-24 | lookup(modality), required: schedule}
      ScheduledStationAETitle: {const: CT1}
      ScheduledProcedureStepStartDate: today
      ScheduledProcedureStepStartTime: now | time
      ScheduledProcedureStepDescription: OBR-4.2
"""
PID = "PID|1||4711||DOE^JANE"
ORC = "ORC|NW|PLACER-1|FILLER-1"
OBR = "OBR|1|PLACER-1|FILLER-1|CT1^CT HEAD||||||||||||||ACC1||||||CT"
Written = Callable[..., Path]
Tried = Callable[..., Trial]


def given(written: Written, old: str, new: str) -> Path:
    assert old in SITE
    return written(SITE.replace(old, new))


def said(tried: Tried, folder: Path, *segments: str) -> dict[str, Any]:
    trial = tried("\n".join(segments), of=load(folder))
    assert trial.refusal is None, trial.refusal
    return trial.outcomes[0].change.attributes


def facts(folder: Path) -> list[str]:
    return [str(each).splitlines()[0].replace(f"{folder}/", "") for each in check(folder)]


def test_the_site_as_it_stands_is_right(written: Written, tried: Tried) -> None:
    folder = written(SITE)
    assert facts(folder) == []
    step = said(tried, folder, PID, ORC, OBR)["ScheduledProcedureStepSequence"][0]
    assert step["ScheduledProcedureStepStartDate"] == "20260316"
    assert step["ScheduledProcedureStepStartTime"] == "103000"


def test_a_surrogate_is_stable_short_and_the_whole_is_kept(written: Written, tried: Tried) -> None:
    folder = given(written, "{from: OBR-18}", "{from: OBR-18, too_long: surrogate}")
    long = "PRACTICE12-20260316-0000077"
    attributes = said(tried, folder, PID, ORC, OBR.replace("ACC1", long))
    number = attributes["AccessionNumber"]
    assert len(number) == 16
    assert number != said(tried, folder, PID, ORC, OBR.replace("ACC1", long + "8"))
    comments = attributes["ImagingServiceRequestComments"]
    assert comments == Ranked(f"AccessionNumber: {long}", FILLS_GAPS)
    assert said(tried, folder, PID, ORC, OBR)["AccessionNumber"] == "ACC1"
    assert "ImagingServiceRequestComments" not in said(tried, folder, PID, ORC, OBR)


@pytest.mark.parametrize(
    ("old", "new", "without", "found"),
    [
        ("{from: OBR-18}", "{from: OBR-18, missing: reject}", "ACC1", "AE 101 OBR^1^18"),
        ("{from: OBR-18}", "{from: OBR-18, missing: derive}", "ACC1", "AccessionNumber"),
        ("UID: ZDS-1.1", "UID: {from: ZDS-1.1, missing: derive}", "", "StudyInstanceUID"),
        ("UID: ZDS-1.1", "UID: {from: ZDS-1.1, missing: reject}", "", "AE 101 ZDS^1^1"),
        ("ID: OBR-19", "ID: {from: OBR-19, missing: accession}", "", "RequestedProcedureID"),
        ("ID: PV1-19.1", "ID: {from: PV1-19.1, missing: accession}", "", "AdmissionID"),
        ("ID: PV1-19.1", "ID: {from: PV1-19.1, missing: accept}", "", ""),
    ],
)
def test_a_missing_identifier_follows_its_policy(
    written: Written, tried: Tried, old: str, new: str, without: str, found: str
) -> None:
    folder = given(written, old, new)
    obr = OBR.replace(without, "") if without else OBR
    trials = [tried("\n".join([PID, ORC, obr]), of=load(folder)) for _ in range(2)]
    if found.startswith("AE"):
        refusal = trials[0].refusal
        assert refusal is not None
        assert f"{refusal.acknowledgement} {refusal.code} {refusal.location}" == found
        return
    values = [each.outcomes[0].change.attributes.get(found) for each in trials]
    assert values[0] == values[1]  # the same for the same order, whenever it comes
    assert not found or values[0].rank == FILLS_GAPS
    update = tried("\n".join([PID, ORC.replace("NW", "CA"), obr]), of=load(folder))
    assert found not in update.outcomes[0].change.attributes


def test_nothing_is_derived_from_nothing(written: Written, tried: Tried) -> None:
    folder = given(written, "{from: OBR-18}", "{from: OBR-18, missing: derive}")
    bare = OBR.replace("ACC1", "").replace("PLACER-1|FILLER-1", "|")
    trial = tried("\n".join([PID, "ORC|NW", bare]), of=load(folder))
    assert trial.refusal is not None
    assert trial.refusal.code == "101"


def test_a_table_that_rejects_refuses_even_what_has_a_default(
    written: Written, tried: Tried
) -> None:
    table = "{rows: {CT: CT, MR: MR}, on_miss: reject}"
    folder = given(written, "{CT: CT, MR: MR}", table)
    trial = tried("\n".join([PID, ORC, OBR.removesuffix("CT") + "RAD"]), of=load(folder))
    assert trial.refusal is not None
    assert trial.refusal.code == "103"
    assert str(trial.refusal.location).startswith("OBR^1^24")
    cancel = tried("\n".join([ORC.replace("NW", "CA"), OBR.removesuffix("CT") + "RAD"]))
    assert cancel.refusal is None


def test_a_table_that_holds_keeps_the_order_for_somebody_to_say(
    written: Written, tried: Tried
) -> None:
    table = "{rows: {CT: CT, MR: MR}, on_miss: hold}"
    folder = given(written, "{CT: CT, MR: MR}", table)
    trial = tried("\n".join([PID, ORC, OBR.removesuffix("CT") + "RAD"]), of=load(folder))
    assert trial.refusal is None
    change = trial.outcomes[0].change
    assert change.held == (Unmapped("modality", "RAD"),)
    assert "Modality" not in change.attributes["ScheduledProcedureStepSequence"][0]
    known = tried("\n".join([PID, ORC, OBR]), of=load(folder))
    assert known.outcomes[0].change.held == ()
    nothing = tried("\n".join([PID, ORC, OBR.removesuffix("CT")]), of=load(folder))
    assert nothing.refusal is not None  # what is not said at all is missing, as ever


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("PatientID: PID-3", "PatientID: {from: PID-3, missing: derive}", "PatientID cannot be de"),
        ("{from: OBR-18}", "{from: OBR-18, missing: accept}", "no order stands without Accession"),
        ("ID: PID-3", "ID: {from: PID-3, missing: accession}", "PatientID is never the accession"),
        ("{const: CT1}", "{const: CT1, missing: guess}", "missing: 'guess' is none — possible: "),
        ("{const: CT1}", "{const: CT1, missing: generate}", "StationAETitle cannot be generated"),
        ("{from: OBR-18}", "{from: OBR-18, pattern: A####}", "write 'missing: generate'"),
        ("{from: OBR-18}", "{missing: generate, from: OBR-18, pattern: A}", "has one run of #"),
        ("{from: OBR-18}", "{missing: generate, from: OBR-18, pattern: A###}", "3 digits are soon"),
        (
            "{from: OBR-18}",
            "{missing: generate, from: OBR-18, pattern: 'Ä####'}",
            "no number should",
        ),
        (
            "{from: OBR-18}",
            "{missing: generate, from: OBR-18, pattern: 'REFERRAL-{yyyy}-####'}",
            "18 characters, an accession number has 16 at most",
        ),
        ("  PatientID: PID-3\n", "", "10:1: nothing fills PatientID — no worklist item"),
        ("OBR-4.2\n  R", "OBR-4.2\n  PatientSex: {const: FEMALE-X}\n  R", "the constant is not a"),
        ("{const: CT1}", "{const: A-MUCH-TOO-LONG-TITLE}", "the constant is not an AE title"),
        ("MR: MR}", "MR: M-R}", "'M-R' of table 'modality' is not a code string"),
        ("ID: PID-3", "Name: PID-3", "key 'PatientName' again"),
        (
            "PID-5 | person",
            "{from: PID-5 | person, too_long: surrogate}",
            "a surrogate stands for numbers, and PatientName is none",
        ),
        (
            "  - otherwise: update",
            "  - {when: ORC-1 = CA and ORC-5 = CA, do: cancel}\n  - otherwise: update",
            "site.yaml:9:5: warning: no message reaches this line",
        ),
        ("tables:", "let: {unused: PID-3}\ntables:", "warning: name 'unused' is used nowhere"),
        (
            "      ScheduledProcedureStepDescription: OBR-4.2\n",
            "",
            "warning: nothing fills ScheduledProcedureStepDescription or ScheduledProtocol",
        ),
    ],
)
def test_a_check_tells_before_it_happens(written: Written, old: str, new: str, fact: str) -> None:
    found = facts(given(written, old, new))
    assert any(fact in each for each in found), found


@pytest.mark.parametrize(
    ("conditions", "lines"),
    [
        (["ORC-1 = A", "ORC-1 = A", None], [1]),
        (["ORC-1 in (A, B)", "ORC-1 = B and ORC-5 = C", None], [1]),
        (["ORC-1 = A", "ORC-1 != A", None], [2]),
        (["ORC-1 valued", "ORC-1 = ''", None], [2]),
        (["not ORC-1 valued or ORC-1 = A", "ORC-1 in ('', A)", "ORC-1 = B", None], [1]),
        (["ORC-1 matches 'A.*'", "ORC-1 = AB", "ORC-1 matches 'A.*'", None], [2]),
        (["ORC-1 = A or ORC-5 = B", "ORC-1 = A and ORC-5 = C", "ORC-5 = C", None], [1]),
        (["(ORC-1 ?? ORC-5) = A", "(ORC-1 ?? ORC-5) = A", None], [1]),
        (["ORC-1 = A", "ORC-5 = A", None], []),
    ],
)
def test_lines_that_nothing_reaches_are_found(
    conditions: list[str | None], lines: list[int]
) -> None:
    parsed = [parse_condition(text) if text else None for text in conditions]
    assert list(unreached(parsed)) == lines


def test_nothing_is_claimed_of_a_table_too_large_to_try() -> None:
    parsed = [parse_condition(f"ORC-{number} = A") for number in range(1, 30)]
    assert not unreached([*parsed, parsed[0], None])


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"mapping: " + b"x" * 10_000_000, "is too long, the limit is 1,000,000 bytes"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors and aliases"),
        (b"\xef\xbb\xbfmapping: site\r\nformat: 2\r\n", "format: '2' is none — possible: 1"),
        (b"mapping:\tsite\n\tformat: 1\n", "YAML is indented with spaces"),
        ("mapping: Gr\xf6\xdfe\n".encode("latin-1"), "is not UTF-8"),
        ("mapping: site\n".encode("utf-16"), "is UTF-16"),
        (b"mapping: \x00\n", "control characters are not allowed"),
        (b"", "is not a mapping of keys"),
        (b"- a\n", "is not a mapping of keys"),
        (b"a: " + b"[" * 5000 + b"\n", "more than 24 levels"),
        (b"extends: [a]\n", "there is no mapping ''"),
        (b"mapping: a\nextends: ~\n", "there is no mapping ''"),
        (b"mapping: a\ndirection: [out]\n", "direction: "),
        (b"mapping: a\naccept: x\nattributes: []\n", "accept: "),
    ],
)
def test_whatever_a_file_holds_it_is_a_complaint(tmp_path: Path, data: bytes, fact: str) -> None:
    (tmp_path / "site.yaml").write_bytes(data)
    found = facts(tmp_path)
    assert any(fact in each for each in found), found
    assert all(each.startswith("site.yaml:") for each in found)


def test_a_folder_that_is_called_like_a_mapping_is_a_complaint(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").mkdir()
    assert facts(tmp_path) == ["odd.yaml: cannot be read: is not a file"]


def test_an_example_reads_nothing_but_files_beside_its_mapping(
    written: Written, tmp_path: Path
) -> None:
    (tmp_path / "long.hl7").write_bytes(b"MSH" * 400_000)
    for name, fact in (
        ("/dev/zero", "lies outside the folder of the mapping"),
        ("../elsewhere.hl7", "lies outside the folder of the mapping"),
        (".", "is not a file"),
        ("none.hl7", "no such file or directory"),
        ("long.hl7", "is longer than 1,000,000 bytes"),
    ):
        folder = written(f"{SITE}examples:\n  - {{message: {name}, refused: AE 101}}\n")
        [complaint] = check(folder)
        assert complaint.fact == f"'{name}' cannot be read: {fact}"
        assert complaint.line == SITE.count("\n") + 2


@pytest.mark.parametrize(
    ("missing", "segments", "told"),
    [
        (
            "PatientName",
            ("PV1|1", ORC, OBR),
            "AE 101 PID^1^5: PatientName is missing: there is no PID segment - fill the field, or ",
        ),
        (
            "RequestedProcedureDescription",
            (PID, ORC, OBR.replace("CT1^CT HEAD", "")),
            "AE 101 OBR^1^4: RequestedProcedureDescription is missing - fill OBR-44 or OBR-4, or ",
        ),
        (
            "RequestedProcedureDescription",
            (PID, ORC),
            "AE 101 OBR^1^4: RequestedProcedureDescription is missing: there is no OBR segment",
        ),
    ],
)
def test_what_is_missing_is_told_with_every_field_that_would_do(
    written: Written, tried: Tried, missing: str, segments: tuple[str, ...], told: str
) -> None:
    site = SITE.replace("Name: PID-5 | person", "Name: {from: PID-5 | person, required: schedule}")
    wide = "Description: {from: OBR-44.2 ?? OBR-4.2, required: schedule}\n  RequestedProcedureID"
    site = site.replace("Description: OBR-4.2\n  RequestedProcedureID", wide)
    trial = tried("\n".join(segments), of=load(written(site)))
    assert trial.refusal is not None
    assert str(trial.refusal).startswith(told)
    assert f"or give {missing} a default in the mapping" in str(trial.refusal)


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ((PID, OBR), "ORC^1^1: there is no ORC segment - send a code of the actions table"),
        ((PID, "ORC||PLACER-1", OBR), "ORC^1^1: no code says what to do: the field is empty"),
        (
            (PID, "ORC|ZZ|PLACER-1", OBR),
            "ORC^1^1: no line of the actions table is for this code - send a code of the actions "
            "table, or add a line for it, as {when: ORC-1 = CODE, do: schedule} (site.yaml:9)",
        ),
    ],
)
def test_an_order_without_a_control_code_is_told_from_one_with_an_unknown_code(
    written: Written, tried: Tried, segments: tuple[str, ...], told: str
) -> None:
    folder = given(written, "otherwise: update", "otherwise: refuse")
    trial = tried("\n".join(segments), of=load(folder))
    assert trial.refusal is not None
    assert told in str(trial.refusal)


@pytest.mark.parametrize(
    ("titles", "call", "told"),
    [
        ("CT_1/CT_2", "lookup(rooms) | split('/')", []),
        (
            "CT_1/A_TITLE_LONGER_THAN_16",
            "lookup(rooms) | split('/')",
            ["'A_TITLE_LONGER_THAN_16' of table 'rooms' is not an AE title"],
        ),
        (
            "CT_1\\CT_2",
            "lookup(rooms)",
            ["as ScheduledStationAETitle must be — several values in one row: a / between them, "],
        ),
    ],
)
def test_several_stations_in_one_row_of_a_table_are_judged_one_by_one(
    written: Written, titles: str, call: str, told: list[str]
) -> None:
    site = SITE.replace("{const: CT1}", f"OBR-18 | {call}")
    site = site.replace("tables:\n", f"tables:\n  rooms: {{ROOM7: '{titles}', ROOM8: CT_3}}\n")
    found = facts(written(site))
    assert len(found) == len(told)
    assert all(said in complaint for said, complaint in zip(told, found, strict=True))
