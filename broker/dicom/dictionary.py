"""The DICOM dictionary (PS3.6): keywords, tags, and what their value representations are."""

from __future__ import annotations

from functools import lru_cache

from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword

STANDARD_KEYWORDS = frozenset(filter(None, keyword_dict))
"""Everything but private attributes: whatever is in those need not be understood."""
TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
STRINGS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})
INTEGERS = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "UV": "<Q", "SV": "<q"}
FLOATS = {"FL": "<f", "FD": "<d"}
NUMBERS = INTEGERS | FLOATS
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
LONG_FORM = BINARY | {"SQ", "SV", "UC", "UR", "UT", "UV"}
KNOWN_VRS = TEXT | STRINGS | frozenset(NUMBERS) | LONG_FORM | {"AT"}


class UnencodableValue(Exception):
    """A value that no data set can carry; names the keyword, never the value."""

    def __init__(self, keyword: str, fact: str) -> None:
        super().__init__(f"{keyword}: {fact}")
        self.keyword = keyword
        self.fact = fact


# The keywords of the dictionary are some 5,000; peers may send any of 2**32 tags.
@lru_cache(maxsize=4096)
def known(tag: int) -> tuple[str, str]:
    """Return keyword and VR of a tag; ('', '') for private and unknown ones."""
    keyword = "" if tag >> 16 & 1 else keyword_for_tag(tag)
    # "US or SS" and the like: the first is the usual one.
    return (keyword, dictionary_VR(tag)[:2]) if keyword else ("", "")


# The callers' keywords come from mapping files and Table K.6-1, so that this stays small.
@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int:
    """Return the tag of a keyword. Raises UnencodableValue for one that DICOM does not have."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise UnencodableValue(keyword, "no such keyword in the DICOM dictionary")
    return tag


def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, '' for private and unknown ones."""
    return known(tag)[0]


@lru_cache(maxsize=4096)
def vr_of(keyword: str) -> str:
    """Return the VR of a keyword, of several the usual one. Raises UnencodableValue."""
    return dictionary_VR(tag_of(keyword))[:2]
