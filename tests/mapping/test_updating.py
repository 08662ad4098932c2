"""Examples run one by one, and their expectations rewritten in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from broker.mapping.files.rules import OutboundFile
from broker.mapping.loading import load
from broker.mapping.text.document import read_text
from broker.mapping.text.validating import validated
from broker.mapping.trials.examples import Result, results
from broker.mapping.trials.updating import updated

Written = Callable[..., Path]

MESSAGE = (
    "MSH|^~\\&|RIS|NORTH|BROKER|NORTH|20260316074502||ORM^O01|1|P|2.3.1\r"
    "PID|1||4711^^^NORTH^MR||DOE^JANE||19800101|F\r"
    "ORC|NW|P1|F1||SC||^^^20260316100000\r"
    "OBR|1|P1|F1|X1^CT, head^L||||||||||||||ACC1||||||CT\r"
)
HEAD = """\
mapping: site   # äöü before the places that change
format: 1
accept: {messages: [ORM^O01]}
actions:
  - {when: ORC-1 = NW, do: schedule}
  - otherwise: ignore
attributes:
  PatientName: PID-5 | person
  PatientID: PID-3.1
  PatientBirthDate: PID-7 | date
  AccessionNumber: {from: OBR-18 ?? OBR-19, required: schedule}
  RequestedProcedureDescription: OBR-4.2
  ScheduledProcedureStepSequence:
    item:
      Modality: OBR-24
      ScheduledStationAETitle: OBR-21
      ScheduledProcedureStepStartDate: {from: ORC-7.4 | date, required: schedule}
      ScheduledProcedureStepStartTime: ORC-7.4 | time
      ScheduledProcedureStepDescription: OBR-4.2
"""


def site(written: Written, examples: str, message: str = MESSAGE, head: str = HEAD) -> Path:
    """A mapping with examples, and the message beside it."""
    folder = written(f"{head}examples:\n{examples}", "site.yaml")
    (folder / "one.hl7").write_text(message, encoding="utf-8", newline="")
    return folder / "site.yaml"


def run(path: Path) -> Sequence[Result]:
    return list(results(load(path, examples=False)))


def mended(path: Path) -> str:
    """The file after an update; afterwards every example must pass."""
    text = updated(path.read_bytes().decode(), [each for each in run(path) if not each.passed])
    path.write_bytes(text.encode())
    assert all(each.passed for each in run(path))
    return text


VALUES = """\
  # what the RIS promised
  - message: one.hl7
    expect:
      - action: update            # was it?
        attributes:
          PatientID: "4712"       # a comment
          PatientName: DOE^JANE
          PatientBirthDate:
          RequestedProcedureDescription: ~
          ScheduledProcedureStepSequence:
            - Modality: MR
              ScheduledStationAETitle: CT1   # nobody says it
# the end
"""


def test_each_difference_is_told_with_both_values_and_its_place(written: Written) -> None:
    (result,) = run(site(written, VALUES))
    told = {each.what: (each.found, each.expected) for each in result.differences}
    assert told == {
        "action": ("schedule", "update"),
        "PatientID": ("4711", "4712"),
        "PatientBirthDate": ("19800101", None),
        "RequestedProcedureDescription": ("CT, head", None),
        "ScheduledProcedureStepSequence[1]/Modality": ("CT", "MR"),
        "ScheduledProcedureStepSequence[1]/ScheduledStationAETitle": (None, "CT1"),
    }
    lines = [each.node.line for each in result.differences]
    first = HEAD.count("\n")
    assert lines == [first + n for n in (5, 7, 9, 10, 12, 13)]


REWRITTEN = {
    "action: update ": "action: schedule ",
    '"4712"': "'4711'",
    "BirthDate:": "BirthDate: '19800101'",
    "Description: ~": "Description: 'CT, head'",
    "Modality: MR": "Modality: CT",
    "AETitle: CT1": "AETitle: ~",
}


def test_only_the_values_that_differ_are_rewritten(written: Written) -> None:
    """Comments, order, quotes and everything outside the examples stay byte for byte."""
    expected = VALUES
    for old, new in REWRITTEN.items():
        expected = expected.replace(old, new)
    assert mended(site(written, VALUES)) == f"{HEAD}examples:\n{expected}"


WHOLE = """\
  - message: one.hl7
    expect:
      - action: schedule
        attributes:
          PatientID: '4711'
          AccessionNumber: ACC1
          RequestedProcedureDescription: 'CT, head'
          PatientName: DOE^JANE
          PatientBirthDate: '19800101'
          ScheduledProcedureStepSequence:
            - Modality: CT
