"""Does a worklist item answer a query, and with which attributes (PS3.4 K.2.2, K.6.1.2)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR

from broker.worklist.attributes import MATCHED, ROWS, STEPS, Kept
from broker.worklist.changes import Attributes
from broker.worklist.ranges import date_range, time_range, within

WILDCARD_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
START_DATE, START_TIME = "ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"
_TOGETHER = frozenset({START_DATE, START_TIME})
_NO_KEYS = frozenset({"QueryRetrieveLevel", "TimezoneOffsetFromUTC"})
"""Sent by habit, and no keys of this SOP Class: they ask for nothing."""
_KANA_VOICING = 8
"""Combining class of dakuten and handakuten: another letter, not an accent."""


@dataclass(frozen=True)
class Query:
    """What a scanner asks: keys on the item, keys on its step, and which of them come back."""

    top: Attributes
    step: Attributes | None

    @classmethod
    def of(cls, keys: Attributes) -> Query:
        """Read an identifier's keys; of several step items (illegal) the first is used."""
        items = keys.get(STEPS)
        top = {keyword: value for keyword, value in keys.items() if keyword != STEPS}
        if items is None:
            return cls(top, None)
        return cls(top, items[0] if items else {})

    def supported(self) -> bool:
        """Tell whether every key exists here (else pending is FF01, Table K.4-1)."""
        return all(_here(k, step=False) for k in self.top if k not in _NO_KEYS) and all(
            _here(k, step=True) for k in self.step or ()
        )

    def passed_over(self) -> list[str]:
        """Name the keys that say something nobody can read: they match everything."""
        step = self.step or {}
        readers = {START_DATE: date_range, START_TIME: time_range}
        return [
            keyword
            for keyword, read in readers.items()
            if _first(step.get(keyword)).strip(" *") and read(_first(step.get(keyword))) is None
        ]

    def matches(self, item: Attributes) -> bool:
        """Match every key that we match; the step's keys must meet in the one step."""
        step_keys, step = self.step or {}, item[STEPS][0]
        return (
            all(
                _matches(k, v, item.get(k))
                for k, v in self.top.items()
                if k in MATCHED and _here(k, step=False)
            )
            and all(
                _matches(k, v, step.get(k))
                for k, v in step_keys.items()
                if k in MATCHED and _here(k, step=True) and k not in _TOGETHER
            )
            and within(
                step.get(START_DATE, ""),
                step.get(START_TIME, ""),
                date_range(_first(step_keys.get(START_DATE))),
                time_range(_first(step_keys.get(START_TIME))),
            )
        )

    def answer(self, item: Attributes) -> Attributes:
        """Give only what was asked; a known attribute without a value comes back empty."""
        answer = {
            k: _returned(k, v, item.get(k))
            for k, v in self.top.items()
            if k in item or _here(k, step=False)
        }
        if self.step is not None:
            step = item[STEPS][0]
            asked = self.step or dict.fromkeys((*_WHOLE_STEP, *step), "")
            answer[STEPS] = [
                {
                    k: _returned(k, v, step.get(k))
                    for k, v in asked.items()
                    if k in step or _here(k, step=True)
                }
            ]
        return answer


_WHOLE_STEP = tuple(
    keyword
    for keyword, row in ROWS.items()
    if row.kept == "step" and row.returned in ("1", "1C", "2")
)


def fold(text: str) -> str:
    """Fold a name for matching: PN matches without regard to case and accents (K.6.1.3.2)."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in parts if unicodedata.combining(c) in (0, _KANA_VOICING))
    return unicodedata.normalize("NFC", bare)  # a Hangul syllable is one character for `?`


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


def _matches(keyword: str, key: Any, stored: Any) -> bool:
    """Match one key; a list of keys (UIDs, or a modality list) asks for any of them."""
    keys = [k.strip() for k in key] if isinstance(key, list) else [str(key or "").strip()]
    if not keys or any(k in ("", "*") for k in keys):
        return True
    values = stored if isinstance(stored, list) else [stored or ""]
    test = _test(_vr(keyword))
    return any(test(k, str(value).strip()) for k in keys for value in values)


def _test(vr: str) -> Callable[[str, str], bool]:
    if vr == "PN":
        return _name_matches
    return _text_matches if vr in WILDCARD_VRS else str.__eq__


def _text_matches(key: str, value: str) -> bool:
    # An empty stored value answers no key but a universal one (PS3.4 K.2.2.1.1.1).
    return value != "" and glob(key, value)


def _name_matches(key: str, value: str) -> bool:
    """Match a name in any of its groups, or group by group when the key has groups."""
    groups = [_name(group) for group in value.split("=")]
    keys = [_name(group) for group in key.split("=")]
    if len(keys) == 1:
        return any(group != "" and glob(keys[0], group) for group in groups)
    padded = groups + [""] * len(keys)
    return all(k in ("", "*") or glob(k, group) for k, group in zip(keys, padded, strict=False))


def _name(group: str) -> str:
    return "^".join(part.strip() for part in fold(group).split("^")).rstrip("^")


def _here(keyword: str, *, step: bool) -> bool:
    """Tell whether a key exists at this level: Modality means a step's, never the request's."""
    return keyword in ROWS and (ROWS[keyword].kept is Kept.STEP) == step


def _returned(keyword: str, asked: Any, held: Any) -> Any:
    """Narrow a held value to what was asked: of a sequence only the attributes of its key item."""
    if _vr(keyword) != "SQ":
        return "" if held is None else held
    wanted = asked[0] if isinstance(asked, list) and asked else {}
    if not wanted:
        return held or []
    return [
        {k: _returned(k, v, item.get(k)) for k, v in wanted.items() if k in item}
        for item in held or []
    ]


def _first(key: Any) -> str:
    value = key[0] if isinstance(key, list) and key else key
    return value if isinstance(value, str) else ""


@lru_cache(maxsize=1024)
def _vr(keyword: str) -> str:
    return dictionary_VR(keyword)
