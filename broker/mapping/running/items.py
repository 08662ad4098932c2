"""How a sequence is filled: one item for each element, or one when there is nothing to walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from broker.mapping.language.scope import Test
from broker.mapping.running.leaf import ABSENT, Item, Leaf, Place
from broker.mapping.values.evaluation import Evaluation
from broker.worklist.changes import FILLS_GAPS, Attributes, Ranked, plain


class Rule(Protocol):
    """What fills an attribute: a leaf, a sequence, or either made ready for a message."""

    @property
    def keyword(self) -> str: ...

    @property
    def value(self) -> Callable[[Evaluation], Any]: ...


@dataclass(frozen=True, slots=True)
class Items:
    """How a sequence is filled: one item for each element, or one when there is nothing to walk."""

    keyword: str
    rules: tuple[Leaf | Items, ...]
    elements: Callable[[Evaluation], Sequence[Any]]
    test: Test | None = None
    leave_out: tuple[str, ...] = ()
    # Items of steps are records of their own and keep ranks; every other sequence is one value.
    keeps_ranks: bool = False
    needs: frozenset[Place] | None = None
    # The rules made ready for the message at hand, where they are.
    ready: tuple[Rule, ...] | None = None
    deciding: tuple[Rule, ...] = ()

    def made_ready(self, rules: tuple[Rule, ...]) -> Items:
        """The same with its rules made ready."""
        return replace(self, ready=rules, deciding=self._deciding(rules))

    def _deciding(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        """Those that tell whether an item is left out."""
        return tuple([rule for rule in rules if rule.keyword in self.leave_out])

    def value(self, evaluation: Evaluation) -> Any:
        """ABSENT or the items; an item in which the message says nothing is none."""
        evaluation.origin = evaluation.origin_segment = None
        if self.test is not None and not self.test(evaluation):
            return ABSENT
        rules = self.rules if self.ready is None else self.ready
        deciding = self._deciding(rules) if self.ready is None else self.deciding
        element, item = evaluation.element, evaluation.item
        items: list[Attributes] = []
        for number, each in enumerate(self.elements(evaluation), 1):
            evaluation.element = each
            evaluation.item = {}
            marks = _marks(evaluation)
            if deciding and not marks:
                fill(deciding, evaluation, evaluation.item)
                if _says_something(evaluation.item) and self._left_out(evaluation):
                    continue  # nobody asks for the rest of it
                evaluation.item = {}
            fill(rules, evaluation, evaluation.item)
            left_out = self._left_out(evaluation)
            if marks:
                _tell(evaluation, marks, Item(number, getattr(each, "raw", "")), left_out)
            if not left_out:
                items.append(self._kept(evaluation.item))
        evaluation.element, evaluation.item = element, item
        return items or ABSENT

    def _left_out(self, evaluation: Evaluation) -> str:
        """Why what was filled is no item, '' when it is one."""
        outer, inner = evaluation.attributes, evaluation.item
        if not _says_something(inner):
            return "the message says nothing for it"
        for keyword in self.leave_out:
            if plain(inner.get(keyword)) != plain(outer.get(keyword)):
                return ""
        return f"its {', '.join(self.leave_out)} is the order's own" if self.leave_out else ""

    def _kept(self, item: Attributes) -> Attributes:
        if self.keeps_ranks:
            return item
        return {keyword: plain(value) for keyword, value in item.items() if value is not None}


def _marks(evaluation: Evaluation) -> tuple[int, int] | None:
    watch = evaluation.watch
    return (len(watch.traced), len(watch.silent)) if watch is not None else None


def _tell(evaluation: Evaluation, marks: tuple[int, int], item: Item, left_out: str) -> None:
    """Say of what was traced since the marks which item it is of, or why there is none."""
    if evaluation.watch is None:
        return
    for noted, mark in zip((evaluation.watch.traced, evaluation.watch.silent), marks, strict=True):
        noted[mark:] = [
            replace(each, within=(item, *each.within), left_out=each.left_out or left_out)
            for each in noted[mark:]
        ]


def fill(rules: Sequence[Rule], evaluation: Evaluation, into: Attributes) -> None:
    for rule in rules:
        value = rule.value(evaluation)
        if value is not ABSENT:
            into[rule.keyword] = value


def _says_something(item: Attributes) -> bool:
    for value in item.values():  # noqa: SIM110 - nearly always the first does: no generator for it
        if value.__class__ is not Ranked or value.rank != FILLS_GAPS:
            return True
    return False
