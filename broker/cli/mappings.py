"""Which mappings are meant, for the verbs that ask for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broker.mapping.bundle import Bundle
    from broker.settings import Settings

PortOption = Annotated[
    int,
    typer.Option("--port", min=0, max=65535, help="The port of the listener it came to."),
]
MappingsOption = Annotated[
    Path | None,
    typer.Option("--mappings", help="A mapping file or folder; default: the configured one."),
]


def bundle_of(paths: Path | Iterable[Path]) -> Bundle:
    """The mappings without running their examples, or exit 78 with every mistake on stderr."""
    from broker.mapping.loading import load
    from broker.mapping.text.nodes import Complaints

    try:
        return load(paths, examples=False)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None


def bundle_meant(mappings: Path | None, settings: Settings) -> Bundle:
    """The mappings of `--mappings`, else the configured ones."""
    existing([mappings] if mappings else [], "--mappings")
    return bundle_of(mappings or configured(settings))


def beside(path: Path, suffix: str = "") -> str:
    """The file beside a path that was probably meant, as the end of a sentence; '' when none is."""
    from broker.mapping.text.nearest import did_you_mean

    try:
        names = [each.name for each in path.parent.iterdir() if each.name.endswith(suffix)]
    except OSError:
        return ""
    hint = did_you_mean(path.name, names)
    return f" — {hint}" if hint else ""


def existing(paths: Iterable[Path], option: str | None = None) -> None:
    """A mapping that is named and is not there is a usage mistake (2)."""
    for path in paths:
        if not path.exists():
            fact = f"{path}: no such file or folder{beside(path)}"
            raise typer.BadParameter(fact, param_hint=option)


def configured(settings: Settings) -> Path:
    """The folder of the mappings in force, as a person in this folder would write it."""
    path = settings.mappings
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
