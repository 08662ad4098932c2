"""Lines of an actions table that no message can reach, found by trying every combination."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from broker.mapping.syntax import (
    Compare,
    Condition,
    Every,
    Expression,
    Matches,
    Not,
    Some,
    Valued,
)

MOST_COMBINATIONS = 50_000
OTHER = "\x00"
"""Stands for every text that no condition names."""
WHERE_WRITTEN = re.compile(r"(?:offset=\d+|label='[^']*'),? ?")
Setting = Mapping[str, str]


def unreached(conditions: Sequence[Condition | None]) -> list[int]:
    """The lines that the ones above them leave nothing; None stands for a line that always holds.

    Nothing is claimed of a table with too many combinations to try.
    """
    domains: dict[str, set[str]] = {}
    for condition in conditions:
        for key, words in _words(condition) if condition is not None else ():
            domains.setdefault(key, {"", OTHER}).update(words)
    if prod(len(words) for words in domains.values()) > MOST_COMBINATIONS:
        return []
    waiting = set(range(len(conditions)))
    for values in product(*domains.values()):
        setting = dict(zip(domains, values, strict=True))
        waiting.discard(_first(conditions, setting))
        if not waiting:
            break
    return sorted(waiting)


def _first(conditions: Sequence[Condition | None], setting: Setting) -> int:
    holding = (n for n, each in enumerate(conditions) if each is None or _holds(each, setting))
    return next(holding, -1)


def _words(condition: Condition) -> Iterator[tuple[str, set[str]]]:
    match condition:
        case Compare(operand, texts):
            yield _key(operand), set(texts)
        case Valued(operand):
            yield _key(operand), set()
        case Matches(operand, pattern):
            yield _pattern(operand, pattern), set()
        case Not(inner):
            yield from _words(inner)
        case Every(inner_ones) | Some(inner_ones):
            for inner in inner_ones:
                yield from _words(inner)


def _holds(condition: Condition, setting: Setting) -> bool:
    match condition:
        case Compare(operand, texts, wanted):
            return (setting[_key(operand)] in texts) is wanted
        case Valued(operand):
            return setting[_key(operand)] != ""
        case Matches(operand, pattern):  # whether it matches is free: nothing is claimed too much
            return setting[_pattern(operand, pattern)] != ""
        case Not(inner):
            return not _holds(inner, setting)
        case Every(inner_ones):
            return all(_holds(inner, setting) for inner in inner_ones)
        case Some(inner_ones):
            return any(_holds(inner, setting) for inner in inner_ones)


def _key(operand: Expression) -> str:
    """The same for the same expression wherever it is written."""
    return WHERE_WRITTEN.sub("", repr(operand))


def _pattern(operand: Expression, pattern: re.Pattern[str]) -> str:
    return f"{_key(operand)} matches {pattern.pattern}"
