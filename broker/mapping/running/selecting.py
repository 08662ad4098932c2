"""A leaf of chosen repetitions for clean fields: each is split once, all that share it share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from broker.hl7.message import Repetition, Segment
from broker.mapping.language.reading import Choices, Selection
from broker.mapping.running.leaf import ABSENT, Leaf
from broker.mapping.running.ready import (
    CLEAN,
    EMPTY,
    REPEATED,
    SEPARATOR,
    Fields,
    Ready,
    again,
    functions_of,
    worked_out,
)
from broker.mapping.values.evaluation import Evaluation, Origin

Chosen = tuple[Any, int, Origin | None, Any]
"""Repetitions with the number of the choice, its place and its segment, as `let:` keeps them."""


def ready_selection(leaf: Leaf, fields: Fields) -> Ready | None:
    """The leaf made ready, None where it is to work as it is."""
    if leaf.test is not None or any(option.test is not None for option in leaf.options):
        return None
    selections = [option.selection for option in leaf.options if option.selection is not None]
    if not selections or len(selections) < len(leaf.options):
        return None
    for selection in selections:
        kinds = {fields.kind(origin) for origin, _ in selection.choices}
        if not kinds <= {EMPTY, CLEAN, REPEATED} or kinds == {EMPTY}:
            return None
    if len(selections) == 1:
        return Ready(leaf.keyword, _selected(leaf, selections[0], last=not leaf.insists))
    if leaf.ranked or any(option.stands_on is not None for option in leaf.options):
        return None
    return Ready(leaf.keyword, _first_selected(leaf, selections))


def _first_selected(leaf: Leaf, selections: Sequence[Selection]) -> Callable[[Evaluation], Any]:
    """The first of several that says something; where none does, the leaf itself is asked."""
    values = [_selected(leaf, each, last=True) for each in selections]

    def value(evaluation: Evaluation) -> Any:
        for each in values:
            found = each(evaluation)
            if found is not ABSENT:
                return found
        return leaf.value(evaluation)

    return value


def _selected(leaf: Leaf, selection: Selection, *, last: bool) -> Callable[[Evaluation], Any]:
    functions, key = functions_of(selection.calls), selection.key
    choices = selection.choices
    keeps = selection.calls[0].rest and all(each.steady for each in selection.calls)
    kept = selection.kept if keeps else None

    def value(evaluation: Evaluation) -> Any:
        chosen = evaluation.kept.get(key) if key is not None else None
        if chosen is None:
            chosen = _chosen(evaluation, choices)
            if key is not None:
                evaluation.kept[key] = chosen
        said, evaluation.rank, evaluation.origin, evaluation.origin_segment = chosen
        if not said:
            return ABSENT if last else leaf.value(evaluation)
        if kept is None or len(said) > 1:
            return worked_out(leaf, evaluation, said, functions, None, "")
        text = f"{evaluation.rank}{SEPARATOR}{said[0].raw.partition(SEPARATOR)[2]}"
        known = kept.get(text)
        if known is not None:
            return again(leaf, *known)
        return worked_out(leaf, evaluation, said, functions, kept, text, last=last)

    return value


def _chosen(evaluation: Evaluation, choices: Choices) -> Chosen:
    firsts, field = evaluation.firsts, None
    segment: Segment | None = None
    split: list[tuple[Repetition, list[str]]] = []
    for number, (origin, predicate) in enumerate(choices):
        if field != (origin.segment, origin.field):
            field = origin.segment, origin.field
            first = firsts[origin.segment]
            segment = first[0] if first is not None else None
            said = segment.repetitions(origin.field) if segment is not None else ()
            split = [(each, each.components()) for each in said if each.raw.strip("^&~ ")]
        found = [each for each, parts in split if predicate is None or predicate(parts)]
        if found:
            return found, number, origin, segment
    return "", 0, None, None
