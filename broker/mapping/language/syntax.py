"""Mapping expressions as a tree, and a mistake in one with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any


class Mistake(Exception):
    """Something wrong in one expression; offset and width are in its text."""

    def __init__(self, fact: str, hint: str = "", offset: int = 0, width: int = 1) -> None:
        super().__init__(fact)
        self.fact = fact
        self.hint = hint
        self.offset = offset
        self.width = width


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """A DICOM keyword that was worked out before (`A.B` = B of A's first item), or a given name."""

    steps: tuple[str, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Path:
    """An HL7 path. `segment` is '' for one that starts at what `each:` or a predicate looks at."""

    segment: str
    segment_selector: Selector | None
    field: int
    field_selector: Selector | None
    component: int
    subcomponent: int
    label: str
    offset: int


@dataclass(frozen=True, slots=True)
class Given:
    """An expression of the `let:` block, used by its name."""

    name: str
    tree: Expression


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[str, ...]
    offset: int
    places: tuple[int, ...] = field(default=(), repr=False, compare=False)

    def where(self, argument: str) -> tuple[int, int]:
        """Offset and width of an argument as it is written."""
        return dict(zip(self.arguments, self.places, strict=False))[argument], len(argument)

    def __str__(self) -> str:
        return f"{self.function}({', '.join(self.arguments)})" if self.arguments else self.function


@dataclass(frozen=True, slots=True)
class Sum:
    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """The key of a table with several key columns: (a, b)."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    choices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    source: Expression
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """`=`, `!=` and `in`: one operand against one or more texts."""

    operand: Expression
    texts: tuple[str, ...]
    wanted: bool


@dataclass(frozen=True, slots=True)
class Matches:
    operand: Expression
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Valued:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Not:
    condition: Condition


@dataclass(frozen=True, slots=True)
class Every:
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    conditions: tuple[Condition, ...]


Expression = Text | Name | Given | Path | Sum | Parts | Alternatives | Pipe
Condition = Compare | Matches | Valued | Not | Every | Some


@dataclass(frozen=True, slots=True)
class After:
    """The segments that follow one of another name, as comments follow what they are about."""

    segment: str


Selector = int | str | After | Condition
"""Which: a number, 'last', 'all', those after another segment, or those that meet a condition."""


def substituted(tree: Any, given: Mapping[str, Expression]) -> Any:
    """The tree with every name that `given` explains replaced by what it stands for."""
    if isinstance(tree, Name):
        name = tree.steps[0]
        return Given(name, given[name]) if name in given and len(tree.steps) == 1 else tree
    if isinstance(tree, tuple):
        return tuple(substituted(each, given) for each in tree)
    if not is_dataclass(tree) or isinstance(tree, (Path, Call, Text)):
        return tree
    parts = {each.name: substituted(getattr(tree, each.name), given) for each in fields(tree)}
    return replace(tree, **parts)  # type: ignore[type-var] # a dataclass
