"""Expressions that do nothing but read fields in turn and call functions on what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from broker.mapping.language.calling import arguments_of, function_of
from broker.mapping.language.predicates import Predicate, predicate_of
from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import After, Alternatives, Call, Expression, Given, Path, Pipe
from broker.mapping.values.evaluation import Origin

STEADY = frozenset(
    {
        *("alternate_code", "authority", "clinician", "code", "issuer", "join", "lookup", "map"),
        *("known_as", "nested_clinician", "qualifiers"),
    }
)
"""Functions of codes, physicians and places: neither the clock nor the sender counts."""
REST = frozenset({"authority", "issuer", "qualifiers"})
"""Functions of the components after the first."""
Kept = dict[str, tuple[Any, int]]
"""What steady functions made of a text: a hospital has few codes, rooms and physicians."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A function with its arguments; `whole` asks for repetitions, else it is given a text.

    What is `steady` gives the same for the same text always, and the same texts come again. What
    is `rest` does not even look at the first component, the number of an order or a visit.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    whole: bool
    steady: bool
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A field of the first segment of its name, and the functions for what it says.

    It is `alone` where others are asked when the functions make nothing of it: not in
    `(ORC-2 ?? OBR-2) | issuer`, where the functions are for the first of them that says anything.
    """

    origin: Origin
    calls: tuple[Applied, ...] = ()
    alone: bool = True
    kept: Kept = field(default_factory=dict, repr=False, compare=False)


def reading_of(tree: Expression | None, scope: Scope) -> tuple[Reading, ...]:
    """What an expression reads in turn till a field says something; () where it does more."""
    while isinstance(tree, Given):
        tree = tree.tree
    if isinstance(tree, Path):
        plain = tree.segment and not tree.subcomponent
        selected = tree.segment_selector is not None or tree.field_selector is not None
        return (Reading(origin_of(tree)),) if plain and not selected else ()
    if isinstance(tree, Pipe):
        return _piped(tree, scope)
    if isinstance(tree, Alternatives):
        found = [reading_of(choice, scope) for choice in tree.choices]
        return tuple(each for [each] in found) if all(len(each) == 1 for each in found) else ()
    return ()


def origin_of(path: Path) -> Origin:
    """The place that a path names."""
    return Origin(path.label, path.segment, path.field, path.component)


Choices = tuple[tuple[Origin, Predicate | None], ...]
"""Fields, and which of their repetitions are meant: None is all."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Repetitions that predicates choose: of the first of `choices` that finds some.

    Each choice is a field of the first segment of its name; `key` is that under which what was
    chosen is kept for all attributes that share an expression of the `let:` block.
    """

    choices: Choices
    calls: tuple[Applied, ...]
    key: tuple[str, bool] | None = None
    kept: Kept = field(default_factory=dict, repr=False, compare=False)


def selection_of(tree: Expression | None, scope: Scope) -> Selection | None:
    """The repetitions that an expression chooses for its functions; None where it does more."""
    if not isinstance(tree, Pipe):
        return None
    source, calls = tree.source, _calls(tree.calls, scope)
    if not calls or not calls[0].whole:
        return None
    key = (source.name, True) if isinstance(source, Given) else None
    source = source.tree if isinstance(source, Given) else source
    choices: list[tuple[Origin, Predicate | None]] = []
    for path in source.choices if isinstance(source, Alternatives) else (source,):
        if not isinstance(path, Path) or path.segment in ("", scope.element):
            return None
        predicate = _predicate(path)
        if path.segment_selector is not None or (path.field_selector and predicate is None):
            return None
        choices.append((origin_of(path), predicate))
    chosen = any(predicate is not None for _, predicate in choices)
    return Selection(tuple(choices), calls, key) if chosen else None


def _predicate(path: Path) -> Predicate | None:
    selector = path.field_selector
    if selector is None or isinstance(selector, (int, str, After)):
        return None
    return predicate_of(selector)


def _piped(pipe: Pipe, scope: Scope) -> tuple[Reading, ...]:
    readings = reading_of(pipe.source, scope)
    calls = _calls(pipe.calls, scope)
    if calls is None or any(each.calls for each in readings):
        return ()
    return tuple(Reading(each.origin, calls, alone=len(readings) == 1) for each in readings)


def _calls(calls: tuple[Call, ...], scope: Scope) -> tuple[Applied, ...] | None:
    applied: list[Applied] = []
    for each in calls:
        function = function_of(each)
        if function.takes == "value" or (function.takes == "field" and applied):
            return None
        arguments, whole = arguments_of(each, function, scope), function.takes == "field"
        rest = function.name in REST or (function.name == "part" and arguments[0] > 1)
        steady = rest or function.name in STEADY
        applied.append(Applied(function.call, arguments, whole, steady, rest))
    return tuple(applied)
