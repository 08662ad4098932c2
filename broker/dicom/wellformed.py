"""Which values of a data set their value representation does not allow (PS3.5 §6.2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import MAX_VALUE_LEN

TEXT: Final = frozenset({"LO", "LT", "PN", "SH", "ST"})
# pydicom's validators say the same, in 6 µs a value; a report of a scanner has a hundred.
FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    "AE": re.compile(r"[ -\[\]-~]+"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]+"),
    "DA": re.compile(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"),
    "DS": re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d+ *"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"),
    "UI": re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*"),
}
"""What a value of each VR must be; of text it is the length alone that counts."""
PER_GROUP: Final = 64
"""Characters of one component group of a PN."""


class Odd(NamedTuple):
    """One attribute with such a value, behind the sequences that it is in; never the value."""

    attribute: str
    too_long: bool


def odd_values(
    attributes: Mapping[str, Any], skipped: Collection[str] = (), place: str = ""
) -> Iterator[Odd]:
    """Name what is not as its VR wants it, leaving out the sequences `skipped`."""
    for keyword, value in attributes.items():
        where = f"{place}{keyword}"
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Mapping):
                if keyword not in skipped:
                    yield from odd_values(one, skipped, f"{where}.")
            elif one and (odd := _judged(keyword, str(one))) is not None:
                yield Odd(where, odd)


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID: digits and dots, no leading zeros, at most 64."""
    return len(text) <= MAX_VALUE_LEN["UI"] and FORMS["UI"].fullmatch(text) is not None


def _judged(keyword: str, value: str) -> bool | None:
    """Tell whether a value is too long (True), otherwise wrong (False) or as it must be (None)."""
    vr = _vr_of(keyword)
    form = FORMS.get(vr)
    if form is None and vr not in TEXT:
        return None
    longest = PER_GROUP if vr == "PN" else MAX_VALUE_LEN.get(vr)
    if longest and _length(value, vr) > longest:
        return vr != "UI"
    return None if form is None or form.fullmatch(value) else False


def _length(value: str, vr: str) -> int:
    return max(map(len, value.split("="))) if vr == "PN" else len(value)


@lru_cache(maxsize=4096)
def _vr_of(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag)[:2] if tag is not None else ""
