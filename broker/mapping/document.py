"""YAML read as text with positions: no guessed types, all mistakes at once with their places."""

from __future__ import annotations

import difflib
import errno
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

MAX_BYTES = 1_000_000
MAX_DEPTH = 24
MAX_NODES = 50_000
SNIPPET_WIDTH = 110
NOTHING = {"", "~", "null"}

Model = TypeVar("Model", bound=BaseModel)


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
    """The text that nodes point into; `name` is what messages call the file."""

    name: str
    lines: tuple[str, ...] = ()

    def complain(
        self, line: int, column: int, fact: str, hint: str = "", width: int = 1
    ) -> Complaint:
        return Complaint(self.name, line, column, fact, hint, self._snippet(line, column, width))

    def _snippet(self, line: int, column: int, width: int) -> str:
        if not 1 <= line <= len(self.lines):
            return ""
        text = self.lines[line - 1].replace("\t", " ")
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


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint that names the closest of `choices`, or ''."""
    known = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean '{known[close[0]]}'?" if close else ""


def read(path: Path, name: str = "") -> Node:
    """Read one YAML file. `name` is what complaints call it. Raises Complaints."""
    shown = name or str(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise Complaints([Complaint(shown, 0, 0, f"cannot be read: {why(error)}")]) from error
    return read_text(decode(data, shown), shown)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, one more than is allowed at most. Raises OSError."""
    if path.exists() and not path.is_file():
        raise IsADirectoryError(errno.EISDIR, "is not a file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def why(error: OSError) -> str:
    """The reason in the words of the system."""
    return (error.strerror or type(error).__name__).lower()


def decode(data: bytes, name: str) -> str:
    """The text of a file: UTF-8, with or without a byte order mark. Raises Complaints."""
    if len(data) > MAX_BYTES:
        fact = f"is too long, the limit is {MAX_BYTES:,} bytes"
        raise Complaints([Complaint(name, 0, 0, fact)])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Complaints([Complaint(name, 1, 1, "is UTF-16", "save it as UTF-8")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        fact = f"byte {data[error.start]:#04x} is not UTF-8"
        hint = "the file looks like Latin-1 or Windows text: save it as UTF-8"
        raise Complaints([Complaint(name, line, column, fact, hint)]) from error


def read_text(text: str, name: str) -> Node:
    """Read YAML text. Duplicate keys, aliases, tags and sizes are complaints, all at once."""
    source = Source(name, tuple(text.splitlines()))
    reader = _Reader(source)
    try:
        root = reader.document(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise Complaints([*reader.complaints, _syntax_complaint(error, source)]) from error
    except yaml.YAMLError as error:
        hint = "control characters are not allowed"
        raise Complaints([source.complain(0, 0, "is not YAML text", hint)]) from error
    if reader.complaints:
        raise Complaints(reader.complaints)
    return root


def _syntax_complaint(error: yaml.MarkedYAMLError, source: Source) -> Complaint:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    fact = error.problem or "is not YAML"
    line_text = source.lines[line - 1] if 0 < line <= len(source.lines) else ""
    hint = ""
    if "\t" in line_text[:column]:
        hint = "YAML is indented with spaces, never with tabs"
    elif "'" in line_text or '"' in line_text:
        hint = (
            "a value that starts with a quote must be quoted as a whole; a constant is {const: CT}"
        )
    elif "{" in line_text:
        hint = "inside { } a value with [ ] , or : needs quotes around it"
    return source.complain(line, column, fact, hint)


class _Reader:
    """Builds the tree from PyYAML's events, which keep what compose() hides: aliases, doubles."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.complaints: list[Complaint] = []
        self.nodes = 0

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                if root is not None:
                    self._complain(event, "a second document begins here", "one file, one document")
                    break
                root = self._node(event, events, 1)
        return root or Node(None, self.source, 1, 1)

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        self._judge(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, events, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, events, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return self._at(event, None)

    def _judge(self, event: yaml.Event, depth: int) -> None:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            what = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_NODES:,} values"
            self._complain(event, f"more than {what}")
            raise Complaints(self.complaints)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._complain(event, "anchors and aliases (& and *) are not used here", "write it out")
        elif getattr(event, "tag", None):
            self._complain(event, "tags (!) are not used here", "every value is text")

    def _mapping(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        for key_event in events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            key = self._node(key_event, events, depth + 1)
            name = key.text if key.text is not None else ""
            if not isinstance(key_event, yaml.ScalarEvent):
                self._complain(key_event, "a key must be text", "quote the whole value")
            else:
                name = key_event.value
            value = self._node(next(events), events, depth + 1)
            if name in entries:
                first = keys[name][0]
                self._complain(key_event, f"key '{name}' again; it is already on line {first}")
            entries.setdefault(name, value)
            keys.setdefault(name, (key.line, key.column))
        return self._at(event, entries, keys)

    def _sequence(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        items: list[Node] = []
        for item in events:
            if isinstance(item, yaml.SequenceEndEvent):
                break
            items.append(self._node(item, events, depth + 1))
        return self._at(event, items)

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        start, end = _marks(event)
        width = end.column - start.column if start.line == end.line else 1
        quoted = bool(event.style)
        value = None if not quoted and event.value in NOTHING else event.value
        in_step = start.line == end.line and width == len(event.value) + (2 if quoted else 0)
        text_column = start.column + 1 + quoted if in_step else 0
        line, column = start.line + 1, start.column + 1
        return Node(value, self.source, line, column, max(1, width), {}, text_column)

    def _at(
        self,
        event: yaml.Event,
        value: list[Node] | dict[str, Node] | None,
        keys: dict[str, tuple[int, int]] | None = None,
    ) -> Node:
        mark, _ = _marks(event)
        return Node(value, self.source, mark.line + 1, mark.column + 1, 1, keys or {})

    def _complain(self, event: yaml.Event, fact: str, hint: str = "") -> None:
        start, end = _marks(event)
        width = max(1, end.column - start.column) if start.line == end.line else 1
        complaint = self.source.complain(start.line + 1, start.column + 1, fact, hint, width)
        self.complaints.append(complaint)


def _marks(event: yaml.Event) -> tuple[yaml.Mark, yaml.Mark]:
    """Where an event starts and ends; parsed text always has both."""
    nowhere = yaml.Mark("", 0, 0, 0, None, 0)
    return cast(yaml.Mark, event.start_mark or nowhere), cast(yaml.Mark, event.end_mark or nowhere)


def validated(model: type[Model], node: Node) -> Model:
    """The node as a pydantic model; its errors become complaints. Raises Complaints."""
    try:
        return model.model_validate(node.plain() if node.value is not None else {})
    except ValidationError as error:
        raise Complaints(complaints_of(error, node, model)) from error


def complaints_of(
    error: ValidationError, node: Node, model: type[BaseModel] | None = None
) -> list[Complaint]:
    """Pydantic's errors as complaints; of an unknown key the closest known one is named."""
    return [_model_complaint(detail, node, model) for detail in error.errors()]


def _model_complaint(detail: Any, root: Node, model: type[BaseModel] | None) -> Complaint:
    path: tuple[str | int, ...] = detail["loc"]
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        key = str(path[-1])
        choices = _keys_at(model, path[:-1]) if model else []
        hint = did_you_mean(key, choices) or (f"known: {', '.join(choices)}" if choices else "")
        return root.at(path[:-1]).key_complaint(key, f"unknown key '{key}'", hint)
    if kind == "missing":
        return root.at(path[:-1]).complaint(f"'{path[-1]}' is missing")
    # A model's own ValueError speaks for itself; pydantic's phrases need the key before them.
    words = str(detail["msg"]).removeprefix("Value error, ")
    named = next((step for step in reversed(path) if isinstance(step, str)), "")
    fact = (
        words if kind == "value_error" or not named else f"{named}: {words[:1].lower()}{words[1:]}"
    )
    return root.at(path).complaint(fact)


def _keys_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    models = [model]
    for step in path:
        inner: list[type[BaseModel]] = []
        for owner in models:
            for name, info in owner.model_fields.items():
                if step in (name, info.alias):
                    inner.extend(_models_in(info.annotation))
        models = inner or models
    names = (info.alias or name for owner in models for name, info in owner.model_fields.items())
    return sorted(set(names))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]
