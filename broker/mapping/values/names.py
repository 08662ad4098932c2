"""Names of people: HL7 XPN and XCN to DICOM PN and back (PS3.5 6.2.1.1 swaps prefix and suffix)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from broker.hl7.message import NULL, Repetition
from broker.hl7.writing import Repeated
from broker.mapping.values.evaluation import Evaluation, Value
from broker.mapping.values.texts import INVISIBLE

PERSON = frozenset({"XPN", "PN"})
CLINICIAN = frozenset({"XCN", "CN", "CNN"})
NESTED_CLINICIAN = frozenset({"NDL", "CM", "CM_NDL"})
GROUP_LENGTH = 64
ALPHABETIC, IDEOGRAPHIC, PHONETIC = "A", "I", "P"
SCRIPTS = frozenset({IDEOGRAPHIC, PHONETIC})
NOT_IN_A_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f^=\\]+")
PADDING = [""] * 8
Parts = tuple[str, str, str, str, str]
"""Family, given, middle, prefix, suffix: the order of a PN."""


def person_name(evaluation: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    """XPN to PN: the legal name (or the first), with ideographic and phonetic groups."""
    if len(repetitions) == 1:
        only = repetitions[0]
        components = only.components()
        if len(components) < 8 or components[7] not in SCRIPTS:
            return _group(evaluation, _xpn_parts(only, [*components, *PADDING], 0))
    names = [(each, [*each.components(), *PADDING]) for each in repetitions]
    legal = [name for name in names if name[1][6] == "L"] or names[:1]
    scripts = [name for name in names if name[1][7] in SCRIPTS]
    if not scripts:
        return _first_group(evaluation, legal)
    groups = {"": "", IDEOGRAPHIC: "", PHONETIC: ""}
    for repetition, components in [*legal, *scripts]:
        key = components[7] if components[7] in groups else ""
        if not groups[key]:
            groups[key] = _group(evaluation, _xpn_parts(repetition, components, 0))
    return "=".join(groups.values()).rstrip("=")


def _first_group(evaluation: Evaluation, names: Sequence[tuple[Repetition, list[str]]]) -> str:
    for repetition, components in names:
        name = _group(evaluation, _xpn_parts(repetition, components, 0))
        if name:
            return name
    return ""


def clinician_name(evaluation: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    """XCN to PN; the first repetition that has a name."""
    for each in repetitions:
        name = _group(evaluation, _xpn_parts(each, [*each.components(), *PADDING], 1))
        if name:
            return name
    return ""


def nested_clinician_name(evaluation: Evaluation, repetitions: Sequence[Repetition]) -> Value:
    """NDL-1 (id&family&given&middle&suffix&prefix&degree) to PN."""
    parts = [_clean(text) for text in repetitions[0].subcomponents(1)] + [""] * 7
    return _group(evaluation, _ordered(parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]))


def _xpn_parts(repetition: Repetition, components: Sequence[str], skipped: int) -> Parts:
    said = components[skipped : skipped + 6]
    if _is_plain("^".join(said)):
        family, given, middle, suffix, prefix, degree = map(str.strip, said)
        return family, given, middle, prefix, f"{suffix} {degree}".strip() if degree else suffix
    family, *rest = said
    if "&" in family:  # perhaps FN with its parts, perhaps an escaped & of the name itself
        family = _surname(repetition.subcomponents(skipped + 1))
    given, middle, suffix, prefix, degree = [_clean(text) if text else "" for text in rest]
    if "," in family and not (given or middle or suffix or prefix or degree):
        family, _, given = family.partition(",")
        given = _clean(given)
    last = f"{suffix} {degree}".strip() if degree else suffix
    return _clean(family), given, middle, prefix, last


def _is_plain(text: str) -> bool:
    """Whether six components need a strip and no more, as nearly all do: told in one look."""
    return text.isprintable() and not (
        "&" in text
        or "," in text
        or '"' in text
        or "=" in text
        or "\\" in text
        or text.count("^") != 5  # one that was sent as an escape
    )


def _surname(parts: Sequence[str]) -> str:
    """FN: the whole surname is its first subcomponent; without it, own prefix and own surname."""
    if parts[0] and parts[0] != NULL:
        return parts[0]
    return " ".join(text for text in parts[1:3] if text and text != NULL)


def _ordered(family: str, given: str, middle: str, suffix: str, prefix: str, degree: str) -> Parts:
    return family, given, middle, prefix, f"{suffix} {degree}".strip()


def _clean(text: str) -> str:
    if not text or text == NULL:
        return ""  # a cleared part of a name: the name as a whole is said anew
    if text.isprintable() and not ("^" in text or "=" in text or "\\" in text):
        return text.strip()
    return NOT_IN_A_NAME.sub(" ", INVISIBLE.sub("", text)).strip()


def _group(evaluation: Evaluation, parts: Parts) -> str:
    """One group of at most 64 characters: suffix, prefix, middle go before anything is cut."""
    name = "^".join(parts).rstrip("^")
    if len(name) <= GROUP_LENGTH:
        return name
    evaluation.warn("is longer than the 64 characters of a DICOM name and was shortened")
    family, given, middle, prefix, _ = parts
    for shorter in ((family, given, middle, prefix), (family, given, middle), (family, given)):
        name = "^".join(shorter).rstrip("^")
        if len(name) <= GROUP_LENGTH:
            return name
    return name[:GROUP_LENGTH].rstrip("^ ")


def person_parts(_: Evaluation, text: str) -> list[str]:
    """PN to the components of an XPN: family, given, middle, suffix, prefix; its first group.

    A name that has no alphabetic one goes out as the ideographic, else the phonetic one.
    """
    for script, group in zip(("", IDEOGRAPHIC, PHONETIC), text.split("="), strict=False):
        if group.strip("^ "):
            return [*_swapped(group), *(["", "L", script] if script else [])]
    return _swapped("")


def person_repetitions(_: Evaluation, text: str) -> Value:
    """PN to XPN, a repetition for each of its groups, with XPN.8 (table 0465) where it has several.

    A name that has its alphabetic group only goes out as it does from `person_parts`.
    """
    scripts = zip((ALPHABETIC, IDEOGRAPHIC, PHONETIC), text.split("="), strict=False)
    groups = [(script, group) for script, group in scripts if group.strip("^ ")]
    if len(groups) < 2:
        return person_parts(_, text)
    return Repeated([*_swapped(group), "", "L", script] for script, group in groups)


def clinician_parts(_: Evaluation, text: str) -> list[str]:
    """PN to the components of an XCN without an ID number."""
    return ["", *person_parts(_, text)[:5]]


def _swapped(group: str) -> list[str]:
    family, given, middle, prefix, suffix = [*group.split("^"), "", "", "", "", ""][:5]
    return [family, given, middle, suffix, prefix]
