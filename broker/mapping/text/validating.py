"""A tree as a pydantic model; what does not fit is told in the words of the file, at its place."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from broker.mapping.text.nearest import did_you_mean, meant
from broker.mapping.text.nodes import Complaint, Complaints, Node

LONGEST_SHOWN = 40
CHOICES = {"literal_error", "enum"}
SHAPES = {
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a block of keys",
    "model_type": "must be a block of keys",
    "model_attributes_type": "must be a block of keys",
}
"""What pydantic misses, in the words of the file."""
REMEDIES: Final = {
    ("must be text", "list"): "write one value, without '-' or [ ]",
    ("must be text", "mapping"): "write one value; one that begins with { stands in quotes",
    ("must be a list", "text"): "put [ ] around it",
    ("must be a list", "mapping"): "begin each entry with '-'",
    ("must be a block of keys", "text"): "write its keys below it, each as KEY: value",
    ("must be a block of keys", "list"): "write its keys below it, each as KEY: value",
}
"""What to write instead, by what is missed and what stands there."""
GLUED = re.compile(r"[A-Za-z][\w-]*:(?=\S)")

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], node: Node) -> Model:
    """The node as a pydantic model; its errors become complaints. Raises Complaints."""
    try:
        return model.model_validate(node.plain() if node.value is not None else {})
    except ValidationError as error:
        raise Complaints(complaints_of(error, node, model)) from error


TABLES_SAY = "it belongs to a table: tables: {NAME: {…, on_miss: hold}}, which is then looked up"
BELONGS: Final = {
    ("attributes", "on_miss"): TABLES_SAY,
    ("accept", "facility"): "senders says it: senders: ['*|FACILITY']",
    ("accept", "facilities"): "senders says it: senders: ['*|FACILITY', …]",
    ("accept", "application"): "senders says it: senders: ['APPLICATION|*']",
    ("accept", "sender"): "did you mean 'senders'? As ['APPLICATION|FACILITY']",
}
"""Where in the file, and how, what a key means there is said."""


def complaints_of(
    error: ValidationError, node: Node, model: type[BaseModel] | None = None
) -> list[Complaint]:
    """Pydantic's errors as complaints; of an unknown key the closest known one is named."""
    details = error.errors()
    slips = {
        (detail["loc"][:-1], meant(str(detail["loc"][-1]), _keys_at(model, detail["loc"][:-1])))
        for detail in details
        if model and detail["type"] == "extra_forbidden"
    }
    return [
        _model_complaint(detail, node, model)
        for detail in details
        # What a misspelt key was to say does not lack as well.
        if detail["type"] != "missing" or (detail["loc"][:-1], detail["loc"][-1]) not in slips
    ]


def _model_complaint(detail: Any, root: Node, model: type[BaseModel] | None) -> Complaint:
    path: tuple[str | int, ...] = detail["loc"]
    kind: str = detail["type"]
    node = root.at(path)
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), path[:-1], root, model)
    if kind == "missing":
        return _missing_key(str(path[-1]), root.at(path[:-1]))
    if kind in SHAPES or (kind in CHOICES and node.text is None):
        fact = SHAPES.get(kind, SHAPES["string_type"])
        known = _keys_at(model, path) if kind.startswith("model") else []
        hint = _shape_hint(node, _named(path), known) or _remedy(node, fact, known)
        return node.complaint(f"{_named(path)}: {fact}", hint)
    if kind in CHOICES:
        return _none_of(str(detail["ctx"]["expected"]), _named(path), node)
    words = str(detail["msg"]).removeprefix("Value error, ")
    if kind != "value_error" and _named(path):  # a model's own ValueError speaks for itself
        words = f"{_named(path)}: {words[:1].lower()}{words[1:]}"
    fact, _, hint = words.partition(" — ")
    return node.complaint(fact, hint)


def _named(path: Sequence[str | int]) -> str:
    """The key that a pydantic location is about."""
    return next((step for step in reversed(path) if isinstance(step, str)), "")


def _unknown_key(
    key: str, path: Sequence[str | int], root: Node, model: type[BaseModel] | None
) -> Complaint:
    choices = _keys_at(model, path)
    hint = (
        _misplaced(key, path, root, model)
        or BELONGS.get((f"{path[0]}" if path else "", key))
        or did_you_mean(key, choices)
        or (f"known: {', '.join(choices)}" if choices else "")
    )
    return root.at(path).key_complaint(key, f"unknown key '{key}'", hint)


def _missing_key(key: str, block: Node) -> Complaint:
    if key in block.keys:  # an overlay has taken it away
        return block.key_complaint(key, f"'{key}' is empty", "take it away, or fill it")
    return block.complaint(f"'{key}' is missing")


def _none_of(expected: str, named: str, node: Node) -> Complaint:
    choices = [
        word for part in expected.replace("'", "").split(", ") for word in part.split(" or ")
    ]
    hint = did_you_mean(node.text or "", choices) or f"possible: {', '.join(choices)}"
    return node.complaint(f"{named}: '{(node.text or '')[:LONGEST_SHOWN]}' is none", hint)


def _misplaced(
    key: str, path: Sequence[str | int], root: Node, model: type[BaseModel] | None
) -> str:
    """Where a key belongs that is not known where it stands: below an empty key, or further out."""
    block = root.at(path)
    if key in block.below_empty:
        return f"'{block.below_empty[key]}' above it is empty: indent this to belong to it"
    keys = list(block.keys)
    before = keys[keys.index(key) - 1] if key in keys[1:] else ""
    inside = block.entries[before].keys if before in block.entries else {}
    if any(each[:1].isupper() for each in inside) and key[:1].isupper():
        _, column = next(iter(inside.values()))
        return f"begin it in column {column} to belong to '{before}'"
    for length in range(len(path) - 1, -1, -1):
        outer = root.at(path[:length])
        known = _keys_at(model, path[:length])
        alike = key[:1].isupper() and all(each[:1].isupper() for each in outer.keys)
        if outer.keys and (key in known or alike):
            _, column = next(iter(outer.keys.values()))
            return f"it belongs further out: begin it in column {column}"
    return ""


def _shape_hint(node: Node, named: str, known: Sequence[str]) -> str:
    if node.text and (glued := GLUED.match(node.text)):
        return f"a space is missing after '{glued[0]}'"
    if node.kind == "list" and all(each.entries for each in node.items):
        return "take the '-' away: keys stand below each other"
    if node.kind == "list" and named not in known and "from" in known:
        return "several sources stand as 'from: [a, b]'"
    return ""


def _remedy(node: Node, fact: str, known: Sequence[str]) -> str:
    if node.kind == "nothing":
        return "fill it, or take it away"
    hint = REMEDIES.get((fact, node.kind), "")
    return f"{hint}; known: {', '.join(known)}" if hint and known else hint


def _keys_at(model: type[BaseModel] | None, path: Sequence[str | int]) -> list[str]:
    """The keys that a model knows at a pydantic location; none without a model."""
    models = [model] if model else []
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
