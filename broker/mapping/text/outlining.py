"""The lines of YAML text as a person sees them: what stands in which column, and below what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

KEY = re.compile(r"(?P<key>'[^']*'|\"[^\"]*\"|[^\s'\"#:\[\]{},&*!|>%@`-][^:#]*?)\s*:(?=\s|$)")
LONGEST_SHOWN = 40
LOOKED_AT = 1000
"""Characters of a line among which its key must stand."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, or the dash of a list (`-`), at its place; line and column count from 1."""

    key: str
    line: int
    column: int

    @property
    def is_dash(self) -> bool:
        """Whether an entry of a list begins here."""
        return self.key == "-"

    def __str__(self) -> str:
        return f"'{self.key[:LONGEST_SHOWN]}' on line {self.line}"


def entries_on(line: str, number: int) -> list[Entry]:
    """The dashes and the key that a line begins with, from left to right."""
    found: list[Entry] = []
    line = line[:LOOKED_AT]
    at = len(line) - len(line.lstrip(" "))
    while line[at : at + 2] in ("- ", "-"):
        found.append(Entry("-", number, at + 1))
        at += 1
        at += len(line[at:]) - len(line[at:].lstrip(" "))
    match = KEY.match(line, at)
    if match:
        found.append(Entry(match["key"].strip("'\""), number, at + 1))
    return found


def value_on(line: str) -> tuple[int, str]:
    """Where the value of the key of a line begins (offset, 0 for no key), and what it is."""
    entries = entries_on(line, 1)
    if not entries or entries[-1].is_dash:
        return 0, ""
    match = KEY.match(line[:LOOKED_AT], entries[-1].column - 1)
    end = match.end() if match else 0
    value = line[end:]
    return end + len(value) - len(value.lstrip(" ")), value.strip()


def is_written(line: str) -> bool:
    """Whether a line holds more than blanks and a comment."""
    text = line.strip()
    return bool(text) and not text.startswith("#")


def above(lines: Sequence[str], number: int) -> list[Entry]:
    """The entries that are open where line `number` begins, the outermost first."""
    open_ones: list[Entry] = []
    for at, line in enumerate(lines[: number - 1], 1):
        if not is_written(line):
            continue
        for entry in entries_on(line, at):
            while open_ones and open_ones[-1].column > entry.column:
                open_ones.pop()
            last = open_ones[-1] if open_ones else None
            if last and last.column == entry.column and (last.is_dash or not entry.is_dash):
                open_ones.pop()
            open_ones.append(entry)
    return open_ones


def written_before(lines: Sequence[str], number: int) -> int:
    """The number of the last line above `number` that holds something, 0 for none."""
    return next((at for at in range(number - 1, 0, -1) if is_written(lines[at - 1])), 0)
