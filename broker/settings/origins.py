"""Every value in force, as it is written, and where it comes from; no secret is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr

from broker.mapping.text.nodes import Node
from broker.settings.secrets import HIDDEN, unsaid
from broker.settings.values import TIME_UNITS, Address
from broker.settings.whole import Settings

DEFAULT: Final = "default"


class Said(NamedTuple):
    """One key with its value; `origin` is default, FILE:LINE, a variable or a credential."""

    key: str
    value: str
    origin: str


def said(settings: Settings, tree: Node) -> Iterator[Said]:
    """Every value, in the order of the documentation; `tree` is what `Settings.read` gave.

    Of a block in a list only what it says: for the rest hold the rules and limits above it.
    """
    yield from _of_block(settings, tree, "", DEFAULT)


def _of_block(block: BaseModel, node: Node | None, prefix: str, origin: str) -> Iterator[Said]:
    for name in type(block).model_fields:
        inner = node.entries.get(name) if node is not None else None
        if node is not None and inner is None and name == "listeners":
            inner = _short(node)
        yield from _of(getattr(block, name), inner, f"{prefix}{name}", origin)


def _of(value: Any, node: Node | None, key: str, origin: str) -> Iterator[Said]:
    origin = _place(node, origin)
    if isinstance(value, BaseModel):
        yield from _of_block(value, node, f"{key}.", DEFAULT if node is not None else origin)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for number, each in enumerate(value):
            inner = node.items[number] if node and number < len(node.items) else None
            every = _of(each, inner, f"{key}.{number}", origin)
            yield from (one for one in every if inner is None or one.origin != DEFAULT)
    else:
        yield Said(key, _written(value), origin)


def _short(node: Node) -> Node | None:
    """The list of the one listener that `listen` and `tls` are short for."""
    listen = node.entries.get("listen")
    return None if listen is None else Node([node], listen.source, listen.line, listen.column)


def _place(node: Node | None, otherwise: str) -> str:
    if node is None:
        return otherwise
    return f"{node.source.name}:{node.line}" if node.line else node.source.name


def _written(value: Any) -> str:
    """A value as broker.yaml would have it."""
    match value:
        case SecretStr():
            return HIDDEN if value else ""
        case None:
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            return _span(value.total_seconds())
        case Enum():
            return str(value.value)
        case Address():
            return str(value)
        case tuple() | list() | set() | frozenset():
            return f"[{', '.join(map(_written, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{key}: {_written(each)}' for key, each in value.items())}}}"
        case _:
            return unsaid(str(value))


def _span(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds and not seconds % TIME_UNITS[unit]:
            return f"{seconds / TIME_UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"
