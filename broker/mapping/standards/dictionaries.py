"""The judges of a mapping: hl7apy knows the HL7 paths, pydicom and Table K.6-1 the attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hl7apy import SUPPORTED_LIBRARIES, load_library
from hl7apy.exceptions import ChildNotFound
from pydicom.datadict import (
    dictionary_VM,
    dictionary_VR,
    keyword_dict,
    keyword_for_tag,
    tag_for_keyword,
)

from broker.mapping.standards.membership import misplaced
from broker.mapping.text.nearest import did_you_mean, meant
from broker.worklist.attributes import OWN, ROWS, STEPS, Kept

STEP_KEYWORDS = frozenset(keyword for keyword, row in ROWS.items() if row.kept is Kept.STEP)
TAG = re.compile(r"\(?([0-9A-Fa-f]{4})[, ]*([0-9A-Fa-f]{4})\)?")
WORD = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z][a-z0-9]+")
VARIES = frozenset({"varies", "Varies", None})


@lru_cache(maxsize=4096)
def field_entry(version: str, segment: str, number: int) -> Any:
    """hl7apy's entry of a field: (kind, children, data type, name, …), or None."""
    try:
        _, children, *_ = load_library(version).get(segment, "Segment")
    except ChildNotFound:
        return None
    return next((row[1] for row in children if row[0] == f"{segment}_{number}"), None)


@lru_cache(maxsize=256)
def _segment_known(version: str, segment: str) -> bool:
    try:
        load_library(version).get(segment, "Segment")
    except ChildNotFound:
        return False
    return True


@lru_cache(maxsize=256)
def segments_of(version: str, kind: str, trigger: str) -> frozenset[str]:
    """Every segment that a message may have by hl7apy's structures, none where it knows none.

    A trigger without a structure of its own (A08) has those of its type together.
    """
    library = load_library(version)
    known = [name for name in library.MESSAGES if name.split("_")[0] == kind]
    named = [name for name in known if name == f"{kind}_{trigger}"]
    found: set[str] = set()
    for name in named or known:
        _gather(library.get(name, "Message"), found)
    return frozenset(found)


def _gather(structure: Any, found: set[str]) -> None:
    for row in structure[1]:
        if row[3] == "SEG":
            found.add(row[0])
        else:
            _gather(row[1], found)


def path_mistake(
    versions: Sequence[str], segment: str, field: int, component: int, subcomponent: int
) -> tuple[str, str] | None:
    """Fact and hint when the path exists in none of the versions; Z segments are the site's own."""
    if segment.startswith("Z"):
        return None
    shown = _listed(versions)
    if unknown := segment_mistake(versions, segment):
        return unknown
    if not any(field_entry(version, segment, field) for version in versions):
        last = max(_fields_of(version, segment) for version in versions)
        return f"{segment}-{field} does not exist in HL7 {shown}", f"{segment} ends at {last}"
    if component and not any(
        _reaches(field_entry(version, segment, field), component, subcomponent)
        for version in versions
    ):
        place = f"{segment}-{field}.{component}" + (f".{subcomponent}" if subcomponent else "")
        kind = data_type(versions, segment, field)
        return f"{place} does not exist in HL7 {shown}", f"{segment}-{field} is {kind}"
    return None


def segment_mistake(versions: Sequence[str], segment: str) -> tuple[str, str] | None:
    """Fact and hint when none of the versions has a segment; Z segments are the site's own."""
    if segment.startswith("Z") or any(_segment_known(version, segment) for version in versions):
        return None
    elsewhere = [version for version in SUPPORTED_LIBRARIES if _segment_known(version, segment)]
    known = sorted({name for version in versions for name in _segments(version)})
    swapped = next((name for name in known if sorted(name) == sorted(segment)), "")
    close = f"did you mean '{swapped}'?" if swapped else did_you_mean(segment, known)
    if elsewhere:
        hint = f"HL7 {elsewhere[0]} has: add it to the versions under 'accept:'"
    else:
        hint = close or "a segment of the site's own begins with Z"
    return f"HL7 {_listed(versions)} has no segment {segment}", hint


