"""What the language can say beyond paths: functions, keys of several parts, tables, patterns."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker.hl7.message import NULL, parse
from broker.mapping.checking import check
from broker.mapping.language.expressions import compile_condition, compile_expression
from broker.mapping.language.parsing import parse_condition, parse_expression
from broker.mapping.language.patterns import safe_pattern
from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import Mistake
from broker.mapping.trials import reference
from broker.mapping.values.evaluation import Evaluation, Unfit
from broker.mapping.values.functions import TABLE
from broker.mapping.values.tables import table_of
from broker.worklist.changes import Unmapped

ROOT = Path(__file__).parents[2]
STATION = table_of(
    "station",
    [
        (("CT", "WARD3"), "CT1"),
        (("CT", "*"), "CT2"),
        (("*", "WARD3"), "ANY3"),
        (("MR", ""), "MR1"),
    ],
    parts=2,
)
TABLES = {
    "station": STATION,
    "exact": table_of("exact", [(("ct",), "small"), (("CT",), "large")], exact=True),
    "reject": table_of("reject", [(("A",), "1")], on_miss="reject"),
    "hold": table_of("hold", [(("A",), "1"), (("*",), "0")], on_miss="hold"),
}
MESSAGE = parse(
    "\r".join(
        [
            "MSH|^~\\&|RIS|NORTH",
            'PID|1||4711|||||""',
            "NTE|1||about the patient",
            "NTE|2||and more",
            "PV1|1|O|WARD3",
            "AL1|1||J30^Pollen",
            "AL1|2||J45",
            "ORC|NW|P1",
            "OBR|1|P1||CT1^Head||||||||||||||A1||||||ct",
            "NTE|1||about the order",
            "OBX|1|NM|29463-7^Body Weight^LN||154|lb",
            "NTE|1||about the weight",
        ]
    )
)


def value(text: str, state: Evaluation | None = None) -> Any:
    closure = compile_expression(parse_expression(text), Scope(TABLES))
    return closure(state or Evaluation(MESSAGE, site_zone=ZoneInfo("Europe/Berlin"), issuer="N"))


def holds(text: str) -> bool:
    closure = compile_condition(parse_condition(text), Scope(TABLES))
    return closure(Evaluation(MESSAGE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NTE[after PID]-3", ["about the patient", "and more"]),
        ("NTE[after OBR]-3", "about the order"),
        ("NTE[after ORC]-3", []),
        ("NTE[after PID]-3 | lines", "about the patient\r\nand more"),
        ("NTE[after PID]-3 | concat('; ')", "about the patient; and more"),
        ("AL1[all]-3 | either(2, 1)", ["Pollen", "J45"]),
        ("AL1[all]-3 | either(2, 1) | last", "J45"),
        ("AL1[all]-3 | either(2, 1) | upper | first", "POLLEN"),
        ("OBX-5 + ' ' + OBX-6.1 | measure(kg)", "69.853"),
        ("OBX-5 | convert(lb, kg)", "69.853"),
        ("OBX-6.1 | measure(kg)", ""),
        ("'70 KGM' | measure(kg)", "70"),
        ("'154 [lb_av]' | measure(kg)", "69.853"),
        ("'70000 GRM' | measure(kg)", "70"),
        ("'170 CMT' | measure(m)", "1.7"),
        ("'70 [in_i]' | measure(m)", "1.778"),
        ("'70' | measure(kg)", ""),
        ("'202611262400' | local", "20261127000000"),
        ("'20261231240000+0100' | local", "20270101000000"),
        ("'20240228240000' | datetime", "20240229000000"),
        ("'2026112624' | local | time", "000000"),
        ("'202611262401' | local", ""),
        ("'195701312400' | date", "19570131"),  # a day of birth stays the day it says
        ("OBR-4.1 | extract('([A-Z]+)[0-9]')", "CT"),
        ("OBR-4.1 | extract('X')", ""),
        ("OBR-4.1 | map(CT1, CT, '*', OT)", "CT"),
        ("OBR-4.2 | map(CT1, CT, '*', OT)", "OT"),
        ("OBR-4.2 | map(CT1, CT)", ""),
        ("PID-8 | map(M, M)", NULL),
        ("PID-8 | concat(' ')", NULL),
        ("'a/b/c' | split('/')", ["a", "b", "c"]),
        ("'a/b/c' | split('/') | last", "c"),
        ("'a/b/c' | split('/', 4)", []),
        ("'20260701120000' | zone", ""),
        ("'20260701' | datetime", "20260701"),
        ("(OBR-24, PV1-3) | lookup(station)", "CT1"),
        ("(OBR-24, 'WARD9') | lookup(station)", "CT2"),
        ("('US', PV1-3) | lookup(station)", "ANY3"),
        ("('US', 'WARD9') | lookup(station)", ""),
        ("(OBR-25, PV1-50) | lookup(station)", ""),
        ("('mr', PV1-3) | lookup(station)", "MR1"),  # the first column counts most
        ("('mr', 'x') | lookup(station)", "MR1"),
        ("'ct' | lookup(exact)", "small"),
        ("'Ct' | lookup(exact)", ""),
        ("' CT ' | lookup(exact)", "large"),
    ],
)
def test_expressions_give(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OBR-24 not in (MR, US)", True),
        ("OBR-24 not in (ct)", False),
        ("PID-8 not valued", True),
        ("PV1-3 not matches 'W.*'", False),
        ("(OBR-24 not valued or PV1-3 valued) and not ORC-1 in (CA)", True),
        ("(OBR-24 | upper) = CT", True),
        ("('zz' | lookup(reject)) valued", False),  # a table that refuses decides nothing
    ],
)
def test_conditions_hold(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_a_table_may_refuse_or_hold_what_it_does_not_have() -> None:
    with pytest.raises(Unfit, match="is not in table 'reject'"):
        value("'Z' | lookup(reject)")
    state = Evaluation(MESSAGE)
    assert value("'Z' | lookup(hold)", state) == "0"
    assert state.held == [Unmapped("hold", "Z")]
    assert value("'A' | lookup(hold)", Evaluation(MESSAGE)) == "1"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("OBR-24 | lookup(station)", "table 'station' has keys of 2 parts, not 1"),
        ("(OBR-24, PV1-3) | lookup(exact)", "table 'exact' has keys of 1 parts, not 2"),
        ("(OBR-24, PV1-3) | upper", "several parts are only for lookup"),
        ("OBR-24 | map(A)", "'map' takes pairs of a text and its value"),
        ("OBX-5 | convert(lb, stone)", "unknown unit 'stone'"),
        ("OBX-5 | extract('(a+)+')", "this pattern could run for ever"),
        ("OBR-36 | local('Europe/Berln')", "'Europe/Berln' is not a time zone"),
        ("PID-3 | part(0)", "'part' takes numbers"),
        ("PID-3[after PV1].1", "a comparison is missing"),
        ("NTE[after pid]-3", "the name of a segment is missing"),
    ],
)
def test_mistakes_are_told(text: str, fact: str) -> None:
    with pytest.raises(Mistake) as raised:
        value(text)
    assert fact in raised.value.fact


@pytest.mark.parametrize(
    "pattern",
    [
        "(a|a)" * 30,
        "a?" * 60 + "a" * 60,
        "(a?)?",
        "a{0,99}a{0,99}a{0,99}a{0,99}",
        ".*.*.*.*",
        "a{,250}" * 5 + "b",
        "a{1,}" * 5 + "b",
        "(((a|a)|a)|a)" * 14,
        "(((a|a))|((a|a)))" * 11 + "b",
        "a??" * 30 + "b",
        "(a{,9})" * 9,
        "(a*){2}",
        "(a|b)+",
        "(a+)+",
        "(?=a)*",
        r"(a)\1*",
        "(a*)*?",
    ],
)
def test_patterns_that_multiply_are_refused(pattern: str) -> None:
    with pytest.raises(Mistake):
        safe_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"[A-Z0-9_ -]{1,16}", r"\d{4}-?\d{2}-?\d{2}", "(CT|MR|US)[0-9]+", "a*b*c*", r"[?*+]\*\?x"],
)
def test_patterns_of_every_day_are_fine_and_quick(pattern: str) -> None:
    began = time.process_time()
    safe_pattern(pattern).fullmatch("abc" * 83 + "!")
    safe_pattern(pattern).fullmatch("a" * 249 + "!")
    assert time.process_time() - began < 1


def test_the_page_of_functions_is_current() -> None:
    page = (ROOT / "docs" / "mapping-functions.md").read_text(encoding="utf-8")
    assert page == reference.markdown(), "write it anew: broker map functions --markdown"


def test_every_function_is_explained() -> None:
    for function in TABLE.values():
        assert function.summary.endswith("."), function.name
        assert function.example.gives, function.name
    assert len(list(reference.lines())) == 2 * len(TABLE)
    assert {each["name"] for each in reference.plain()} == TABLE.keys()


SITE = """\
mapping: site
format: 1
accept: {messages: [ORM^O01]}
tables:
  t: {file: t.csv, key: [modality, ward], value: ae}
