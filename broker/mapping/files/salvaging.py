"""What can still be judged of a mapping file whose form is wrong: the rest, with stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from broker.mapping.files.overlaying import is_rule
from broker.mapping.text.nodes import Complaint, Node
from broker.mapping.text.validating import complaints_of

ROUNDS = 8
"""Taking one mistake away may bring another to light; more than a few is given up."""

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]
Tree = str | dict[str, Any] | list[Any]

STAND_INS: dict[str, Tree] = {
    "mapping": "?",
    "format": "1",
    "message": "ORM^O01",
    "version": "2.5.1",
    "accept": {"messages": ["ORM^O01"]},
    "actions": [{"otherwise": "ignore"}],
    "attributes": {},
    "fields": {},
}
"""For what must be there, so that its absence is told once and not again by its consequences."""
EMPTY_TABLE: Tree = {"rows": {}, "default": ""}
EMPTY_TEXT = "''"
LINE = {"when": "MSH-1 = '?'", "do": "ignore"}
SOURCES = frozenset({"from", "const", "item"})


def salvaged(model: type[Model], root: Node) -> tuple[Model | None, Node, list[Complaint]]:
    """The file as its model, the tree that it was made of, and what is wrong with its form.

    Mistakes are cut out of the tree, with stand-ins where something must be; None when that does
    not help.
    """
    complaints: list[Complaint] = []
    tree = root
    for number in range(ROUNDS):
        try:
            if number:  # nothing is demanded of what is no whole mapping
                tree = _with(tree, ("abstract",), _node(root, "yes"))
            return model.model_validate(tree.plain()), tree, complaints
        except ValidationError as error:
            if not number:
                complaints = complaints_of(error, root, model)
            for detail in reversed(error.errors()):  # so that the places in lists stay true
                tree = _mended(tree, detail)
    return None, root, complaints


def _mended(root: Node, detail: Any) -> Node:
    steps: Path = detail["loc"]
    path = tuple(_known(root, steps))
    if detail["type"] == "missing" and not path:
        key = str(steps[-1])
        return _with(root, (key,), _node(root, STAND_INS.get(key, "")))
    return _with_out(root, path) if path else root


def _known(node: Node, steps: Path) -> Iterator[str | int]:
    """Those steps of a pydantic location that the tree has: union tags and short forms are not."""
    for step in steps:
        if isinstance(step, str) and step in node.entries:
            node = node.entries[step]
        elif isinstance(step, int) and 0 <= step < len(node.items):
            node = node.items[step]
        else:
            continue
        yield step


def _with_out(root: Node, path: Path) -> Node:
    """The tree without what is wrong at a path, or with a stand-in for the block around it."""
    if path[0] in ("tables", "let") and len(path) > 1:
        block = root.at(path[:2])
        stand_in = _node(block, EMPTY_TABLE if path[0] == "tables" else EMPTY_TEXT)
        key = block.entries.get("key")
        if key and path[2:3] != ("key",):  # whoever looks up gives as many parts
            stand_in = _with(stand_in, ("key",), key)
        return _with(root, path[:2], stand_in)
    if path[0] == "actions" and len(path) > 1:
        return _with(root, path[:2], _line(root.at(path[:2]), path[2:]))
    root = _with(root, path, None)
    for length in range(len(path), 1, -1):
        rule = path[:length]
        if all(isinstance(step, str) for step in rule) and is_rule(rule):  # type: ignore[arg-type] # str
            node = _found(root, rule)
            if node is None or not (node.text or SOURCES & node.entries.keys()):
                return _with(root, rule, _node(root, {"const": ""}))
            break
    return root


def _line(line: Node, path: Path) -> Node:
    """A line of the actions table in which nothing lacks; what it says well is kept."""
    if "otherwise" in line.entries:
        return _node(line, {"otherwise": "ignore"})
    entries = {key: _node(line, text) for key, text in LINE.items()}
    said = _with(line, path, None).entries if path else {}
    return replace(line, value=entries | said)


def _found(root: Node, path: Path) -> Node | None:
    node = root.at(path[:-1])
    return node.entries.get(str(path[-1]))


def _with(node: Node, path: Path, new: Node | None) -> Node:
    """The tree with another node at a path, None for none."""
    step, rest = path[0], path[1:]
    put: Callable[[Node | None], Node | None] = (
        (lambda there: _with(there, rest, new) if there else None) if rest else lambda _: new
    )
    if isinstance(step, int):
        return replace(node, value=_listed(node.items, step, put))
    entry = put(node.entries.get(step))
    entries = {**node.entries, step: entry}  # in its order: names may only use what stands above
    kept = {key: each for key, each in entries.items() if each is not None}
    return replace(node, value=kept)


def _listed(
    items: Sequence[Node], index: int, put: Callable[[Node | None], Node | None]
) -> list[Node]:
    changed = [put(each) if number == index else each for number, each in enumerate(items)]
    return [each for each in changed if each is not None]


def _node(place: Node, value: Tree) -> Node:
    """A stand-in at the place of a node."""
    inner: str | list[Node] | dict[str, Node]
    if isinstance(value, dict):
        inner = {key: _node(place, each) for key, each in value.items()}
    elif isinstance(value, list):
        inner = [_node(place, each) for each in value]
    else:
        inner = value
    return Node(inner, place.source, place.line, place.column)
