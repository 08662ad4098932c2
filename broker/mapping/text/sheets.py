"""CSV files as rows with their places; whatever is odd about one is a complaint with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from broker.mapping.text.nodes import Complaint, Node, Source

MAX_ROWS = 100_000
COMMENT = "#"
OTHER_SEPARATORS = {";": "';'", "\t": "tabs"}
QUOTE = '"'


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, blanks taken off, and the line where it begins."""

    line: int
    cells: tuple[str, ...]


class Sheet:
    """A CSV file: its columns, its rows, and all that is wrong with them."""

    def __init__(self, text: str, name: str) -> None:
        self.source = Source(name, tuple(text.splitlines()))
        self.complaints: list[Complaint] = []
        self.columns: tuple[str, ...] = ()
        self.heading = 1
        rows = list(self._rows(text))
        if rows:
            self.columns, self.heading = rows[0].cells, rows[0].line
        self.rows = rows[1:]
        if not self.complaints:
            self._judge_heading()

    @property
    def is_broken(self) -> bool:
        """Whether there is no telling what its rows mean."""
        return any(each.severity == "error" for each in self.complaints)

    def complain(
        self, line: int, fact: str, hint: str = "", *, column: int = 1, severity: str = "error"
    ) -> None:
        """Tell a mistake of a line."""
        text = self.source.lines[line - 1] if 0 < line <= len(self.source.lines) else ""
        width = max(1, len(text) - column + 1)
        complaint = self.source.complain(line, column, fact, hint, width)
        self.complaints.append(replace(complaint, severity=severity))

    def place_of(self, line: int, number: int) -> int:
        """The column of text where cell `number` (from 0) of a row on one line begins."""
        text = self.source.lines[line - 1]
        quoted, cells = False, 0
        for at, sign in enumerate(text):
            if cells == number:
                return at + 1
            quoted ^= sign == QUOTE
            cells += sign == "," and not quoted
        return len(text) + 1

    def _rows(self, text: str) -> Iterator[Row]:
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            column = self.source.lines[line - 1].index("\0") + 1
            self.complain(line, "holds a NUL byte", "save it as UTF-8 text", column=column)
            return
        reader = csv.reader(io.StringIO(text, newline=None), strict=True)
        begins = 1
        try:
            for cells in reader:
                row = Row(begins, tuple(cell.strip() for cell in cells))
                begins = reader.line_num + 1
                if any(row.cells) and not row.cells[0].startswith(COMMENT):
                    self._judge_lines(row, reader.line_num)
                    yield row
                if begins > MAX_ROWS:
                    self.complain(row.line, f"more than {MAX_ROWS:,} rows")
                    return
        except csv.Error as error:
            self._misread(begins, str(error))

    def _misread(self, line: int, problem: str) -> None:
        text = self.source.lines[line - 1] if line <= len(self.source.lines) else ""
        if "end of data" in problem:
            opened = max(text.rfind(f",{QUOTE}") + 1, 0) + 1
            fact, hint = "this quote is never closed", f"end the cell with {QUOTE}"
            self.complain(line, fact, hint, column=opened)
        elif "expected after" in problem:
            hint = 'within a quoted cell a quote is written twice: "say ""x"""'
            at = text.find(QUOTE) + 1
            self.complain(line, "a quote ends before its cell does", hint, column=at)
        else:
            self.complain(line, f"is not CSV: {problem}")

    def _judge_lines(self, row: Row, last: int) -> None:
        if last > row.line:
            hint = f"it was perhaps meant to end with a {QUOTE} on its line"
            fact = f"a cell of this row goes on to line {last}"
            self.complain(row.line, fact, hint)

    def _judge_heading(self) -> None:
        if not self.columns:
            self.complain(1, "is empty", "the first row names the columns, as key,value")
            return
        text = self.source.lines[self.heading - 1]
        for sign, name in OTHER_SEPARATORS.items():
            if sign in text and "," not in text:
                fact = f"the columns are separated by {name}"
                hint = "save it with commas between the columns (CSV UTF-8)"
                self.complain(self.heading, fact, hint, column=text.index(sign) + 1)
                return
        if not self.rows:
            self.complain(self.heading, "has no row below the names", severity="warning")


class Cell(NamedTuple):
    """A cell of a sheet: `line` is that of its row, `number` its column, from 0."""

    text: str
    sheet: Sheet
    line: int
    number: int

    @property
    def node(self) -> Node:
        """The cell with the place where it is written."""
        column = self.sheet.place_of(self.line, self.number)
        return Node(self.text, self.sheet.source, self.line, column, len(self.text))


def cells_of(row: Row, columns: Sequence[int]) -> tuple[str, ...]:
    """The cells of these columns, '' for one that the row does not have."""
    return tuple(row.cells[at] if at < len(row.cells) else "" for at in columns)
