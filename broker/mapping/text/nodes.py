"""Text with the places where a person wrote it, and complaints that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SNIPPET_WIDTH = 110


@dataclass(frozen=True, slots=True, order=True)
class Complaint:
    """One mistake in a file a person wrote; line and column count from 1, 0 is the whole file."""

    file: str
    line: int
    column: int
    fact: str
    hint: str = ""
    snippet: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        kind = "warning: " if self.severity == "warning" else ""
        head = f"{place}: {kind}{self.fact}" + (f" — {self.hint}" if self.hint else "")
        return f"{head}\n{self.snippet}" if self.snippet else head


class Complaints(Exception):
    """Everything that is wrong with the files that were read, in the order of their places."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints = sorted(set(complaints))
        super().__init__("\n".join(str(complaint) for complaint in self.complaints))


@dataclass(frozen=True, slots=True)
class Source:
    """The text that nodes point into; `name` is what messages call the file.

    `first` is the number of the first line that is at hand.
    """

    name: str
    lines: tuple[str, ...] = ()
    first: int = 1
    # By how many characters the lines that were mended begin further right than they are written.
    shifts: Mapping[int, int] = field(default_factory=dict, compare=False)
    # Lines that were mended by a guess: what is wrong with the guess is no mistake of the file.
    guessed: frozenset[int] = frozenset()

    def complain(
        self, line: int, column: int, fact: str, hint: str = "", width: int = 1
    ) -> Complaint:
        column -= self.shifts.get(line, 0)
        return Complaint(self.name, line, column, fact, hint, self._snippet(line, column, width))

    def _snippet(self, line: int, column: int, width: int) -> str:
        if not self.first <= line < self.first + len(self.lines):
            return ""
        text = self.lines[line - self.first].replace("\t", " ")
        text = "".join(each if each.isprintable() else "·" for each in text)
        start = max(
            0, column - SNIPPET_WIDTH + 20
        )  # a line of a megabyte is shown around the place
        shown = text[start : start + SNIPPET_WIDTH]
        carets = "^" * max(1, min(width, len(shown) - (column - 1 - start)))
        number = f"{line:>5} | "
        return f"{number}{shown}\n{' ' * (len(number) + column - 1 - start)}{carets}"


@dataclass(frozen=True, slots=True)
class Node:
    """A scalar (text or None), a list or a mapping of nodes, with the place where it is written.

    Scalars stay text: `NO`, `012` and `1e3` are what they look like. Only an empty, `~` or `null`
    plain scalar is None.
    """

    value: str | list[Node] | dict[str, Node] | None
    source: Source
    line: int
    column: int
    width: int = 1
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    # Column of the first character; 0 where text and columns part ways (folded, escaped).
    text_column: int = 0
    # The files of those keys that an overlay has taken from elsewhere.
    key_sources: dict[str, Source] = field(default_factory=dict)
    # For keys that follow an empty one its name: they may have been meant to stand in it.
    below_empty: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """The scalar's text, or None when this is something else."""
        return self.value if isinstance(self.value, str) else None

    @property
    def entries(self) -> dict[str, Node]:
        """The members of a mapping; empty for everything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The members of a list; empty for everything else."""
        return self.value if isinstance(self.value, list) else []

    @property
    def kind(self) -> str:
        """One of text, list, mapping, nothing."""
        if self.value is None:
            return "nothing"
        return {"str": "text", "list": "list", "dict": "mapping"}[type(self.value).__name__]

    @property
    def place(self) -> str:
        """File and line, as people name it."""
        return f"{self.source.name}:{self.line}"

    def plain(self) -> Any:
        """The same as nested str, None, list and dict, as pydantic wants it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: Sequence[str | int]) -> Node:
        """The deepest node along a pydantic location; unknown steps (union tags) are skipped."""
        node = self
        for step in path:
            if isinstance(step, str) and step in node.entries:
                node = node.entries[step]
            elif isinstance(step, int) and 0 <= step < len(node.items):
                node = node.items[step]
        return node

    def complaint(
        self, fact: str, hint: str = "", *, offset: int = 0, width: int | None = None
    ) -> Complaint:
        """A complaint about this node, or about `width` characters of its text from `offset`."""
        if self.text_column and width is not None:
            return self.source.complain(self.line, self.text_column + offset, fact, hint, width)
        return self.source.complain(self.line, self.column, fact, hint, self.width)

    def key_complaint(self, key: str, fact: str, hint: str = "") -> Complaint:
        """A complaint about one key of this mapping."""
        line, column = self.keys.get(key, (self.line, self.column))
        return self.key_source(key).complain(line, column, fact, hint, len(key))

    def key_source(self, key: str) -> Source:
        """The file in which a key of this mapping stands."""
        return self.key_sources.get(key, self.source)

    def key_place(self, key: str) -> str:
        """File and line of a key of this mapping."""
        line, _ = self.keys.get(key, (self.line, self.column))
        return f"{self.key_source(key).name}:{line}"
