"""The judges of a mapping: hl7apy knows the HL7 paths, pydicom and Table K.6-1 the attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hl7apy import load_library
from hl7apy.exceptions import ChildNotFound
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_dict, tag_for_keyword

from broker.mapping.document import did_you_mean
from broker.worklist.attributes import ROWS, STEPS, Kept

STEP_KEYWORDS = frozenset(keyword for keyword, row in ROWS.items() if row.kept is Kept.STEP)
VARIES = frozenset({"varies", "Varies", None})


@lru_cache(maxsize=4096)
def _field(version: str, segment: str, number: int) -> Any:
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


def path_mistake(
    versions: Sequence[str], segment: str, field: int, component: int, subcomponent: int
) -> tuple[str, str] | None:
    """Fact and hint when the path exists in none of the versions; Z segments are the site's own."""
    if segment.startswith("Z"):
        return None
    shown = " and ".join(versions)
    if not any(_segment_known(version, segment) for version in versions):
        return f"HL7 {shown} has no segment {segment}", "look for a slip, or add the version"
    if not any(_field(version, segment, field) for version in versions):
        last = max(_fields_of(version, segment) for version in versions)
        return f"{segment}-{field} does not exist in HL7 {shown}", f"{segment} ends at {last}"
    if component and not any(
        _reaches(_field(version, segment, field), component, subcomponent) for version in versions
    ):
        place = f"{segment}-{field}.{component}" + (f".{subcomponent}" if subcomponent else "")
        kind = data_type(versions, segment, field)
        return f"{place} does not exist in HL7 {shown}", f"{segment}-{field} is {kind}"
    return None


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
    entries = (_field(version, segment, field) for version in versions)
    return next((str(entry[2]) for entry in entries if entry and entry[2]), "")


def vr_of(keyword: str) -> str:
    """The VR of a DICOM keyword, '' when there is no such keyword."""
    tag = tag_for_keyword(keyword)
    return dictionary_VR(tag) if tag is not None else ""


def is_multiple(keyword: str) -> bool:
    """Whether an attribute takes several values."""
    tag = tag_for_keyword(keyword)
    return tag is not None and dictionary_VM(tag) != "1"


def keyword_mistake(keyword: str, parents: Sequence[str]) -> tuple[str, str, str] | None:
    """Fact, hint and severity when an attribute has no place there in a worklist item."""
    if not vr_of(keyword):
        return f"'{keyword}' is not a DICOM keyword", _closest(keyword, parents), "error"
    if len(parents) > 1 or (parents and parents[0] != STEPS):
        return None
    in_step = bool(parents)
    if keyword in STEP_KEYWORDS and not in_step:
        return f"{keyword} belongs to a step", f"put it under {STEPS}", "error"
    if keyword in ROWS and keyword not in STEP_KEYWORDS and in_step:
        return f"{keyword} does not belong to a step", f"put it beside {STEPS}", "error"
    if keyword not in ROWS and keyword != STEPS:
        return f"{keyword} is not in Table K.6-1 (PS3.4)", "few scanners will ask for it", "warning"
    return None


def _closest(keyword: str, parents: Sequence[str]) -> str:
    return did_you_mean(keyword, [*ROWS, STEPS] if len(parents) < 2 else _keywords())


@lru_cache(maxsize=1)
def _keywords() -> Mapping[str, int]:
    return keyword_dict
