"""What an expression gives, known before any message: items, a date, a name, text; who may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import (
    Alternatives,
    Call,
    Expression,
    Given,
    Name,
    Path,
    Pipe,
    Text,
)
from broker.mapping.standards.dictionaries import data_type, field_entry, vr_of
from broker.mapping.standards.terms import raw_terms
from broker.mapping.values.quantities import UNITS

ITEMS, TEXT = "items", "text"
DATE, TIME, STAMP = "a date", "a time of day", "a date with a time"
NAME, UID, NUMBER, OFFSET = "a name", "a UID", "a number", "an offset from UTC"
LONG: Final = {"LO", "SH", "ST", "LT", "UT", "UC"}
MAY_FILL: Final[dict[str, set[str]]] = {
    ITEMS: {"SQ"},
    DATE: {"DA", "DT", *LONG},
    TIME: {"TM", *LONG},
    STAMP: {"DT", *LONG},
    NAME: {"PN", *LONG},
    UID: {"UI", *LONG},
    NUMBER: {"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "UV", "SV", *LONG},
    OFFSET: LONG,
}
"""The VRs that a kind may fill; a plain text may fill every one but SQ."""
GIVES: Final = {
    **dict.fromkeys(("code", "alternate_code", "issuer", "authority", "qualifiers"), ITEMS),
    **dict.fromkeys(("person", "clinician", "nested_clinician"), NAME),
    **dict.fromkeys(("uid", "derived_uid"), UID),
    **dict.fromkeys(("convert", "measure"), NUMBER),
    "date": DATE,
    "time": TIME,
    "datetime": STAMP,
    "local": STAMP,
    "zone": OFFSET,
}
KEEPS: Final = {"trim", "first", "last", "default"}
"""Functions that give what they are given; all others give text."""
OF_VR: Final = {"SQ": ITEMS, "DA": DATE, "TM": TIME, "DT": STAMP, "PN": NAME, "UI": UID} | {
    vr: NUMBER for vr in ("DS", "IS", "US", "FL", "FD")
}
OF_NAME: Final = {"today": DATE, "received": STAMP, "now": STAMP, "message_time": STAMP}
REMEDY: Final = {
    "SQ": "code, alternate_code, issuer, authority or qualifiers give items, and so does 'item:'",
    "DA": "end with | date",
    "TM": "end with | time",
    "DT": "end with | datetime",
    "UI": "end with | uid or | derived_uid",
    "PN": "end with | person or | clinician",
}
CODED: Final = {"CE", "CWE", "CNE"}
PEOPLE: Final = {"XPN": "person", "PN": "person", "XCN": "clinician", "CN": "clinician"}
COMPOSED: Final = {*CODED, *PEOPLE, "CX", "XAD", "XTN", "XON", "PL", "HD"}
STAMPS: Final = {"TS", "DTM", "DT", "TM"}
FREE: Final = {"", "ST", "varies", "Varies", "CM", "TX", "FT"}
"""HL7 types that may hold anything."""
FITS: Final[dict[str, set[str]]] = {
    "DA": STAMPS | FREE,
    "TM": STAMPS | FREE,
    "DT": STAMPS | FREE,
    **dict.fromkeys(("DS", "IS", "US"), {"NM", "SI", "CQ", "SN", "MO"} | FREE),
    "UI": {"EI", "ID", "IS", "HD", "OID", "RP"} | FREE,
}
"""The HL7 types of fields that may fill a VR as they stand."""
STAMP_FUNCTIONS: Final = {"date", "time", "datetime", "zone", "local"}
QUANTITIES: Final = {"PatientWeight": "kg", "PatientSize": "m"}


class Finding(NamedTuple):
    """Something wrong in an expression; without a width it is about the whole of it."""

    fact: str
    hint: str = ""
    offset: int = 0
    width: int | None = None
    severity: str = "error"


class End(NamedTuple):
    """A part of an expression that may become its value, and whether it is written right there."""

    tree: Expression
    here: bool = True


def judge_source(
    keyword: str, tree: Expression, scope: Scope, versions: Sequence[str]
) -> Iterator[Finding]:
    """What is wrong with an expression as the source of an attribute."""
    vr = vr_of(keyword)
    for end in _ends(tree, here=True):
        finding = _judge_end(keyword, vr, end.tree, scope)
        if finding is None and isinstance(end.tree, Path):
            finding = _judge_plain(keyword, vr, end.tree, versions)
        if finding is None and isinstance(end.tree, Path):
            finding = _judge_raw(keyword, end.tree)
        if finding is None and isinstance(end.tree, Pipe):
            finding = _judge_unit(keyword, end.tree.calls)
        if finding is not None:
            yield finding if end.here else finding._replace(offset=0, width=None)


def judge_stamps(pipe: Pipe, versions: Sequence[str]) -> Iterator[Finding]:
    """Functions of time stamps that are given something else."""
    first = pipe.calls[0].function
    if first not in STAMP_FUNCTIONS:
        return
    choices = pipe.source.choices if isinstance(pipe.source, Alternatives) else (pipe.source,)
    for path in choices:
        if isinstance(path, Path) and (kind := _value_type(path, versions)) not in STAMPS | FREE:
            fact = f"'{first}' does not understand {kind}, the type of {path.label}"
            severity = "error" if kind in COMPOSED else "warning"
            hint = "it understands time stamps, as PID-7"
            yield Finding(fact, hint, path.offset, len(path.label), severity)


def _ends(tree: Expression, *, here: bool) -> Iterator[End]:
    """Choices, and what names of `let:` stand for."""
    match tree:
        case Alternatives(choices):
            for each in choices:
                yield from _ends(each, here=here)
        case Given(tree=inner):
            yield from _ends(inner, here=False)
        case Pipe(Alternatives(choices), calls) if all(c.function in KEEPS for c in calls):
            for each in choices:
                yield from _ends(Pipe(each, calls), here=here)
        case Pipe(Given(tree=inner), calls) if all(c.function in KEEPS for c in calls):
            yield from _ends(Pipe(inner, calls), here=False)
        case _:
            yield End(tree, here)


def _judge_end(keyword: str, vr: str, end: Expression, scope: Scope) -> Finding | None:
    kind, call = _kind(end, scope)
    if vr in MAY_FILL.get(kind, ()) or (kind == TEXT and vr != "SQ"):
        return None
    offset, width = _place(end, call)
    if vr == "SQ":
        return Finding(f"{keyword} is a sequence, this gives {kind}", REMEDY[vr], offset, width)
    if kind == ITEMS:
        fact = f"{keyword} is no sequence, and this gives items"
        return Finding(fact, "take a component, as OBR-4.1", offset, width)
    return Finding(f"{keyword} ({vr}) does not take {kind}", REMEDY.get(vr, ""), offset, width)


def _judge_plain(keyword: str, vr: str, path: Path, versions: Sequence[str]) -> Finding | None:
    """A field as it stands, without any function."""
    field = data_type(versions, path.segment, path.field) if path.segment else ""
    if vr == "PN" and field in PEOPLE and not path.component:
        part = "the ID number" if PEOPLE[field] == "clinician" else "the family name"
        fact = f"{path.label} alone is only its first component, {part}"
        hint = f"write {path.label} | {PEOPLE[field]}"
        return Finding(fact, hint, path.offset, len(path.label), "warning")
    kind = field if vr == "UI" else _value_type(path, versions)
    if kind in FITS.get(vr, {kind}):
        return None
    fact = f"{keyword} ({vr}) does not take {path.label} as it stands, which is {kind}"
    return Finding(fact, REMEDY.get(vr, ""), path.offset, len(path.label))


def _judge_raw(keyword: str, path: Path) -> Finding | None:
    """A sender's own words where DICOM has terms of its own."""
    odd = raw_terms(keyword)
    if odd is None:
        return None
    fact = f"{path.label} as it was sent perhaps {odd[0]}"
    return Finding(fact, odd[1], path.offset, len(path.label), "warning")


