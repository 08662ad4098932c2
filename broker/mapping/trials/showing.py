"""A mapping as people read it: what an overlay changes, or all that is in force, with origins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from broker.mapping.files.overlaying import Layered, origin_of
from broker.mapping.text.events import NOTHING
from broker.mapping.text.nodes import Node

PLAIN_START = re.compile(r"[^\s\-?:,\[\]{}#&*!|>'\"%@`]")
INDENT = "  "


@dataclass(frozen=True)
class Shown:
    """One line: keys and numbers that lead to it, its text as YAML, and a note for people."""

    path: tuple[str | int, ...]
    text: str
    value: str | None
    origin: str
    note: str = ""


def effective(layered: Layered) -> list[Shown]:
    """The mapping with all that it extends, each line with the file and line it comes from."""
    root = layered.root
    entries = {key: node for key, node in root.entries.items() if key not in ("extends",)}
    return list(_mapping(root, entries, (), ""))


def own(layered: Layered) -> list[Shown]:
    """What the mapping's own file says, and what each line replaces in the base."""
    lines = _mapping(layered.own, layered.own.entries, (), "")
    if layered.own is layered.root:
        return list(lines)
    return [
        Shown(each.path, each.text, each.value, each.origin, _note(layered, each)) for each in lines
    ]


def _note(layered: Layered, line: Shown) -> str:
    path = tuple(str(step) for step in line.path)
    for tried in (path, (*path, "from"), (*path[:2], "rows", *path[2:])):
        there = layered.replaced.get(tried)
        if there is not None:
            break
    else:
        return ""
    if not there:
        return "new"
    verb = "takes away" if line.value is None and line.text.endswith("~") else "replaces"
    return f"{verb} {there.rsplit('/', 1)[-1]}"


def _mapping(
    node: Node, entries: dict[str, Node], path: tuple[str | int, ...], indent: str
) -> Iterator[Shown]:
    for key, inner in entries.items():
        here = (*path, key)
        line, _ = node.keys.get(key, (inner.line, 0))
        origin = origin_of(node.key_source(key), line)
        yield from _entry(f"{indent}{quoted(key)}:", inner, here, indent, origin)


def _entry(
    head: str, node: Node, path: tuple[str | int, ...], indent: str, origin: str
) -> Iterator[Shown]:
    if node.kind == "mapping" and node.entries:
        yield Shown(path, head, None, origin)
        yield from _mapping(node, node.entries, path, indent + INDENT)
    elif node.kind == "list" and any(each.kind != "text" for each in node.items):
        yield Shown(path, head, None, origin)
        for number, item in enumerate(node.items):
            yield from _item(item, (*path, number), indent + INDENT)
    elif node.kind == "list":
        texts = ", ".join(quoted(each.text or "", inside=True) for each in node.items)
        yield Shown(path, f"{head} [{texts}]", None, origin_of(node.source, node.line))
    elif node.kind == "mapping":
        yield Shown(path, f"{head} {{}}", None, origin)
    else:
        shown = "~" if node.value is None else quoted(node.text or "")
        yield Shown(path, f"{head} {shown}", node.text, origin_of(node.source, node.line))


def _item(node: Node, path: tuple[str | int, ...], indent: str) -> Iterator[Shown]:
    """One item of a list; the first line of a block carries the dash."""
    lines = list(_entry("", node, path, indent, origin_of(node.source, node.line)))
    body = lines[1:] if lines[0].text == "" else lines
    dash = f"{indent}- "
    for number, line in enumerate(body):
        text = (dash if number == 0 else "") + (line.text.lstrip() if number == 0 else line.text)
        yield Shown(line.path, text, line.value, line.origin)


def quoted(text: str, *, inside: bool = False) -> str:
    """A scalar as YAML reads it back: plain where that is safe, else in single quotes."""
    if "\n" in text or not text.isprintable():
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    risky = text in NOTHING or text != text.strip() or ": " in text or text.endswith(":")
    if (
        risky
        or " #" in text
        or not PLAIN_START.match(text)
        or (inside and set(text) & set(",[]{}"))
    ):
        return "'" + text.replace("'", "''") + "'"
    return text
