"""Lines of an actions table that no message can reach, found by trying every combination."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import prod

from broker.mapping.language.syntax import (
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
MOST_KNOWN = 64
"""Tables whose answer is kept: overlays seldom change the one of their base."""
Setting = Mapping[str, str]
Holds = Callable[[Setting], bool]


def unreached(conditions: Sequence[Condition | None]) -> Sequence[int]:
    """The lines that the ones above them leave nothing; None stands for a line that always holds.

    Nothing is claimed of a table with too many combinations to try.
    """
    return _unreached(tuple(conditions))


@lru_cache(MOST_KNOWN)
def _unreached(conditions: tuple[Condition | None, ...]) -> tuple[int, ...]:
    domains: dict[str, set[str]] = {}
    for condition in conditions:
        for key, words in _words(condition) if condition is not None else ():
            domains.setdefault(key, {"", OTHER}).update(words)
    if prod(len(words) for words in domains.values()) > MOST_COMBINATIONS:
        return ()
    lines = [None if each is None else _test(each) for each in conditions]
    waiting = set(range(len(lines)))
    for values in product(*domains.values()):
        setting = dict(zip(domains, values, strict=True))
        waiting.discard(_first(lines, setting))
        if not waiting:
            break
    return tuple(sorted(waiting))


def _first(lines: Sequence[Holds | None], setting: Setting) -> int:
    holding = (n for n, holds in enumerate(lines) if holds is None or holds(setting))
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


def _test(condition: Condition) -> Holds:
    """Whether a condition holds in a setting, with every name worked out once."""
    match condition:
        case Compare(operand, texts, wanted):
            key = _key(operand)
            return lambda setting: (setting[key] in texts) is wanted
        case Valued(operand):
            key = _key(operand)
            return lambda setting: setting[key] != ""
        case Matches(operand, pattern):  # whether it matches is free: nothing is claimed too much
            key = _pattern(operand, pattern)
            return lambda setting: setting[key] != ""
        case Not(inner):
            negated = _test(inner)
            return lambda setting: not negated(setting)
        case Every(inner_ones):
            every = [_test(inner) for inner in inner_ones]
            return lambda setting: all(holds(setting) for holds in every)
        case Some(inner_ones):
            some = [_test(inner) for inner in inner_ones]
            return lambda setting: any(holds(setting) for holds in some)


def _key(operand: Expression) -> str:
    """The same for the same expression wherever it is written."""
    return WHERE_WRITTEN.sub("", repr(operand))


def _pattern(operand: Expression, pattern: re.Pattern[str]) -> str:
    return f"{_key(operand)} matches {pattern.pattern}"
