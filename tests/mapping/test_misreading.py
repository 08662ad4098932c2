"""YAML that cannot be read: what stands where, what was meant, and the rest of the file as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.mapping.checking import check
from broker.mapping.text.document import read_text

HEAD = """\
mapping: site
format: 1
extends: ihe-orders
accept: {senders: ['EPIC|*']}
"""
FIRST = 5
Written = Callable[..., Path]


def told(folder: Path) -> list[str]:
    """Each complaint as LINE:COLUMN fact — hint, and its line with the caret."""
    return [
        f"{each.line - FIRST + 1}:{each.column} {each.fact}"
        + (f" — {each.hint}" if each.hint else "")
        for each in check(folder)
    ]


INDENTS = [
    (
        "attributes:\n  PatientComments: PID-3\n   PatientName: PID-5 | person\n",
        "3:4 'PatientName' begins in column 4, deeper than 'PatientComments' on line 6, "
        "which has a value — begin it in column 3 too",
    ),
    (
        "attributes:\n  PatientComments: PID-3\n PatientName: PID-5 | person\n",
        "3:2 'PatientName' begins in column 2, but 'PatientComments' on line 6 begins in "
        "column 3 — begin it in column 3 too",
    ),
    (
        "attributes:\n    PatientComments: PID-3\n  PatientName: PID-5 | person\n",
        "3:3 'PatientName' begins in column 3, but 'PatientComments' on line 6 begins in "
        "column 5 — begin it in column 5 too",
    ),
    (
        "attributes:\n  PatientComments:\n    from: PID-3\n   when: PID-3 valued\n",
        "4:4 'when' begins in column 4, but 'from' on line 7 begins in column 5 — "
        "begin it in column 5 too, or in column 1 as 'attributes' on line 5",
    ),
    (
        "attributes:\n  PatientComments: PID-3\n    when: PID-3 valued\n",
        "3:5 'when' begins in column 5, deeper than 'PatientComments' on line 6, which has a "
        "value — let 'from: PID-3' begin in this column above it, below 'PatientComments:'",
    ),
    (
        "attributes:\nPatientComments: PID-3\n",
        "2:1 unknown key 'PatientComments' — 'attributes' above it is empty: "
        "indent this to belong to it",
    ),
    (
        "attributes:\n  ScheduledProcedureStepSequence:\n    item:\n    Modality: OBR-24\n",
        "4:5 unknown key 'Modality' — 'item' above it is empty: indent this to belong to it",
    ),
    (
        "attributes:\n  ScheduledProcedureStepSequence:\n    item:\n      Modality: OBR-24\n"
        "    ScheduledStationAETitle: OBR-21\n",
        "5:5 unknown key 'ScheduledStationAETitle' — begin it in column 7 to belong to 'item'",
    ),
    (
        "attributes:\n  PatientComments:\n    from: PID-3\n    Allergies: PID-5\n",
        "4:5 unknown key 'Allergies' — it belongs further out: begin it in column 3",
    ),
    (
        "source:\n  timezone: Europe/Berlin\n  tables: {}\n",
        "3:3 unknown key 'tables' — it belongs further out: begin it in column 1",
    ),
    (
        "attributes:\n  PatientComments:\n  from: PID-3\n",
        "3:3 'from' is not a DICOM keyword — it is an option of an attribute: "
        "indent it below one, beside its 'from:'",
    ),
    (
        " tables:\n  x: {A: B}\n",
        "1:2 'tables' begins in column 2, deeper than 'accept' on line 4, which has a value — "
        "begin it in column 1 too",
    ),
    (
        "actions:\n  - {when: ORC-1 = NW, do: schedule}\n - otherwise: ignore\n",
        "3:2 '-' begins in column 2, but '-' on line 6 begins in column 3 — "
        "begin it in column 3 too",
    ),
    (
        "actions:\n  - when: ORC-1 = NW\n   do: schedule\n  - otherwise: ignore\n",
        "3:4 'do' begins in column 4, but 'when' on line 6 begins in column 5 — "
        "begin it in column 5 too, or in column 1 as 'actions' on line 5",
    ),
    (
        "actions:\n  - when: ORC-1 = NW\n    do: schedule\n  otherwise: ignore\n",
        "4:3 'otherwise' stands in the column of a list, without its '-' — write "
        "'- otherwise: …' for an entry of its own, or begin in column 5 to belong to the entry "
        "above",
    ),
    (
        "attributes:\n\tPatientComments: PID-3\n",
        "2:1 the line is indented with a tab — YAML is indented with spaces, never with tabs",
    ),
    (
        "attributes:\n  \u00a0PatientComments: PID-3\n",
        "2:3 the line is indented with a space that is no plain one — type plain spaces",
    ),
]


@pytest.mark.parametrize(("text", "expected"), INDENTS)
def test_a_wrong_indentation_names_what_stands_where_and_the_column_that_was_meant(
    written: Written, text: str, expected: str
) -> None:
    assert expected in told(written(HEAD + text))


SLIPS = [
    (
        "{from: OBR-4.2 | extract('Scanner ([0-9])')}",
        "2:27 within { } and [ ] a value with [ ] { } : or , stands in quotes — "
        "write \"OBR-4.2 | extract('Scanner ([0-9])')\"",
    ),
    (
        "{from: PID-3[.5 = MR].1, when: PID-3 valued}",
        "2:27 within { } and [ ] a value with [ ] { } : or , stands in quotes — "
        "write 'PID-3[.5 = MR].1'",
    ),
    (
        "{from: PID-3 | replace(a, b), when: PID-3 valued}",
        "2:27 within { } and [ ] a value with [ ] { } : or , stands in quotes — "
        "write 'PID-3 | replace(a, b)'",
    ),
    ("{from: PID-3", "2:20 this '{' is never closed — put '}' where it ends"),
    ("[PID-3", "2:20 this '[' is never closed — put ']' where it ends"),
    (
        "{from: PID-3}}",
        "2:33 the value ends with the '}' before, and more follows — "
        "take it away, or quote all of it: '{from: PID-3}}'",
    ),
    (
        "'a' + PID-3",
        "2:24 the value ends with the quote before, and more follows — "
        "quote all of it: \"'a' + PID-3\"; a constant is {const: CT}",
    ),
    (
        "{const: 'B}",
        "2:28 this quote is never closed — close it at the end of the text; "
        "within '…' an apostrophe is written twice: ''",
    ),
    (
        "PID-5: x",
        "2:25 a second ':' in the value of 'PatientComments' — quote the value: 'PID-5: x'",
    ),
    ("@x", "2:20 a value cannot start with @ — quote it: '@x'"),
    (
        "|PID-3",
        "2:20 a value that starts with | or > is a text over several lines — quote it: '|PID-3'",
    ),
    (
        "- PID-3",
        "2:20 a list cannot begin on the line of its key — "
        "begin it on the next line, or write [PID-3]",
    ),
    (
        "]",
        "2:20 nothing before this ']' needs it — take it away, or quote the whole value",
    ),
    (
        "\"PID-3 | replace('\\d', b)\"",
        "2:20 within \"…\" a backslash begins an escape — use '…', where it is a plain sign",
    ),
]


@pytest.mark.parametrize(("value", "expected"), SLIPS)
def test_a_value_that_yaml_cannot_read_is_shown_as_it_should_be_written(
    written: Written, value: str, expected: str
) -> None:
    assert told(written(f"{HEAD}attributes:\n  PatientComments: {value}\n")) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  PatientComments\n    from: PID-3\n", "2:3 no ':' after 'PatientComments'"),
        ("  PatientComments PID-3\n  PatientID: PID-3\n", "2:3 no ':' after 'PatientComments'"),
        (
            "  PatientComments:PID-3\n",
            "2:3 attributes: must be a block of keys — a space is missing after 'PatientComments:'",
        ),
        ("  PatientComments: {const: a}\n  PatientID:PID-3\n", "3:12 a space is missing after ':'"),
        (
            "  - PatientComments: PID-3\n",
            "2:3 attributes: must be a block of keys — take the '-' away: "
            "keys stand below each other",
        ),
        ("  <<: {PatientID: PID-3}\n", "2:3 merge keys (<<) are not used here — write it out"),
    ],
)
def test_a_key_that_is_none_is_told(written: Written, text: str, expected: str) -> None:
    assert told(written(f"{HEAD}attributes:\n{text}"))[0].startswith(expected)


SEVERAL = """\
attributes:
  PatientComments: {from: PID-3[1].1}
   PatientName: PID-5 | persn
  Allergies: PID-5: x
  PatientID: PID-3 | frist
  ScheduledProcedureStepSequence:
    item:
      Modality: OBR-24
     ScheduledStationAETitle: OBR-21 | upercase
