"""Paths that begin at what `each:` walks, and components that functions take: do they exist?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.mapping.compiling.kinds import Finding
from broker.mapping.language.mentioning import inside
from broker.mapping.language.syntax import (
    After,
    Alternatives,
    Condition,
    Expression,
    Given,
    Path,
    Pipe,
)
from broker.mapping.standards.dictionaries import path_mistake, segment_mistake

Walked = tuple[str, int]
"""A segment, or a field of it where its repetitions are walked."""


def judge_inside(
    tree: Expression | Condition, versions: Sequence[str], walked: Sequence[Walked]
) -> Iterator[Finding]:
    """Paths that start with a dot, and the segments after which others are looked for."""
    if isinstance(tree, Given):
        return  # judged where it is written
    if isinstance(tree, Path):
        yield from _judge_path(tree, versions, walked)
        return
    for each in inside(tree):
        yield from judge_inside(each, versions, walked)


def _judge_path(path: Path, versions: Sequence[str], walked: Sequence[Walked]) -> Iterator[Finding]:
    width = len(path.label)
    if not path.segment:
        wrong = [_relative_mistake(path, versions, *place) for place in walked]
        if wrong and all(wrong):
            fact, hint = wrong[0] or ("", "")
            yield Finding(fact, hint, path.offset, width)
        return
    selector = path.segment_selector
    if isinstance(selector, After) and (unknown := segment_mistake(versions, selector.segment)):
        yield Finding(*unknown, path.offset, width)


def _relative_mistake(
    path: Path, versions: Sequence[str], segment: str, field: int
) -> tuple[str, str] | None:
    numbers = (path.field, path.component, path.subcomponent)
    if field:
        return path_mistake(versions, segment, field, *numbers[:2])
    return path_mistake(versions, segment, *numbers)


def judge_arguments(pipe: Pipe, versions: Sequence[str]) -> Iterator[Finding]:
    """Components that `part` and `either` take of fields that do not have them."""
    call = pipe.calls[0]
    if call.function not in ("part", "either"):
        return
    numbers = [int(each) for each in call.arguments]
    wanted = [(each, 0) for each in numbers] if call.function == "either" else [(*numbers, 0)[:2]]
    for path in walked_by(pipe.source):
        for component, subcomponent in wanted:
            wrong = path_mistake(versions, *path, component, subcomponent) if path[1] else None
            if wrong:
                yield Finding(*wrong, call.offset, len(str(call)))


def walked_by(tree: Expression | None) -> tuple[Walked, ...]:
    """The fields whose repetitions an expression gives."""
    match tree:
        case Path(segment=segment, field=field) if segment:
            return ((segment, field),)
        case Given(tree=inner):
            return walked_by(inner)
        case Alternatives(choices):
            return tuple(each for choice in choices for each in walked_by(choice))
        case _:
            return ()
