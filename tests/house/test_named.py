"""Whoever holds the lists of what an HL7 intake must survive finds each line in the name of a test.

`w12`, `c30` and `r05` are of the wire, the content and the store; `s85` (or `statement_85`) are
acceptance statements. One that loses its test is missed here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEST = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
MARK = re.compile(r"(?<=_)(?:statement_|([wcrs]))(\d\d)(?=_)")


def marks() -> set[str]:
    """Every line of a list that is in the name of a test, as `w12` or `s85`."""
    names = [name for path in TESTS.rglob("test_*.py") for name in TEST.findall(path.read_text())]
    return {f"{which or 's'}{number}" for name in names for which, number in MARK.findall(name)}


@pytest.mark.parametrize(
    ("which", "numbers"),
    [("w", range(1, 28)), ("c", range(1, 44)), ("r", range(1, 19)), ("s", range(63, 96))],
    ids=["wire", "content", "store", "statements of HL7"],
)
def test_every_line_of_the_lists_is_in_the_name_of_a_test(which: str, numbers: range) -> None:
    assert {f"{which}{number:02d}" for number in numbers} - marks() == set()
