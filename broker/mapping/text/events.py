"""The tree of a file from the events of its YAML: no guessed types, no aliases, no key twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import yaml

from broker.mapping.text.nodes import Complaint, Complaints, Node, Source

MAX_DEPTH = 24
MAX_NODES = 50_000
NOTHING = {"", "~", "null"}
MERGE = "<<"


class Reader:
    """Builds the tree from PyYAML's events, which keep what compose() hides: aliases, doubles."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.complaints: list[Complaint] = []
        self.unclear = False
        self.nodes = 0

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                if root is not None:
                    self._complain(event, "a second document begins here", "one file, one document")
                    self.unclear = True
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
            self.unclear = True
        elif getattr(event, "tag", None):
            self._complain(event, "tags (!) are not used here", "every value is text")
            self.unclear = True

    def _mapping(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        for key_event in events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            key = self._node(key_event, events, depth + 1)
            name = key.text if key.text is not None else ""
            if name == MERGE and not getattr(key_event, "style", ""):
                self._complain(key_event, "merge keys (<<) are not used here", "write it out")
                self.unclear = True
            if not isinstance(key_event, yaml.ScalarEvent):
                self._complain(key_event, "a key must be text", "quote the whole value")
                self.unclear = True
            else:
                name = key_event.value
            self._judge_comma(event, key_event, name)
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
            self._judge_comma(event, item, items[-1].text or "")
        return self._at(event, items)

    def _judge_comma(self, block: yaml.Event, event: yaml.Event, text: str) -> None:
        """Whether a comma within ( ) has ended a value of { } or [ ]. Raises MarkedYAMLError."""
        if getattr(block, "flow_style", False) and text.count(")") > text.count("("):
            begun, at = _marks(block)[0], _marks(event)[0]
            raise yaml.MarkedYAMLError("within a flow", begun, "a comma ends a value", at)

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
        node = Node(value, self.source, mark.line + 1, mark.column + 1, 1, keys or {})
        pairs = zip(node.entries.items(), list(node.entries)[1:], strict=False)
        return replace(
            node, below_empty={key: empty for (empty, said), key in pairs if said.value is None}
        )

    def _complain(self, event: yaml.Event, fact: str, hint: str = "") -> None:
        start, end = _marks(event)
        width = max(1, end.column - start.column) if start.line == end.line else 1
        complaint = self.source.complain(start.line + 1, start.column + 1, fact, hint, width)
        self.complaints.append(complaint)


def _marks(event: yaml.Event) -> tuple[yaml.Mark, yaml.Mark]:
    """Where an event starts and ends; parsed text always has both."""
    nowhere = yaml.Mark("", 0, 0, 0, None, 0)
    return cast(yaml.Mark, event.start_mark or nowhere), cast(yaml.Mark, event.end_mark or nowhere)
