"""The option --config and what comes of it; a bad configuration ends the command with 78."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broker.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="BROKER_CONFIG", help="The file broker.yaml."),
]


def load_settings(config: Path | None) -> "Settings":
    """The settings, or exit 78 with every mistake and its place on stderr."""
    from broker.mapping.document import Complaints
    from broker.settings import Settings

    try:
        return Settings.load(config, os.environ)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None
