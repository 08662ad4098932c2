"""Paths to closures that read the fields of a message or group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.hl7.message import NULL, Repetition, Segment
from broker.mapping.language.reading import origin_of
from broker.mapping.language.scope import Scope, Select
from broker.mapping.language.syntax import After, Mistake, Path
from broker.mapping.values.evaluation import Closure, Evaluation, Value


def compile_path(
    path: Path,
    scope: Scope,
    pick: Select | None,
    choose: Select | None,
    *,
    whole: bool = False,
) -> Closure:
    """The closure of a path; `pick` and `choose` are its selectors of segments and repetitions.

    Raises Mistake.
    """
    if not path.segment:
        if not scope.element:
            fact = f"'{path.label}' has nothing to start from"
            hint = "paths that start with a dot stand in [ ] or under each:"
            raise Mistake(fact, hint, path.offset, len(path.label))
        return _relative_path(path, scope)
    if choose is None and path.segment_selector is None:
        return _plain_path(path, scope, whole=whole)
    return _selected_path(path, _finder(path, scope, pick), choose, whole=whole)


def _selected_path(
    path: Path,
    find: Callable[[Evaluation], list[Segment]],
    choose: Select | None,
    *,
    whole: bool,
) -> Closure:
    number, origin = path.field, origin_of(path)
    take = _said if whole else _taker(path.component or 1, path.subcomponent)

    def read(evaluation: Evaluation) -> Value:
        value: Value = []
        for segment in find(evaluation):
            said = segment.repetitions(number)
            if choose is not None:
                said = choose(evaluation, said)
            found = take(said)
            if found:
                evaluation.origin = origin
                evaluation.origin_segment = segment
                value = found if not value else [*_listed(value), *_listed(found)]
        return value

    return read


def _plain_path(path: Path, scope: Scope, *, whole: bool) -> Closure:
    """The path without any selection, which is nearly every path of an order message.

    Most values stand in the field as they are, and nobody splits it into repetitions.
    """
    name, number, origin = path.segment, path.field, origin_of(path)
    component = path.component or 1
    take = _said if whole else _taker(component, path.subcomponent)
    split = whole or path.subcomponent > 0
    from_element = scope.element == name

    def read(evaluation: Evaluation) -> Value:
        if from_element:
            segment: Segment | None = evaluation.element
            if segment is None:
                return ""
            raw = segment.field(number)
        else:
            found = evaluation.firsts[name]
            if found is None or len(found[1]) <= number:
                return ""
            raw = found[1][number]
            segment = found[0]
        if not raw:
            return ""
        separators = evaluation.separators
        if split or separators.repetition in raw or separators.escape in raw:
            value = take(segment.repetitions(number))
        elif raw == NULL or (component == 1 and separators.component not in raw):
            value = raw
        else:
            value = _component(raw, separators.component, component)
        if value:
            evaluation.origin = origin
            evaluation.origin_segment = segment
        return value

    return read


def _component(raw: str, separator: str, number: int) -> str:
    parts = raw.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


def _relative_path(path: Path, scope: Scope) -> Closure:
    first, second, third = path.field, path.component, path.subcomponent
    if scope.element == ".":  # a repetition: .component.subcomponent

        def read(evaluation: Evaluation) -> Value:
            repetition: Repetition = evaluation.element
            return NULL if repetition.raw == NULL else repetition.text(first, second)

        return read
    take = _taker(second or 1, third)  # a segment: .field.component.subcomponent
    return lambda evaluation: (
        take(evaluation.element.repetitions(first)) if evaluation.element is not None else ""
    )


def _taker(component: int, subcomponent: int) -> Callable[[list[Repetition]], Value]:
    def take(repetitions: list[Repetition]) -> Value:
        if len(repetitions) == 1:
            only = repetitions[0]
            return NULL if only.raw == NULL else only.text(component, subcomponent)
        texts = [
            NULL if each.raw == NULL else each.text(component, subcomponent) for each in repetitions
        ]
        said = [text for text in texts if text]
        return said[0] if len(said) == 1 else said

    return take


def _said(repetitions: list[Repetition]) -> list[Repetition]:
    """Repetitions in which something is said: `^^^` is nothing."""
    return [each for each in repetitions if each.raw.strip("^&~ ")]


def _listed(value: Value) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _finder(
    path: Path, scope: Scope, select: Select | None
) -> Callable[[Evaluation], list[Segment]]:
    name = path.segment
    if scope.element == name and path.segment_selector is None:
        return lambda evaluation: [evaluation.element] if evaluation.element is not None else []
    if isinstance(path.segment_selector, After):
        return _follower(name, path.segment_selector.segment)

    def find(evaluation: Evaluation) -> list[Segment]:
        found = evaluation.segments.all(name)  # type: ignore[union-attr] # inbound
        return select(evaluation, found) if select is not None else found[:1]

    return find


def _follower(name: str, leader: str) -> Callable[[Evaluation], list[Segment]]:
    """Segments that follow one named `leader`, others of their own name between at most."""

    def find(evaluation: Evaluation) -> list[Segment]:
        if not evaluation.segments or not evaluation.segments.first(name):
            return []
        found: list[Segment] = []
        last = ""
        for segment in evaluation.segments.segments:
            if segment.name != name:
                last = segment.name
            elif last == leader:
                found.append(segment)
        return found

    return find
