"""Fuzzy semantic matching of person names (PS3.4 C.2.2.2.1.2), once a scanner has negotiated it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

_WORDS = re.compile(r"[\s^=,.'’-]+")
_CODES = {
    **dict.fromkeys("bfpv", "1"),
    **dict.fromkeys("cgjkqsxz", "2"),
    **dict.fromkeys("dt", "3"),
    "l": "4",
    **dict.fromkeys("mn", "5"),
    "r": "6",
}


def alike(key: str, value: str, glob: Callable[[str, str], bool]) -> bool:
    """Tell whether each word of the key is like a word of the name, in whatever component.

    Both are folded (no case, no accents). Like is: equal, matched by the key's wildcards, or of
    the same Soundex code, so that Meier finds Mayer and John Doe finds Doe^John.
    """
    held = words(value)
    return bool(held) and all(any(_like(k, h, glob) for h in held) for k in words(key))


def words(name: str) -> tuple[str, ...]:
    """Give the words of a folded name, of all its groups and components."""
    return tuple(word for word in _WORDS.split(name) if word)


def _like(key: str, held: str, glob: Callable[[str, str], bool]) -> bool:
    if "*" in key or "?" in key:
        return glob(key, held)
    return key == held or (soundex(key) != "" and soundex(key) == soundex(held))


@lru_cache(maxsize=4096)
def soundex(word: str) -> str:
    """Give the Soundex code of a word: its first letter and three digits; '' of other scripts."""
    if not word.isascii() or not word.isalpha():
        return ""
    digits = (_CODES.get(letter, letter) for letter in word)
    return (word[0].upper() + "".join(_different(digits))[:3]).ljust(4, "0")


def _different(digits: Iterable[str]) -> Iterable[str]:
    """Give the digits after the first letter, equal ones only once; h and w do not part them."""
    last = next(iter(digits := iter(digits)), "")
    for digit in digits:
        if digit.isdigit() and digit != last:
            yield digit
        if digit not in "hw":
            last = digit
