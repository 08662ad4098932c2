"""What the check says: the remedy in the words of the file, and everything in one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.mapping.checking import check

HEAD = """\
mapping: site
format: 1
extends: ihe-orders
accept: {senders: ['EPIC|*']}
"""
Written = Callable[..., Path]


def told(folder: Path) -> list[str]:
    return [
        f"{Path(each.file).name}:{each.line}:{each.column} "
        + ("warning: " if each.severity == "warning" else "")
        + each.fact
        + (f" — {each.hint}" if each.hint else "")
        for each in check(folder)
    ]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("PID.8", "'.' is not expected here — write PID-8"),
        ("pid-5", "'-' is not expected here — write PID-5"),
        ("PID5.1", "'.' is not expected here — write PID-5.1"),
        ("PID-3(2)", "'(' is not expected here — write PID-3[2]"),
        ("PID-3,1", "',' is not expected here — write PID-3.1"),
        ("OBR-0", "there is no field 0 — counted from 1, as in PID-3.4.1"),
        ("AL1[0]-3", "there is no repetition 0 — counted from 1, as in PID-3.4.1"),
        ("PID-03", "03 begins with 0 — write 3"),
        ("PID-99999", "no field has a number as large as 99999"),
        ("PID-3 ? PID-2", "'?' is not known — write ?? for what stands in where nothing is said"),
        ("PID-5;", "';' is not known — nothing stands between or after expressions: take it away"),
        ("PDI-3", "HL7 2.3, 2.3.1, 2.4, 2.5 and 2.5.1 has no segment PDI — did you mean 'PID'?"),
        ("OBR-4.2 | extract('(?<=x)y')", "(?…) is not supported in a pattern"),
        ("Modality", "'Modality' is filled nowhere above this line"),
        ("PID-7 | datetime(Europe/Lodnon)", "'/' is not known"),
    ],
)
def test_what_is_written_otherwise_elsewhere_is_shown_as_it_is_written_here(
    written: Written, expression: str, complaint: str
) -> None:
    text = f'{HEAD}attributes:\n  Allergies: "{expression}"\n'
    found = told(written(text))
    assert any(complaint in each for each in found), found
    assert len(found) == 1


@pytest.mark.parametrize(
    ("condition", "remedy"),
    [
        ("ORC-1 == NW", "write a single ="),
        ("ORC1 = CA", "write ORC-1"),
        ("ORC-1 is NW", "write ="),
        ("ORC-1 <> NW", "write !="),
        ("ORC-1 = NW AND PID-3 valued", "write it small: and"),
        ("ORC-1 = NW && PID-3 valued", "write and"),
        ("ORC-1 empty", "write not valued"),
        ("ORC-1 not empty", "write valued"),
        ("ORC-1 in [NW, XO]", "a list stands in ( ), as in (NW, XO)"),
        ("ORC-1 matches N.*", "a pattern stands in quotes: matches 'MR.*'"),
        ("NW = ORC-1", "the field stands on the left, a word or text on the right"),
    ],
)
def test_a_condition_in_the_words_of_other_languages_is_shown_in_ours(
    written: Written, condition: str, remedy: str
) -> None:
    lines = f'  - {{when: "{condition}", do: schedule}}\n  - otherwise: ignore\n'
    (found,) = told(written(f"{HEAD}actions:\n{lines}"))
    assert found.endswith(f" — {remedy}")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("(0010,0010)", "PatientName"),
        ("00100010", "PatientName"),
        ("StudyUID", "StudyInstanceUID"),
        ("ReferringPhysician", "ReferringPhysicianName"),
        ("patientname", "PatientName"),
    ],
)
def test_the_keyword_meant_is_one_of_a_worklist_item(written: Written, key: str, hint: str) -> None:
    found = told(written(f"{HEAD}attributes:\n  {key}: {{const: ''}}\n"))
    assert f"site.yaml:6:3 '{key}' is not a DICOM keyword — did you mean '{hint}'?" in found


def test_an_unknown_keyword_and_an_unknown_function_are_told_of_one_line(
    written: Written,
) -> None:
    text = "attributes:\n  PatientNam: PID-555 | persn | uper\n"
    assert [each.split(" — ")[0] for each in told(written(HEAD + text))] == [
        "site.yaml:6:3 'PatientNam' is not a DICOM keyword",
        "site.yaml:6:15 PID-555 does not exist in HL7 2.3, 2.3.1, 2.4, 2.5 and 2.5.1",
        "site.yaml:6:25 unknown function 'persn'",
        "site.yaml:6:33 unknown function 'uper'",
    ]


@pytest.mark.parametrize(
    ("let", "complaint"),
    [
        ("{a: b + PID-3, b: PID-2}", "5:10 'b' stands further down — put it above this line"),
        ("{a: a + PID-3}", "5:10 'a' is made of itself: a → a"),
        ("{a: b, b: a}", "5:10 'b' is made of itself: b → a → b"),
        ("{today: PID-3}", "5:7 'today' cannot be a name — a small word of its own"),
    ],
)
def test_names_that_cannot_be_are_told_at_their_place(
    written: Written, let: str, complaint: str
) -> None:
    found = told(written(f"{HEAD}let: {let}\n"))
    assert any(each.startswith(f"site.yaml:{complaint}") for each in found), found


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("timezone: Europe/Lodnon", "did you mean 'Europe/London'?"),
        ("charset: {unlabelled: [utf-9]}", "did you mean 'utf-8'?"),
        ("charset: {unknown: maybe}", "refuse, or a character set of Python"),
        ("charset: {unknown: refused}", "did you mean 'refuse'?"),
    ],
)
def test_zones_and_character_sets_are_suggested(written: Written, source: str, hint: str) -> None:
    (found,) = told(written(f"{HEAD}source: {{{source}}}\n"))
    assert found.endswith(f" — {hint}")


def test_a_line_below_otherwise_is_one_mistake(written: Written) -> None:
    lines = "  - otherwise: ignore\n  - {when: ORC-1 = NW, do: schedule}\n"
    assert told(written(f"{HEAD}actions:\n{lines}")) == [
        "site.yaml:6:5 'otherwise' stands last: no message reaches the lines below it — "
        "move it to the end of the table"
    ]


SHEETS = [
    ("key,value\nA,CT\na,MR\n", "3:1 'a' is 'A' of line 2 as well"),
    ("key,value\nA,CT\nB\n", "3:1 'B' has no value — write its value after a comma"),
    ("key,value\nA,\n", "2:3 warning: the value of 'A' is empty"),
    ("key,value\n,x\n", "2:1 'x' has no key — write the key, or * for every other one"),
    ("key,value,key\nA,B,C\n", "1:11 the column 'key' again"),
    ('key,value\nA,CT\nB,"x\nC,y\n', "3:3 this quote is never closed"),
    ('key,value\nA,"x\nB,y\nC,z"\n', "2:1 a cell of this row goes on to line 4"),
    ("key;value\nA;CT\n", "1:4 the columns are separated by ';' — save it with commas"),
    ("key\tvalue\nA\tCT\n", "1:4 the columns are separated by tabs — save it with commas"),
    ("", "1:1 is empty — the first row names the columns, as key,value"),
    ("key,value\n", "1:1 warning: has no row below the names"),
    ("key,value\nA,CT,x\n", "2:6 has more cells than columns"),
    ("key,value\nA,C\0T\n", "2:4 holds a NUL byte"),
]


@pytest.mark.parametrize(("text", "complaint"), SHEETS)
def test_a_csv_file_is_told_with_its_line(written: Written, text: str, complaint: str) -> None:
    rule = "tables:\n  m: {file: t.csv}\nattributes: {PatientComments: PID-3 | lookup(m)}\n"
    folder = written(HEAD + rule)
    (folder / "t.csv").write_text(text, encoding="utf-8")
    (found,) = told(folder)
    assert found.startswith(f"t.csv:{complaint}")
    assert not text or check(folder)[0].snippet


def test_a_csv_file_of_other_columns_says_which_it_has(written: Written) -> None:
    rule = "tables:\n  m: {file: t.csv}\nattributes: {PatientComments: PID-3 | lookup(m)}\n"
    folder = written(HEAD + rule)
    (folder / "t.csv").write_text("code,modality\nA,CT\n", encoding="utf-8")
    (found,) = told(folder)
    assert found.endswith("columns: code, modality; say which are meant: key: …, value: …")


@pytest.mark.parametrize("text", ["\ufeffkey,value\r\nA,CT\r\n", "# ours\nkey,value\rA,CT\r"])
def test_marks_line_ends_and_comments_of_a_csv_file_are_no_mistake(
    written: Written, text: str
) -> None:
    rule = "tables:\n  m: {file: t.csv}\nattributes: {PatientComments: PID-3 | lookup(m)}\n"
    folder = written(HEAD + rule)
    (folder / "t.csv").write_bytes(text.encode())
    assert told(folder) == []


def test_keys_of_an_inline_table_that_differ_in_capitals_are_told(written: Written) -> None:
    rule = "tables:\n  m: {CT: CT, ct: MR}\nattributes: {PatientComments: PID-3 | lookup(m)}\n"
    (found,) = told(written(HEAD + rule))
    assert found.startswith("site.yaml:6:15 'ct' is 'CT' as well — capitals and small letters")
