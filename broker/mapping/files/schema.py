"""The JSON Schema of mapping files, made from their models, for editors that complete keys."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import TypeAdapter

from broker.mapping.files.rules import InboundFile, OutboundFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCALAR = {"type": ["string", "number", "boolean"]}
"""Every value is text for us; an editor reads `format: 1` as a number and `N` perhaps as false."""
REF = "#/$defs/"
OVERLAID = "Overlay"
SHORT = {"AttributeRule": SCALAR, "Choice": SCALAR, "FieldRule": SCALAR}
"""What may be written as a mere text."""
ROWS = {"type": "object", "additionalProperties": SCALAR}


def schema() -> dict[str, Any]:
    """One schema for mappings in, mappings out, and overlays of both."""
    models = TypeAdapter(InboundFile | OutboundFile)
    definitions = models.json_schema(by_alias=True, mode="validation")["$defs"]
    whole = {name: _opened(definition) for name, definition in definitions.items()}
    overlays = {OVERLAID + name: _overlaid(definition) for name, definition in whole.items()}
    for name in ("InboundFile", "OutboundFile"):
        overlays[OVERLAID + name]["required"] = ["mapping", "extends"]
    return {
        "$schema": DIALECT,
        "title": "Mapping of the worklist broker",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"anyOf": [_ref("OverlayInboundFile"), _ref("OverlayOutboundFile")]},
        "else": {
            "if": {"properties": {"direction": {"const": "out"}}, "required": ["direction"]},
            "then": _ref("OutboundFile"),
            "else": _ref("InboundFile"),
        },
        "$defs": whole | overlays,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF + name}


def _opened(part: Any) -> Any:
    """The part with the short forms that files may use."""
    if isinstance(part, list):
        return [_opened(each) for each in part]
    if not isinstance(part, dict):
        return part
    name = str(part.get("$ref", "")).removeprefix(REF)
    if name in SHORT:
        return {"anyOf": [SHORT[name], part]}
    if name == "TableRule":
        return {"anyOf": [part, ROWS]}
    opened = {
        key: value if key in ("default", "properties") else _opened(value)
        for key, value in part.items()
    }
    if "properties" in part:  # names of keys, not words of the schema
        opened["properties"] = {key: _opened(value) for key, value in part["properties"].items()}
        return opened
    if opened.get("type") == "string" or "const" in opened or "enum" in opened:
        return _as_read(opened)
    if opened.get("type") == "array":
        description = {"description": opened.pop("description")} if "description" in opened else {}
        return description | {"anyOf": [opened["items"], opened]}
    return opened


def _as_read(part: dict[str, Any]) -> dict[str, Any]:
    """A text, or what an editor makes of it."""
    choices = part.pop("enum", None) or ([part.pop("const")] if "const" in part else None)
    part.pop("type", None)
    if choices is None:
        return part | SCALAR
    read: list[Any] = list(choices)
    for choice in choices:
        if choice.replace(".", "", 1).isdigit():
            read.append(float(choice) if "." in choice else int(choice))
    words = {"yes": True, "no": False}
    return part | {"enum": [*read, *(words[choice] for choice in choices if choice in words)]}


def _overlaid(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition for overlays: nothing is required, and null takes away."""
    overlaid: dict[str, Any] = _renamed(deepcopy(definition))
    overlaid.pop("required", None)
    for key, value in overlaid.get("properties", {}).items():
        overlaid["properties"][key] = _nullable(value)
    return overlaid


def _nullable(part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("additionalProperties"), dict):
        part = part | {"additionalProperties": _nullable(part["additionalProperties"])}
    if "anyOf" in part:
        return part | {"anyOf": [*map(_nullable, part["anyOf"]), {"type": "null"}]}
    return {"anyOf": [part, {"type": "null"}]}


def _renamed(part: Any) -> Any:
    if isinstance(part, list):
        return [_renamed(each) for each in part]
    if not isinstance(part, dict):
        return part
    renamed = {key: _renamed(value) for key, value in part.items()}
    if "$ref" in renamed:
        renamed["$ref"] = REF + OVERLAID + renamed["$ref"].removeprefix(REF)
    return renamed
