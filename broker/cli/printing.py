"""How verbs answer: in JSON where that is asked for, with exit code 1 for a negative finding."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

NEGATIVE = 1

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print a value as people and programs read it."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
