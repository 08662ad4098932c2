"""Patterns that people write, judged before they run: none can run away."""

from __future__ import annotations

import re
from typing import Final

from broker.mapping.language.syntax import Mistake

CLASS: Final = re.compile(r"\\[\\()\[\]{}*+?|.]|\[\^?\]?(?:\\.|[^\]\\])*\]")
REPEATED: Final = re.compile(r"[*+?]|\{(\d*)(,)?(\d*)\}")
MOST_REPEATED: Final = 250
MOST_WAYS: Final = 20_000_000
LONGEST_PATTERN: Final = 200


def safe_pattern(text: str, offset: int = 0, *, searching: bool = False) -> re.Pattern[str]:
    """A pattern that cannot run away: no repeated groups, look-around or back-references.

    What is left can only multiply: the ways to match are counted and bounded.
    """
    width = len(text) + 2
    bare = CLASS.sub("x", text)
    if wrong := _refused_in(text, bare):
        raise Mistake(*wrong, offset, width)
    if _ways(bare, searching) > MOST_WAYS:
        hint = "fewer of * + ? {n,m} and |"
        raise Mistake("this pattern repeats too often", hint, offset, width)
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        fact = error.msg if isinstance(error, re.error) else f"{error}"
        raise Mistake(f"is not a pattern: {fact}", "", offset, width) from error


def _refused_in(text: str, bare: str) -> tuple[str, str] | None:
    """What a pattern may not hold: fact and hint."""
    if len(text) > LONGEST_PATTERN:
        return f"a pattern is at most {LONGEST_PATTERN} characters long", ""
    if "(?" in bare:
        return (
            "(?…) is not supported in a pattern",
            "no look-around, flags or named groups; ( ) is a group",
        )
    if re.search(r"\\[1-9]", bare):
        return "\\1 and the like are not supported in a pattern", "only groups, classes and | * + ?"
    if re.search(r"\)[*+{?]", bare):
        return "this pattern could run for ever", "only groups without * + ? { after them"
    counts = [int(each) for found in REPEATED.findall(bare) for each in found if each.isdecimal()]
    if any(count > MOST_REPEATED for count in counts):
        return f"a pattern repeats at most {MOST_REPEATED} times", "no longer text is looked at"
    return None


def _ways(pattern: str, searching: bool) -> int:
    """How many ways there are to match 250 characters, at most."""
    ways = 250 if searching else 1
    for match in REPEATED.finditer(pattern):
        if match[1] is None:
            ways *= 2 if match[0] == "?" else 250
        elif match[2]:
            least, most = int(match[1] or 0), int(match[3] or 250)
            ways *= max(1, most - least + 1)
    return ways * _choices(pattern)


def _choices(pattern: str) -> int:
    """How many ways there are through the alternatives of all groups, at most."""
    choices, branches = 1, [1]
    for sign in pattern:
        if sign == "(":
            branches.append(1)
        elif sign == "|":
            branches[-1] += 1
        elif sign == ")" and len(branches) > 1:
            choices *= branches.pop()
    return choices * branches[0]
