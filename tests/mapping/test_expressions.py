"""The expression language: what paths, alternatives, sums, functions and conditions give."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.hl7.message import NULL, parse
from broker.mapping.language.expressions import compile_condition, compile_expression
from broker.mapping.language.parsing import parse_condition, parse_expression
from broker.mapping.language.patterns import safe_pattern
from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import Mistake
from broker.mapping.trials.reference import result
from broker.mapping.values.evaluation import Evaluation
from broker.mapping.values.functions import TABLE, Table

SEX = Table("sex", {"M": "M", "W": "F"}, None, {"M": "M", "W": "F"})
SCOPE = Scope({"sex": SEX}, "", frozenset({"issuer"}))
MESSAGE = parse(
    "\r".join(
        [
            "MSH|^~\\&|RIS|NORTH",
            'PID|1||E1^^^EPI^EPI~0082^^^NORTH&1.2.3&ISO^MR~9^^^SSA^SS||ROE^ANN^""||1957|W|""',
            "OBX|1|NM|A^Body Height||1.8|m",
            "OBX|2|NM|B^Body Weight||81|kg",
            "OBR|1|^^|F1|CT1^Kopf \\T\\ Hals^L||||||||||a~b",
        ]
    )
)


def evaluation(**given: Any) -> Evaluation:
    return Evaluation(MESSAGE, site_zone=ZoneInfo("Europe/Berlin"), issuer="NORTH", **given)


def value(text: str, state: Evaluation | None = None) -> Any:
    tree = parse_expression(text)
    return compile_expression(tree, SCOPE)(state or evaluation())


def holds(text: str) -> bool:
    return compile_condition(parse_condition(text), SCOPE)(evaluation())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PID-5.1", "ROE"),
        ("PID-5", "ROE"),  # without a component the first one, as HL7 has it
        ("OBR-4.2", "Kopf & Hals"),
        ("PID-99", ""),
        ("ZZZ-1", ""),
        ("PID-3.1", ["E1", "0082", "9"]),
        ("PID-3[2].1", "0082"),
        ("PID-3[last].1", "9"),
        ("PID-3[.5 = MR].4.2", "1.2.3"),
        ("PID-3[.5 = 'MR' and .1 valued].1", "0082"),
        ("OBX[.3.2 = 'Body Weight']-5", "81"),
        ("OBX[2]-5", "81"),
        ("OBX[all]-5", ["1.8", "81"]),
        ("OBX-5", "1.8"),
        ("PID-9", NULL),
        ("PID-9.4", NULL),  # a null field is null in every component
        ("PID-5.3", NULL),
        ("PID-9 ?? PID-5.1", NULL),  # null is an answer: it stops the search
        ("PID-20 ?? 'x'", "x"),
        ("PID-20 ?? PID-21 ?? PID-5.2", "ANN"),
        ("PID-5.1 + '-' + PID-5.2", "ROE-ANN"),
        ("PID-20 + '-' + PID-21", ""),  # constants alone say nothing
        ("PID-9 + '-' + PID-21", NULL),
        ("PID-20 ?? PID-5.1 | lower", "roe"),  # ?? binds tighter than |
        ("PID-20 ?? (PID-5.1 | lower)", "roe"),
        ("PID-8 | lookup(sex)", "F"),
        ("OBR-14 | upper", ["A", "B"]),
        ("PID-9 | upper", NULL),
        ("'it''s'", "it's"),
    ],
)
def test_expressions_give(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PID-8 = W", True),
        ("PID-8 != W", False),
        ("PID-8 in (M, 'W')", True),
        ("PID-20 = ''", True),
        ("PID-9 valued", False),  # null counts as empty in conditions
        ("not PID-9 valued and PID-8 valued", True),
        ("PID-8 = M or PID-5.1 matches 'R[A-Z]+'", True),
        ("PID-5.1 matches 'R'", False),  # the whole text
        ("(PID-20 ?? PID-8) = W", True),
        ("not (PID-8 = M or PID-8 = W)", False),
        ("PID-3[.5 = SS].1 valued", True),
    ],
)
def test_conditions_hold(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_the_rank_tells_which_alternative_spoke() -> None:
    state = evaluation()
    value("PID-5.1", state)
    assert state.rank == 0
    value("PID-20 ?? PID-21 ?? PID-5.1", state)
    assert state.rank == 2
    assert state.origin is not None
    assert state.origin.label == "PID-5.1"


def test_an_alternative_that_came_to_nothing_leaves_no_rank() -> None:
    state = evaluation()
    assert value("(PID-20 ?? 'zz' | lookup(sex)) ?? PID-5.1", state) == "ROE"
    assert state.rank == 1


def test_a_miss_with_a_default_ranks_as_a_default() -> None:
    state = evaluation()
    assert value("PID-5.1 | lookup(sex, O)", state) == "O"
    assert state.rank == 99


def test_a_miss_without_a_default_is_absent_and_told_without_the_value() -> None:
    state = evaluation()
    assert value("PID-5.1 | lookup(sex)", state) == ""
    assert state.warnings == ["PID-5.1 is not in table 'sex'"]


@pytest.mark.parametrize(
    ("text", "fact", "hint", "offset"),
    [
        ("PID-5 | persn", "unknown function 'persn'", "did you mean 'person'?", 8),
        ("PID-5 | lookup(sx)", "unknown table 'sx'", "did you mean 'sex'?", 15),
        ("PID-5 | left", "'left' takes 1 arguments, not 0", "", 8),
        ("PID-5 | left(two)", "'left' takes numbers", "", 13),
        ("PID-0", "there is no field 0", "", 4),
        ("PID-5 ??", "a path, a 'text' or a name is missing", "", 8),
        ("OBR-4-2 | upper", "'-' is not expected here", "write OBR-4.2", 5),
        ("PID-5 'x'", "'x' is not expected here", "", 6),
        ("'open", "a text is not closed", "", 0),
        ("PID-5 | upper | person", "'person' needs a field and must be the first function", "", 16),
        (".5", "'.5' has nothing to start from", "", 0),
        ("PID-5 ; 3", "';' is not known", "", 6),
    ],
)
def test_mistakes_name_the_place(text: str, fact: str, hint: str, offset: int) -> None:
    with pytest.raises(Mistake) as raised:
        value(text)
    assert raised.value.fact == fact
    assert raised.value.offset == offset
    if hint:
        assert raised.value.hint == hint


@pytest.mark.parametrize(
    "pattern", ["(a+)+", "(a|b)*", "(?=a)", r"(a)\1", "a*b*c*d*", "[", "a" * 201]
)
def test_patterns_that_could_run_for_ever_are_refused(pattern: str) -> None:
    with pytest.raises(Mistake):
        safe_pattern(pattern)


@pytest.mark.parametrize("function", TABLE.values(), ids=lambda function: function.name)
def test_the_example_of_every_function_is_true(function: Any) -> None:
    assert result(function.example) == function.example.gives


TOKENS = [
    "PID",
    "-",
    "3",
    ".5",
    "[",
    "]",
    "(",
    ")",
    "=",
    "in",
    "'x'",
    "??",
    "|",
    "+",
    ",",
    "and",
    "not",
    "valued",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(" ".join))
def test_no_text_whatever_gives_anything_but_a_tree_or_a_mistake(text: str) -> None:
    for parse_it in (parse_expression, parse_condition):
        try:
            parse_it(text)
        except Mistake as mistake:
            offset = mistake.offset
        else:
            offset = 0
        assert 0 <= offset <= len(text)