actions:
  - otherwise: update
attributes:
  ScheduledProcedureStepSequence:
    item:
      ScheduledStationAETitle: (OBR-24, PV1-3) | lookup(t)
"""


@pytest.mark.parametrize(
    ("table", "old", "new", "fact"),
    [
        ("modality,ward,ae\nCT,A,CT1\nCT,*,CT2\n", "", "", ""),
        ("modality,ward,ae\nCT,A,CT1,x\n", "", "", "t.csv:2:10: has more cells than columns"),
        ("modality,ward,ae\nCT,A,1\nCT,A,2\n", "", "", "t.csv:3:1: 'CT|A' again; the first"),
        ("modality,wrd,ae\n", "", "", "5:36: t.csv has no column 'ward' — did you mean 'wrd'?"),
        ("modality,ward,ae\n\0", "", "", "t.csv:2:1: holds a NUL byte"),
        ('modality,ward,ae\n"CT', "", "", "t.csv:2:1: this quote is never closed"),
        ("modality,ward,ae\n", "t.csv,", "t.csv, on_miss: default,", "there is no default to give"),
        ("modality,ward,ae\n", "t.csv,", "t.csv, on_mis: default,", "unknown key 'on_mis'"),
        ("modality,ward,ae\n", "t.csv,", "t.csv, rows: {CT: X},", "'CT' has 1 parts, the key"),
        ("modality,ward,ae\n", "t.csv,", "t.csv, rows: {CT|B: X},", ""),
        ("x" * 1_000_001, "", "", "is too long, the limit is 1,000,000 bytes"),
        ("modality,ward,ae\nCT,Größe,1\n", "", "", "is not UTF-8"),
    ],
)
def test_a_table_in_a_file_is_judged(
    written: Callable[..., Path], table: str, old: str, new: str, fact: str
) -> None:
    folder = written(SITE.replace(old, new) if old else SITE)
    codec = "latin-1" if "UTF-8" in fact else "utf-8"
    (folder / "t.csv").write_bytes(table.encode(codec))
    found = [str(each).replace(f"{folder}/", "") for each in check(folder)]
    errors = [each for each in found if "warning" not in each]
    assert len(errors) == bool(fact), found
    assert not fact or fact in errors[0], found
