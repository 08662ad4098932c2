"""The line of an actions table that decides; few codes decide, so what they meant is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.hl7.header import STANDARD
from broker.mapping.language.mentioning import inside
from broker.mapping.language.scope import Test
from broker.mapping.language.syntax import (
    Condition,
    Expression,
    Given,
    Name,
    Parts,
    Path,
    Pipe,
    Sum,
    Text,
)
from broker.mapping.running.leaf import Place
from broker.mapping.values.evaluation import Evaluation
from broker.worklist.changes import Action

MOST_KEPT: Final = 512
LONGEST_KEPT: Final = 250
MOST_PLACES: Final = 8


@dataclass(frozen=True, slots=True)
class ActionLine:
    """One line of an actions table."""

    action: Action
    test: Test | None
    note: str
    place: str


class Decisions:
    """An actions table; what plain fields have decided is not asked again."""

    def __init__(self, lines: Sequence[ActionLine], places: Sequence[Place] | None) -> None:
        """`places` are the fields that all conditions ask, None where they ask for more."""
        self.lines = tuple(lines)
        self._places = places
        self._known: dict[tuple[str, ...], ActionLine] = {}

    def __len__(self) -> int:
        """How many decisions are remembered."""
        return len(self._known)

    def line_for(self, evaluation: Evaluation) -> ActionLine:
        """The first line whose condition holds."""
        if self._places is None or evaluation.separators is not STANDARD or evaluation.watch:
            return self._decided(evaluation)
        said = tuple([_raw(evaluation, *place) for place in self._places])
        line = self._known.get(said)
        if line is None:
            line = self._decided(evaluation)
            text = "".join(said)
            if STANDARD.escape not in text and len(text) <= LONGEST_KEPT:
                if len(self._known) >= MOST_KEPT:
                    self._known.clear()
                self._known[said] = line
        return line

    def _decided(self, evaluation: Evaluation) -> ActionLine:
        return next(each for each in self.lines if each.test is None or each.test(evaluation))


def _raw(evaluation: Evaluation, name: str, number: int) -> str:
    found = evaluation.firsts[name]
    return found[1][number] if found is not None and number < len(found[1]) else ""


def asked_by(conditions: Iterable[Condition]) -> tuple[Place, ...] | None:
    """The fields that conditions ask, where they ask for nothing else and for few."""
    places: dict[Place, None] = {}
    for condition in conditions:
        found = _asked(condition)
        if found is None:
            return None
        places.update(dict.fromkeys(found))
    return tuple(places) if len(places) <= MOST_PLACES else None


def _asked(tree: Condition | Expression) -> list[Place] | None:
    if isinstance(tree, Path):
        selected = tree.segment_selector is not None or tree.field_selector is not None
        return [(tree.segment, tree.field)] if tree.segment and not selected else None
    if isinstance(tree, (Given, Name, Parts, Pipe, Sum, Text)):
        return None
    found = [_asked(each) for each in inside(tree)]
    if any(each is None for each in found):
        return None
    return [place for each in found for place in each or ()]
