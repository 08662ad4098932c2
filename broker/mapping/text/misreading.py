"""YAML that cannot be read: the slip in plain words, the remedy, and a guess to read on with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import yaml

from broker.mapping.text.outlining import (
    LONGEST_SHOWN,
    Entry,
    above,
    entries_on,
    value_on,
    written_before,
)

BLANKS = " \t\u00a0\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200C)))
"""What looks like an indentation, whether YAML takes it for one or not."""
STARTS = {
    "|": "a value that starts with | or > is a text over several lines",
    ">": "a value that starts with | or > is a text over several lines",
    "@": "a value cannot start with @",
    "%": "a value cannot start with %",
    "`": "a value cannot start with `",
    "-": "a list cannot begin on the line of its key",
}
TOKENS = ("any token", "comment", "sequence entries")
PAIRS = {"{": "}", "[": "]"}
COMMA = re.compile(r",\s+")
KEY_IN_BRACES = re.compile(r"\s*[\w.]+:\s+")


@dataclass(frozen=True, slots=True)
class Slip:
    """What is wrong in one line; `mended` is the line as it was perhaps meant, None for no idea.

    `shift` tells by how many characters the mended line begins further right.
    """

    line: int
    column: int
    fact: str
    hint: str
    width: int = 1
    mended: str | None = None
    shift: int = 0

    @property
    def is_guess(self) -> bool:
        """Whether the mended line says something else, so that nothing more is told of it."""
        return not self.shift


@dataclass(frozen=True, slots=True)
class Fault:
    """What the parser says: its words, the place, and the place where what it read began."""

    problem: str
    context: str
    lines: Sequence[str]
    number: int
    column: int
    begun: int
    begun_column: int

    @property
    def line(self) -> str:
        """The line of the place."""
        return self.lines[self.number - 1] if 0 < self.number <= len(self.lines) else ""


def odd_indents(lines: Sequence[str]) -> Iterator[Slip]:
    """Lines that are indented with what looks like spaces and is none."""
    for number, line in enumerate(lines, 1):
        text = line.lstrip(BLANKS)
        indent = line[: len(line) - len(text)]
        if not text or not indent.strip(" "):
            continue
        what = "a tab" if "\t" in indent else "a space that is no plain one"
        hint = "YAML is indented with spaces, never with tabs"
        if "\t" not in indent:
            hint = "type plain spaces"
        yield Slip(
            number,
            len(indent) - len(indent.lstrip(" ")) + 1,
            f"the line is indented with {what}",
            hint,
        )


def slip_of(error: yaml.MarkedYAMLError, lines: Sequence[str]) -> Slip:
    """The slip behind what the parser says."""
    mark = error.problem_mark or error.context_mark
    number, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if number > len(lines):
        number, column = len(lines), len(lines[-1]) + 1 if lines else 1
    begun = error.context_mark or mark
    fault = Fault(
        error.problem or "is not YAML",
        error.context or "",
        lines,
        number,
        column,
        begun.line + 1 if begun else 1,
        begun.column + 1 if begun else 1,
    )
    found = (judge(fault) for judge in JUDGES)
    return next((slip for slip in found if slip), Slip(number, column, fault.problem, ""))


def _unclosed_quote(fault: Fault) -> Slip | None:
    if "quoted scalar" not in fault.context:
        return None
    number, column = fault.begun, fault.begun_column
    line = fault.lines[number - 1]
    if "escape" in fault.problem:
        fact = 'within "…" a backslash begins an escape'
        return Slip(number, column, fact, "use '…', where it is a plain sign")
    hint = "close it at the end of the text; within '…' an apostrophe is written twice: ''"
    mended = line + line[column - 1] if line[: column - 1].strip() else None  # not that of a key
    return Slip(number, column, "this quote is never closed", hint, 1, mended)


def _value_start(fault: Fault) -> Slip | None:
    """A value that begins with a sign which YAML keeps for itself."""
    for at in (fault.number, written_before(fault.lines, fault.number)):
        line = fault.lines[at - 1] if at else ""
        start, value = value_on(line)
        if value[:1] not in STARTS or not any(each in fault.problem for each in TOKENS):
            continue
        if value[0] == "-":
            listed = f"[{value[1:].strip()}]"
            hint = f"begin it on the next line, or write {listed}"
            return Slip(at, start + 1, STARTS["-"], hint, 1, f"{line[:start]}{listed}")
        mended = f"{line[:start]}{quoted(value)}"
        hint = f"quote it: {quoted(value)}"
        return Slip(at, start + 1, STARTS[value[0]], hint, len(value), mended)
    return None


def _unclosed_bracket(fault: Fault) -> Slip | None:
    """Brackets that are not closed, or a value in them that should be quoted."""
    if "flow" not in fault.context:
        return None
    begun, at = _opener(fault)
    line = fault.lines[begun - 1].rstrip()
    opened = line[at : at + 1]
    close = PAIRS.get(opened, "}")
    if fault.number > begun or fault.column > len(line):
        fact = f"this '{opened}' is never closed"
        mended = None if line.endswith((opened, ",")) else f"{line}{close}"
        return Slip(begun, at + 1, fact, f"put '{close}' where it ends", 1, mended)
    start, end = _value_around(line, at, fault.column - 1, close)
    value = line[start:end]
    fact = "within { } and [ ] a value with [ ] { } : or , stands in quotes"
    if value[:1] in ("'", '"'):
        fact = "a value that starts with a quote is quoted as a whole"
    mended = f"{line[:start]}{quoted(value)}{line[end:]}"
    return Slip(begun, start + 1, fact, f"write {quoted(value)}", len(value), mended)


def _opener(fault: Fault) -> tuple[int, int]:
    """Line and offset of the bracket that is open where the parser stopped."""
    begun, at = fault.begun, fault.begun_column - 1
    depth = 0
    while begun:
        line = fault.lines[begun - 1] if begun <= len(fault.lines) else ""
        for offset in range(min(at, len(line) - 1), -1, -1):
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(line[offset], 0)
            if depth > 0:
                return begun, offset
        begun, at = begun - 1, len(fault.lines[begun - 2]) if begun > 1 else 0
    return 1, 0


def _value_around(line: str, opened: int, at: int, close: str) -> tuple[int, int]:
    """Begin and end of the value of { } or [ ] in which something odd stands."""
    start, end = opened + 1, line.rfind(close)
    for comma in COMMA.finditer(line, start):
        before = line[opened + 1 : comma.start()]
        inside = sum(map(before.count, "([")) - sum(map(before.count, ")]"))
        is_key = close == "}" and KEY_IN_BRACES.match(line, comma.end())
        if inside and not is_key:
            continue
        if comma.end() <= at:
            start = comma.end()
        else:
            end = comma.start()
            break
    key = KEY_IN_BRACES.match(line, start) if close == "}" else None
    start = key.end() if key else start
    return start, end if end > start else len(line)


def _rest_of_value(fault: Fault) -> Slip | None:
    """More on the line after a value that is complete: after a quote or a bracket."""
    line, column = fault.line, fault.column
    start, value = value_on(line)
    if not start or column - 1 <= start or not value or value[0] not in "'\"{[":
        return None
    if value[0] in PAIRS:
        fact = f"the value ends with the '{PAIRS[value[0]]}' before, and more follows"
        hint = f"take it away, or quote all of it: {quoted(value)}"
        mended = line[: column - 1]
    else:
        fact = "the value ends with the quote before, and more follows"
        hint = f"quote all of it: {quoted(value)}; a constant is {{const: CT}}"
        mended = f"{line[:start]}{quoted(value)}"
    return Slip(fault.number, column, fact, hint, len(line.rstrip()) - column + 1, mended)


def _second_colon(fault: Fault) -> Slip | None:
    line = fault.line
    start, value = value_on(line)
    if not fault.problem.startswith("mapping values") or not start or fault.column <= start:
        return None
    key = entries_on(line, fault.number)[-1].key[:LONGEST_SHOWN]
    fact = f"a second ':' in the value of '{key}'"
    hint = f"quote the value: {quoted(value)}"
    return Slip(fault.number, fault.column, fact, hint, 1, f"{line[:start]}{quoted(value)}")


def _no_colon(fault: Fault) -> Slip | None:
    """A line without a key where one is needed: its own ':' or the space behind it is missing."""
    if not fault.problem.startswith(("mapping values", "could not find expected ':'")):
        return None
    is_own = re.match(r"\s*-[^\s-]", fault.line) or not entries_on(fault.line, 1)
    guilty = fault.number if is_own else written_before(fault.lines, fault.number)
    line = fault.lines[guilty - 1] if guilty else ""
    entries = entries_on(line, guilty)
    if not line or (entries and not entries[-1].is_dash):
        return None
    indent = len(line) - len(line.lstrip(" "))
    text = line.strip()
    if dash := re.match(r"-(?=[^\s-])", text):
        fact, hint = "a space is missing after '-'", f"write '- {text[1:LONGEST_SHOWN]}'"
        return Slip(guilty, indent + 1, fact, hint, 1, f"{line[:indent]}- {text[dash.end() :]}", 1)
    glued = re.match(r"[\w-]+:(?=\S)", text)
    if glued:
        fact = "a space is missing after ':'"
        mended = f"{line[:indent]}{glued[0]} {text[glued.end() :]}"
        hint = f"write '{mended.strip()[:LONGEST_SHOWN]}'"
        return Slip(guilty, indent + glued.end(), fact, hint, 1, mended)
    word, _, rest = text.partition(" ")
    fact = f"no ':' after '{word[:LONGEST_SHOWN]}'"
    mended = f"{line[:indent]}{word}: {rest}".rstrip()
    hint = f"write '{mended.strip()[:LONGEST_SHOWN]}'"
    return Slip(guilty, indent + 1, fact, hint, len(word), mended)


def _wrong_column(fault: Fault) -> Slip | None:
    """A line that stands in no column where something of its kind could stand."""
    line, number, lines = fault.line, fault.number, fault.lines
    entries = entries_on(line, number)
    open_ones = above(lines, number)
    if not entries or not open_ones or not entries[0].column <= fault.column <= value_on(line)[0]:
        return None
    own = entries[0]
    if beside := next((each for each in open_ones if each.column == own.column), None):
        return _wrong_kind(line, own, beside)
    last = open_ones[-1]
    name = f"'{own.key[:LONGEST_SHOWN]}'"
    near = sorted(open_ones, key=lambda each: (*_unlike(own, each), abs(each.column - own.column)))
    meant, *others = [each for each in near if _unlike(own, each) == _unlike(own, near[0])][:2]
    if own.column <= last.column:
        fact = f"{name} begins in column {own.column}, but {meant} begins in column {meant.column}"
    else:
        fact = f"{name} begins in column {own.column}, deeper than {last}, which has a value"
        if not own.is_dash and not last.is_dash and _unlike(own, last)[1] and own.key.islower():
            hint = f"let 'from: {value_on(lines[last.line - 1])[1]}' begin in this column above it"
            return Slip(number, own.column, fact, f"{hint}, below '{last.key}:'", len(own.key), "")
    hint = f"begin it in column {meant.column} too"
    hint += "".join(f", or in column {each.column} as {each}" for each in others)
    mended = " " * (meant.column - 1) + line.lstrip(" ")
    shift = meant.column - own.column
    return Slip(number, own.column, fact, hint, len(own.key), mended, shift)


def _wrong_kind(line: str, own: Entry, beside: Entry) -> Slip | None:
    """A key in the column of a list, or a dash in the column of keys."""
    if own.is_dash == beside.is_dash:
        return None
    if own.is_dash:
        fact = f"'-' begins in column {own.column}, where {beside} stands: a list is no key"
        return Slip(own.line, own.column, fact, "begin it one column deeper than its key")
    fact = f"'{own.key[:LONGEST_SHOWN]}' stands in the column of a list, without its '-'"
    hint = (
        f"write '- {own.key[:LONGEST_SHOWN]}: …' for an entry of its own, "
        f"or begin in column {own.column + 2} to belong to the entry above"
    )
    belongs = beside.line == own.line - 1  # the entry above has one line only, it lacks another
    mended = f"{line[: own.column - 1]}{'  ' if belongs else '- '}{line[own.column - 1 :]}"
    return Slip(own.line, own.column, fact, hint, len(own.key), mended, 2)


def _unlike(own: Entry, other: Entry) -> tuple[bool, bool]:
    """How little two entries look alike: dashes and keys, DICOM keywords and words of ours."""
    return own.is_dash != other.is_dash, own.key[:1].isupper() != other.key[:1].isupper()


def _stray(fault: Fault) -> Slip | None:
    sign = fault.line[fault.column - 1 : fault.column]
    if sign not in ("}", "]", ","):
        return None
    fact = f"nothing before this '{sign}' needs it"
    return Slip(fault.number, fault.column, fact, "take it away, or quote the whole value")


def quoted(value: str) -> str:
    """The value in quotes as YAML reads them: single ones, where none stand in it."""
    value = value.strip()
    if "'" in value and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return "'" + value.replace("'", "''") + "'"


Judge = Callable[[Fault], Slip | None]
JUDGES: tuple[Judge, ...] = (
    _unclosed_quote,
    _value_start,
    _unclosed_bracket,
    _rest_of_value,
    _second_colon,
    _no_colon,
    _wrong_column,
    _stray,
)
