"""Mapping files that would cost too much, or break the judge: a complaint at its place, quickly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.mapping import loading
from broker.mapping.checking import check
from broker.mapping.language.patterns import safe_pattern
from broker.mapping.language.syntax import Mistake

HEAD = "mapping: x\nextends: ihe-orders\naccept: {messages: [ORM^O01], senders: [A|B]}\n"
Written = Callable[..., Path]


def facts(folder: Path) -> list[str]:
    return [f"{each.line}:{each.column} {each.fact}" for each in check(folder, examples=False)]


def test_names_that_double_each_other_are_bounded(written: Written) -> None:
    doubling = "".join(f"  a{n}: a{n - 1} + a{n - 1}\n" for n in range(1, 40))
    folder = written(f"{HEAD}let:\n  a0: PID-5\n{doubling}attributes: {{PatientComments: a39}}\n")
    assert "12:7 comes to 509 terms when its names are written out" in facts(folder)


def test_names_that_lean_on_each_other_are_bounded(written: Written) -> None:
    chain = "".join(f"  a{n}: a{n - 1}\n" for n in range(1, 900))
    folder = written(f"{HEAD}let:\n  a0: PID-5\n{chain}attributes: {{PatientComments: a899}}\n")
    assert "65:8 comes to 61 levels when its names are written out" in facts(folder)


@pytest.mark.parametrize(
    ("pattern", "fact"),
    [
        ("a{1,99999999999}", "a pattern repeats at most 250 times"),
        ("a{99999999999}", "a pattern repeats at most 250 times"),
        ("a{,9999}", "a pattern repeats at most 250 times"),
        ("a{,99}a{,99}a{,99}a{,99}", "this pattern repeats too often"),
        ("(?<=x)y", "(?…) is not supported in a pattern"),
        (r"(a)\1", r"\1 and the like are not supported in a pattern"),
        ("(a+)+", "this pattern could run for ever"),
        ("a" * 201, "a pattern is at most 200 characters long"),
        ("(" * 150 + ")" * 150, "a pattern is at most 200 characters long"),
    ],
)
def test_patterns_are_refused_for_what_is_wrong_with_them(pattern: str, fact: str) -> None:
    with pytest.raises(Mistake) as raised:
        safe_pattern(pattern, searching=True)
    assert fact in raised.value.fact


def test_a_mistake_of_the_judge_is_a_complaint_about_the_file(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OverflowError("holds a value")

    monkeypatch.setattr(loading, "compile_inbound", broken)
    (complaint,) = check(written(HEAD))
    assert complaint.file.endswith("site.yaml")
    assert complaint.fact.startswith("cannot be judged: OverflowError at test_bounds.py:")
    assert "value" not in str(complaint)
