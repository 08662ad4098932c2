"""The option --config and what comes of it; a bad configuration ends the command with 78."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from broker.mapping.text.nodes import Node
    from broker.settings import Settings

SETTINGS_FILE = Path("broker.yaml")
REMEDY = "say --config broker.yaml, or export BROKER_CONFIG=broker.yaml"

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="BROKER_CONFIG", help="The file broker.yaml."),
]


def load_settings(config: Path | None) -> "Settings":
    """The settings, or exit 78 with every mistake and its place on stderr."""
    return read_settings(config)[0]


def read_settings(config: Path | None) -> "tuple[Settings, Node]":
    """The settings, and what was said with its places; or exit 78 as `load_settings`."""
    from broker.mapping.text.nodes import Complaints
    from broker.settings import Settings

    if config is None and SETTINGS_FILE.is_file():
        typer.echo(f"{SETTINGS_FILE} of this folder is not read; {REMEDY}", err=True)
    try:
        return Settings.read(config, os.environ)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None
