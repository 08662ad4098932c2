"""One matching key as a test of stored values: every matching type of PS3.4 C.2.2.2."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR

from broker.worklist.query.fuzzy import alike
from broker.worklist.query.ranges import Range, date_range, full_time, time_range

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
SPANNED = frozenset({"DA", "TM"})
_KANA_VOICING = 8
"""Combining class of dakuten and handakuten: another letter, not an accent."""

Test = Callable[[Any], bool]


def criterion(keyword: str, key: Any, *, fuzzy: bool = False) -> Test | None:
    """Give the test that a key is, or None when it is universal or a date that nobody can read.

    An empty stored value answers no key but a universal one (PS3.4 K.2.2.1.1.1); of several stored
    values any will do (K.2.2.3), and so will any of several values of a key (`fuzzy`: see there).
    """
    vr = vr_of(keyword)
    if vr == "SQ":
        return _of_items(key, fuzzy=fuzzy)
    wanted = _wanted(key)
    if not wanted:
        return None
    if vr == "PN":
        return _of_names(wanted, fuzzy=fuzzy)
    if vr in SPANNED:
        return _of_span(vr, spans(vr, key))
    if vr in WILDCARD_VRS and any("*" in key or "?" in key for key in wanted):
        return _any_of(lambda value: any(glob(key, value) for key in wanted))
    return _any_of(frozenset(wanted).__contains__)


def _wanted(key: Any) -> list[str]:
    """Give what a key asks for, [] when it is universal."""
    keys = [str(k).strip() for k in key] if isinstance(key, list) else [str(key or "").strip()]
    return [] if any(k in ("", "*") for k in keys) else keys


def _any_of(matches: Callable[[str], bool]) -> Test:
    def test(stored: Any) -> bool:
        values = stored if isinstance(stored, list) else [stored]
        texts = (str(value).strip() for value in values if value is not None)
        return any(matches(text) for text in texts if text)

    return test


def _of_names(wanted: Sequence[str], *, fuzzy: bool) -> Test:
    if fuzzy:
        likes = [fold(key) for key in wanted]
        return _any_of(lambda value: any(alike(key, fold(value), glob) for key in likes))
    names = [[fold_name(group) for group in key.split("=")] for key in wanted]
    return _any_of(lambda value: any(_name_matches(name, value) for name in names))


def _name_matches(keys: Sequence[str], value: str) -> bool:
    """Match a name in any of its groups, or group by group when the key has groups."""
    groups = [fold_name(group) for group in value.split("=")]
    if len(keys) == 1:
        return any(group != "" and glob(keys[0], group) for group in groups)
    padded = groups + [""] * len(keys)
    return all(k in ("", "*") or glob(k, group) for k, group in zip(keys, padded, strict=False))


def spans(vr: str, key: Any) -> list[Range]:
    """Give the dates or times that a key asks for, any of which will do.

    [] when it is universal, or holds one that nobody can read: too long a list is seen.
    """
    read = date_range if vr == "DA" else time_range
    wanted = _wanted(key)
    found = [span for span in map(read, wanted) if span is not None]
    return found if len(found) == len(wanted) else []


def _of_span(vr: str, wanted: Sequence[Range]) -> Test | None:
    """Match dates and times by what they mean, ranges included (C.2.2.2.1.3, C.2.2.2.5)."""
    meant = _digits if vr == "DA" else full_time
    if not wanted:
        return None
    return _any_of(lambda value: any(s.low <= meant(value) <= s.high for s in wanted))


def _digits(date: str) -> str:
    return date.replace(".", "").replace("-", "")


def _of_items(key: Any, *, fuzzy: bool) -> Test | None:
    """Match every key of the one item in the same stored item (C.2.2.2.6)."""
    asked = key[0] if isinstance(key, list) and key and isinstance(key[0], Mapping) else {}
    each = ((k, criterion(k, value, fuzzy=fuzzy)) for k, value in asked.items())
    tests = [(keyword, test) for keyword, test in each if test is not None]
    if not tests:
        return None

    def test(stored: Any) -> bool:
        items = stored if isinstance(stored, list) else []
        return any(
            all(test(item.get(keyword)) for keyword, test in tests)
            for item in items
            if isinstance(item, Mapping)
        )

    return test


def fold(text: str) -> str:
    """Fold a name for matching: PN matches without regard to case and accents (K.6.1.3.2)."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in parts if unicodedata.combining(c) in (0, _KANA_VOICING))
    return unicodedata.normalize("NFC", bare)  # a Hangul syllable is one character for `?`


def fold_name(group: str) -> str:
    """Fold one group of a name, without blanks around its components and empty ones at its end."""
    return "^".join(part.strip() for part in fold(group).split("^")).rstrip("^")


def glob(pattern: str, text: str) -> bool:
    """Match `*` (any run) and `?` (exactly one), PS3.4 C.2.2.2.4.

    Greedy with one point to return to: no pattern that a peer sends can make it exponential.
    """
    at = mark = resume = 0
    star = -1
    while at < len(text):
        if mark < len(pattern) and pattern[mark] == "*":
            star, resume = mark, at
            mark += 1
        elif mark < len(pattern) and pattern[mark] in ("?", text[at]):
            at, mark = at + 1, mark + 1
        elif star >= 0:
            resume += 1
            at, mark = resume, star + 1
        else:
            return False
    return pattern[mark:].strip("*") == ""


@lru_cache(maxsize=1024)
def vr_of(keyword: str) -> str:
    """Give the value representation of a keyword that DICOM has."""
    return dictionary_VR(keyword)
