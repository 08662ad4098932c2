"""What the verbs of `broker map` share: which mappings are meant, and how JSON is printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from broker.mapping.bundle import Bundle
    from broker.settings import Settings

NEGATIVE = 1

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MappingsOption = Annotated[
    Path | None,
    typer.Option("--mappings", help="A mapping file or folder; default: the configured one."),
]


def bundle_of(paths: Path | Iterable[Path]) -> Bundle:
    """The mappings without running their examples, or exit 78 with every mistake on stderr."""
    from broker.mapping.document import Complaints
    from broker.mapping.loading import load

    try:
        return load(paths, examples=False)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None


def configured(settings: Settings) -> Path:
    """The folder of the mappings in force, as a person in this folder would write it."""
    path = settings.mappings
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