"""


def test_every_line_that_cannot_be_read_is_told_and_what_is_wrong_with_the_others(
    written: Written,
) -> None:
    places = [each.split(" — ")[0] for each in told(written(HEAD + SEVERAL))]
    assert places == [
        "2:27 within { } and [ ] a value with [ ] { } : or , stands in quotes",
        "3:4 'PatientName' begins in column 4, deeper than 'PatientComments' on line 6, "
        "which has a value",
        "3:25 unknown function 'persn'",
        "4:19 a second ':' in the value of 'Allergies'",
        "5:22 unknown function 'frist'",
        "9:6 'ScheduledStationAETitle' begins in column 6, but 'Modality' on line 12 begins in "
        "column 7",
        "9:40 unknown function 'upercase'",
    ]


def test_the_caret_stands_under_what_was_written_not_under_what_was_meant(
    written: Written,
) -> None:
    text = "attributes:\n  Allergies: PID-3\n PatientID: PID-3 | foo\n"
    (_, found) = check(written(HEAD + text))
    assert found.snippet.splitlines() == [
        "    7 |  PatientID: PID-3 | foo",
        "                            ^^^",
    ]


def test_a_text_of_many_slips_is_given_up_before_it_costs_time() -> None:
    slips = "".join(f"  Key{number}: PID-5: x\n" for number in range(3000))
    with pytest.raises(Exception, match="a second ':'") as raised:
        read_text(f"attributes:\n{slips}", "site.yaml")
    assert 1 < str(raised.value).count("a second ':'") <= 20