def _judge_unit(keyword: str, calls: Sequence[Call]) -> Finding | None:
    wanted = QUANTITIES.get(keyword, "")
    for call in calls if wanted else ():
        if call.function in ("convert", "measure") and UNITS[call.arguments[-1]] != UNITS[wanted]:
            fact = f"{keyword} is in {wanted}, not in {call.arguments[-1]}"
            return Finding(fact, f"convert to {wanted}", call.offset, len(call.function))
    return None


def _value_type(path: Path, versions: Sequence[str]) -> str:
    """The HL7 type of what a path reads; '' where nobody knows."""
    if not path.segment or path.subcomponent:
        return ""
    if not path.component:
        return data_type(versions, path.segment, path.field)
    for version in versions:
        entry = field_entry(version, path.segment, path.field)
        parts = entry[1] if entry and entry[2] != "CM" else ()
        if parts and path.component <= len(parts):
            return str(parts[path.component - 1][1][2] or "")
    return ""


def _kind(tree: Expression, scope: Scope) -> tuple[str, Call | None]:
    """The kind of what an expression gives, and the call that decides it."""
    if isinstance(tree, Name):
        if tree.steps[0] in scope.names:
            return OF_NAME.get(tree.steps[0], TEXT), None
        return OF_VR.get(vr_of(tree.steps[-1]), TEXT), None
    if not isinstance(tree, Pipe):
        return TEXT, None
    for call in reversed(tree.calls):
        if call.function not in KEEPS:
            return GIVES.get(call.function, TEXT), call
    return _kind(tree.source, scope)


def _place(tree: Expression, call: Call | None) -> tuple[int, int | None]:
    if call is not None:
        return call.offset, len(call.function)
    if isinstance(tree, Path):
        return tree.offset, len(tree.label)
    if isinstance(tree, Name):
        return tree.offset, len(".".join(tree.steps))
    return 0, None


def texts_of(tree: Expression) -> Iterator[tuple[str, str]]:
    """The texts written in an expression that may become its value, each with what it stands in.

    Values of tables are not among them.
    """
    for end, _ in _ends(tree, here=True):
        if isinstance(end, Text):
            yield end.text, "the text"
        for call in reversed(end.calls if isinstance(end, Pipe) else ()):
            if call.function == "default":
                yield call.arguments[0], "the default"
            elif call.function == "map":
                yield from ((text, "a value of 'map'") for text in call.arguments[1::2])
            elif call.function == "lookup":
                yield from ((text, "the default") for text in call.arguments[1:])
            if call.function not in KEEPS:
                break


def looked_up(tree: Expression) -> Iterator[tuple[str, str]]:
    """The tables whose values may become that of an expression, and what they are split at."""
    for end, _ in _ends(tree, here=True):
        calls = [c for c in (end.calls if isinstance(end, Pipe) else ()) if c.function not in KEEPS]
        parted = len(calls) > 1 and calls[-1].function == "split" and len(calls[-1].arguments) == 1
        separator = calls.pop().arguments[0] if parted else ""
        if calls and calls[-1].function == "lookup":
            yield calls[-1].arguments[0], separator
