"""Conditions on the components of one repetition, as `PID-3[.5 = MR and .1 valued]` has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from re import Pattern
from typing import TypeGuard

from broker.hl7.message import NULL
from broker.mapping.language.syntax import (
    Compare,
    Condition,
    Every,
    Expression,
    Matches,
    Not,
    Path,
    Some,
    Valued,
)
from broker.mapping.values.texts import PATTERN_INPUT

Components = Sequence[str]
"""The unescaped components of a repetition."""
Predicate = Callable[[Components], bool]


def predicate_of(tree: Condition) -> Predicate | None:
    """The predicate where it asks for nothing but components; null counts as empty in it."""
    match tree:
        case Every(conditions) | Some(conditions):
            inner = [found for each in conditions if (found := predicate_of(each)) is not None]
            if len(inner) < len(conditions):
                return None
            return _every(inner) if isinstance(tree, Every) else _some(inner)
        case Not(condition):
            negated = predicate_of(condition)
            return _not(negated) if negated is not None else None
        case Compare(operand, texts, wanted) if _is_component(operand):
            return _among(operand.field - 1, frozenset(texts), wanted)
        case Matches(operand, pattern) if _is_component(operand):
            return _matching(operand.field - 1, pattern)
        case Valued(operand) if _is_component(operand):
            return _among(operand.field - 1, frozenset({""}), wanted=False)
    return None


def _is_component(tree: Expression) -> TypeGuard[Path]:
    return isinstance(tree, Path) and not tree.segment and tree.field > 0 and not tree.component


def _every(predicates: Sequence[Predicate]) -> Predicate:
    if len(predicates) == 2:  # nearly always
        first, second = predicates
        return lambda components: first(components) and second(components)
    return lambda components: all(each(components) for each in predicates)


def _some(predicates: Sequence[Predicate]) -> Predicate:
    return lambda components: any(each(components) for each in predicates)


def _not(predicate: Predicate) -> Predicate:
    return lambda components: not predicate(components)


def _among(at: int, words: frozenset[str], wanted: bool) -> Predicate:
    def predicate(components: Components) -> bool:
        text = components[at] if at < len(components) else ""
        return (("" if text == NULL else text.strip()) in words) is wanted

    return predicate


def _matching(at: int, pattern: Pattern[str]) -> Predicate:
    """What is too long for a pattern does not match it."""

    def predicate(components: Components) -> bool:
        text = components[at].strip() if at < len(components) else ""
        text = "" if text == NULL else text
        return len(text) <= PATTERN_INPUT and pattern.fullmatch(text) is not None

    return predicate