"""


@pytest.mark.parametrize(
    "before",
    [
        "  - message: one.hl7\n",
        "  - message: one.hl7\n    refused: AE 101 OBR^1^18\n",
        "  - message: one.hl7   # from the RIS\n    expect: []\n",
        "  - {message: one.hl7}\n",
        "  - {message: one.hl7, refused: AE 101}\n",
    ],
)
def test_an_example_without_the_right_kind_of_outcome_gets_a_whole_one(
    written: Written, before: str
) -> None:
    """A new example says only its message, and learns what comes out."""
    path = site(written, before)
    text = mended(path)
    assert text.startswith(HEAD + "examples:\n" + before.split("\n")[0].rstrip("}").split(",")[0])
    assert "refused" not in text
    (example,) = load(path).loaded[0].file.examples
    (expected,) = example.expect  # type: ignore[union-attr]
    (step,) = expected.attributes["ScheduledProcedureStepSequence"]
    assert (step["Modality"], step["ScheduledProcedureStepDescription"]) == ("CT", "CT, head")
    assert expected.attributes["AccessionNumber"] == "ACC1"


def test_a_message_that_is_now_refused_expects_the_refusal(written: Written) -> None:
    path = site(written, WHOLE + "# the end\n", MESSAGE.replace("ACC1", ""))
    text = mended(path)
    assert (
        text == f"{HEAD}examples:\n  - message: one.hl7\n    refused: AE 101 OBR^1^18\n# the end\n"
    )


def test_line_ends_and_the_last_line_stay_as_they_are(written: Written) -> None:
    """Windows editors write CR LF; an inserted block must not mix them."""
    path = site(written, "  - message: one.hl7")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    text = mended(path)
    assert text.count("\n") == text.count("\r\n")
    assert not text.endswith("\n")


def test_what_no_expectation_can_mend_stays(written: Written) -> None:
    """A message that is not there, and one for another mapping."""
    path = site(written, "  - message: none.hl7\n")
    before = path.read_text(encoding="utf-8")
    (result,) = run(path)
    assert not result.passed
    assert updated(before, [result]) == before
    path = site(written, "  - message: one.hl7\n", MESSAGE.replace("ORM^O01", "ADT^A08"))
    before = path.read_text(encoding="utf-8")
    assert updated(before, run(path)) == before


def test_fields_of_outbound_examples_are_rewritten(mappings: Path) -> None:
    path = mappings / "status-orm.yaml"
    text = path.read_text(encoding="utf-8")
    wrong = text.replace("ORC-5: IP", "ORC-5: XX", 1)
    assert wrong != text
    loaded = load(path, examples=False)
    (one,) = loaded.loaded
    root = read_text(wrong, str(path))
    changed = replace(one, root=root, file=validated(OutboundFile, root))
    found = list(results(replace(loaded, loaded=(changed,))))
    assert [each.what for result in found for each in result.differences] == ["ORC-5"]
    assert updated(wrong, found) == text


@pytest.mark.parametrize(
    "text",
    [
        *("a: b", "x # y", "'quoted'", '"q"', "[x]", "{a}", "- a", "~", "null", "yes", "0123"),
        *("1e3", "&amp", "*star", "!tag", "%x", "@x", "`x", "a, b", "?", ":", "|"),
        *("Ä\u2028Ö", "\U0001f9b4"),
    ],
)
def test_any_value_is_written_so_that_it_reads_back(written: Written, text: str) -> None:
    """Descriptions are free text; neighbours on the same line must survive."""
    escaped = text.replace("|", "\\F\\").replace("&", "\\T\\").replace("^", "\\S\\")
    example = """\
  - message: one.hl7
    expect: [{action: schedule, attributes: {RequestedProcedureDescription: x, PatientID: y}}]
"""
    path = site(written, example, MESSAGE.replace("CT, head", escaped))
    (line,) = [line for line in mended(path).split("\n") if "expect:" in line]
    assert line.endswith(", PatientID: '4711'}}]")
