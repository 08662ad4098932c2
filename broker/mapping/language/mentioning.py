"""What an expression mentions: paths, calls, names and pipes, for checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from broker.mapping.language.syntax import (
    After,
    Alternatives,
    Call,
    Compare,
    Condition,
    Every,
    Expression,
    Given,
    Matches,
    Name,
    Not,
    Parts,
    Path,
    Pipe,
    Some,
    Sum,
    Valued,
)


def paths_in(tree: Expression | Condition) -> Iterator[Path]:
    """Every path with a segment, predicates included, in the order written."""
    yield from (each for each in _walk(tree) if isinstance(each, Path) and each.segment)


def fields_in(tree: Expression | Condition) -> Iterator[tuple[str, int]]:
    """Segment and number of every field that is read, those that select a segment too."""
    for path in paths_in(tree):
        yield path.segment, path.field
        yield from ((each.segment, each.field) for each in selecting(path))


def selecting(path: Path) -> Iterator[Path]:
    """The paths that predicates begin with a point, with the segment and field they belong to."""
    for selector in (path.segment_selector, path.field_selector):
        if selector is None or isinstance(selector, (int, str, After)):
            continue
        for each in _walk(selector):
            if not isinstance(each, Path) or each.segment:
                continue
            if selector is path.segment_selector:
                yield replace(each, segment=path.segment)
            else:
                yield replace(
                    each,
                    segment=path.segment,
                    field=path.field,
                    component=each.field,
                    subcomponent=each.component,
                )


def calls_in(tree: Expression | Condition) -> Iterator[Call]:
    """Every function call, in the order written."""
    for each in _walk(tree):
        if isinstance(each, Pipe):
            yield from each.calls


def names_in(tree: Expression | Condition) -> Iterator[str]:
    """Every name of the `let:` block that is used."""
    yield from (each.name for each in _walk(tree) if isinstance(each, Given))


def heads_in(tree: Expression | Condition) -> Iterator[Name]:
    """Every name that no `let:` block has explained, in the order written."""
    yield from (each for each in _walk(tree) if isinstance(each, Name))


def _walk(tree: Expression | Condition) -> Iterator[Expression | Condition]:
    yield tree
    for inner in inside(tree):
        yield from _walk(inner)


def inside(tree: Expression | Condition) -> tuple[Expression | Condition, ...]:
    """The expressions and conditions that one is made of, in the order written."""
    match tree:
        case Path(segment_selector=first, field_selector=second):
            return tuple(
                each
                for each in (first, second)
                if each is not None and not isinstance(each, (int, str, After))
            )
        case Sum(terms) | Parts(terms):
            return terms
        case Alternatives(choices):
            return choices
        case Pipe(source) | Given(tree=source):
            return (source,)
        case Compare(operand) | Matches(operand) | Valued(operand):
            return (operand,)
        case Not(condition):
            return (condition,)
        case Every(conditions) | Some(conditions):
            return conditions
        case _:
            return ()


def pipes_in(tree: Any) -> list[Pipe]:
    found = [tree] if isinstance(tree, Pipe) else []
    for name in ("choices", "terms", "conditions"):
        for inner in getattr(tree, name, ()):
            found += pipes_in(inner)
    for name in ("source", "operand", "condition"):
        if hasattr(tree, name):
            found += pipes_in(getattr(tree, name))
    return found