def is_segment(name: str) -> bool:
    """Whether any version of HL7 has a segment of this name, or a site may have one."""
    known = any(_segment_known(version, name) for version in SUPPORTED_LIBRARIES)
    return known or name.startswith("Z")


@lru_cache(maxsize=16)
def _segments(version: str) -> frozenset[str]:
    return frozenset(load_library(version).SEGMENTS)


def _listed(words: Sequence[str]) -> str:
    """Words as people list them: a, b and c."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _fields_of(version: str, segment: str) -> int:
    if not _segment_known(version, segment):
        return 0
    return len(load_library(version).get(segment, "Segment")[1])


def _reaches(entry: Any, component: int, subcomponent: int) -> bool:
    """Whether a field has a component; a later version may have widened it, so one level is free.

    Text types have one component; IHE and vendors put more into fields that versions call `CM`.
    """
    if entry is None:
        return False
    children, kind = entry[1], entry[2]
    if kind in VARIES or kind == "CM":
        return True
    if not children:
        return component == 1 and subcomponent <= 1
    if component > len(children):
        return False
    inner = children[component - 1][1][1]
    return subcomponent <= (len(inner) if inner else 1)


def data_type(versions: Iterable[str], segment: str, field: int) -> str:
    """The HL7 data type of a field in the first version that has it, '' when unknown."""
    entries = (field_entry(version, segment, field) for version in versions)
    return next((str(entry[2]) for entry in entries if entry and entry[2]), "")


def vr_of(keyword: str) -> str:
    """The VR of a DICOM keyword, or of a word of ours; '' when there is no such keyword."""
    if keyword in OWN:
        return OWN[keyword][1]
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag) if tag is not None else ""


def is_multiple(keyword: str) -> bool:
    """Whether an attribute takes several values."""
    tag = tag_for_keyword(keyword)
    return tag is not None and dictionary_VM(tag) != "1"


def keyword_mistake(keyword: str, parents: tuple[str, ...]) -> tuple[str, str, str] | None:
    """Fact, hint and severity when an attribute has no place there in a worklist item."""
    if not vr_of(keyword):
        return f"'{keyword}' is not a DICOM keyword", _hint(keyword, parents), "error"
    in_step = parents == (STEPS,)
    if keyword in STEP_KEYWORDS and not parents:
        return f"{keyword} belongs to a step", f"put it under {STEPS}", "error"
    if keyword in ROWS and keyword not in STEP_KEYWORDS and in_step:
        return f"{keyword} does not belong to a step", f"put it beside {STEPS}", "error"
    return misplaced(keyword, parents)


def keyword_hint(keyword: str) -> str:
    """The keyword that is perhaps meant, wherever in a worklist item it stands."""
    close = closest(keyword, ())
    return f"did you mean '{close}'?" if close else ""


def closest(keyword: str, parents: Sequence[str]) -> str:
    """The keyword that is perhaps meant: a tag, one of an MWL item, else any; '' for no idea."""
    tag = TAG.fullmatch(keyword.strip())
    if tag is not None:
        return keyword_for_tag(int(tag[1] + tag[2], 16))
    usual = [*ROWS, STEPS] if len(parents) < 2 else _keywords()
    folded = "".join(each for each in keyword if each.isalnum()).lower()
    written = next((each for each in (*usual, *_keywords()) if each.lower() == folded), "")
    return written or _of_words(keyword, usual) or meant(keyword, usual)


def _of_words(keyword: str, known: Iterable[str]) -> str:
    """The shortest keyword in which all words of this one stand: StudyInstanceUID for StudyUID."""
    words = WORD.findall(keyword)
    if len(words) < 2:
        return ""
    pattern = re.compile(".*".join(map(re.escape, words)))
    return min(filter(pattern.search, known), key=len, default="")


def _hint(keyword: str, parents: Sequence[str]) -> str:
    close = closest(keyword, parents)
    return f"did you mean '{close}'?" if close else ""


@lru_cache(maxsize=1)
def _keywords() -> Mapping[str, int]:
    return keyword_dict
