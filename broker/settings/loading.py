"""broker.yaml and BROKER_* variables as one tree of nodes, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from broker.mapping.text import document
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.text.nodes import Complaint, Complaints, Node, Source
from broker.settings.orders import SHORT, Hl7, Listener

PREFIX = "BROKER_"
LISTEN_FORMS = (("hl7", "listen"), ("hl7", "listeners"))


def without_nothing(node: Node) -> Node:
    """`ris:` with nothing behind it means the same as no `ris:` at all."""
    if isinstance(node.value, dict):
        said = {k: without_nothing(v) for k, v in node.value.items() if v.value is not None}
        return replace(node, value=said)
    return node if node.value is not None else replace(node, value={})


def anchored(node: Node, model: type[BaseModel], folder: Path) -> Node:
    """The tree with its relative paths made absolute against `folder`."""
    found = dict(node.entries)
    for name, info in (model.model_fields | _short(model)).items():
        if name in found:
            found[name] = _each_anchored(found[name], _Kind.of(info.annotation), folder)
    return replace(node, value=found) if isinstance(node.value, dict) else node


def _short(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """What may be said in place of a list of one."""
    return {name: Listener.model_fields[name] for name in SHORT} if model is Hl7 else {}


def _each_anchored(node: Node, kind: _Kind, folder: Path) -> Node:
    if isinstance(node.value, list):
        return replace(node, value=[_each_anchored(each, kind, folder) for each in node.value])
    if kind.model is not None:
        return anchored(node, kind.model, folder)
    if kind.is_path and node.text:
        return replace(node, value=str(folder / node.text))
    return node


def with_environment(tree: Node, model: type[BaseModel], environ: Mapping[str, str]) -> Node:
    """The tree with every BROKER_A__B variable in its place. Raises Complaints for unknown ones."""
    lists = {_variable(keys): is_list for keys, is_list in all_keys(model)}
    known = {_variable(keys): keys for keys, _ in all_keys(model)}
    blocks = {_variable(keys[:1]) for keys in known.values() if len(keys) > 1}
    strangers = []
    for variable in sorted(environ):
        # Container platforms inject names such as BROKER_PORT for a service called "broker": only
        # what has our double underscore, or is a key of ours, can be a mistake of the operator.
        if variable in blocks:
            hint = (
                f"say its keys: {next(each for each in known if each.startswith(f'{variable}__'))}"
            )
            strangers.append(Complaint(variable, 0, 0, "a block is not said by a variable", hint))
            continue
        if not variable.startswith(PREFIX) or ("__" not in variable and variable not in known):
            continue
        if variable in known:
            if known[variable] in LISTEN_FORMS:  # either form replaces the other
                tree = _without(tree, LISTEN_FORMS)
            node = _variable_node(variable, environ[variable], is_list=lists[variable])
            tree = _with_value(tree, known[variable], node)
        else:
            hint = did_you_mean(variable, known)
            strangers.append(Complaint(variable, 0, 0, "no setting has this name", hint))
    if strangers:
        raise Complaints(strangers)
    return anchored(tree, model, Path.cwd())


def _variable(keys: tuple[str, ...]) -> str:
    return PREFIX + "__".join(keys).upper()


def all_keys(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every key that can be said, as its path, and whether its value is a list."""
    if model is Hl7:
        yield ("listen",), False  # the shorthand is not a field
    for name, info in model.model_fields.items():
        kind = _Kind.of(info.annotation)
        if kind.model is not None and not kind.is_list:
            yield from (((name, *rest), is_list) for rest, is_list in all_keys(kind.model))
        else:
            yield (name,), kind.is_list


@cache
def names(model: type[BaseModel]) -> frozenset[str]:
    """Every key that can be said in a block, and in the blocks of it."""
    fields = model.model_fields | _short(model)
    inner = (_Kind.of(info.annotation).model for info in fields.values())
    return frozenset(fields).union(*(names(each) for each in inner if each is not None))


class _Kind(NamedTuple):
    """What may stand behind a key: a block, a path, a list of either, or a plain value."""

    model: type[BaseModel] | None
    is_path: bool
    is_list: bool

    @classmethod
    def of(cls, annotation: Any) -> _Kind:
        inner, is_list = annotation, get_origin(annotation) is tuple
        if get_origin(inner) is not None:  # tuple[Listener, ...], Path | None
            inner = get_args(inner)[0]
        model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
        return cls(model, inner is Path, is_list)


def _variable_node(variable: str, value: str, *, is_list: bool) -> Node:
    """A value as a node that complains under the variable's name; lists are written as in YAML."""
    if is_list:
        return document.read_text(value or "[]", variable)
    return Node(value, Source(variable), 0, 0)


def _with_value(tree: Node, keys: tuple[str, ...], value: Node) -> Node:
    first, *rest = keys
    inner = tree.entries.get(first, Node({}, value.source, 0, 0))
    new = _with_value(inner, tuple(rest), value) if rest else value
    return replace(tree, value={**tree.entries, first: new})


def _without(tree: Node, places: Iterable[tuple[str, ...]]) -> Node:
    for section, key in places:
        inner = tree.entries.get(section)
        if inner is not None and key in inner.entries:
            rest = {name: node for name, node in inner.entries.items() if name != key}
            tree = _with_value(tree, (section,), replace(inner, value=rest))
    return tree
