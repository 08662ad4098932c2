"""`broker schema`: what a mapping file may say, for editors."""

from __future__ import annotations

import json

import typer


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command("schema")(schema)


def schema() -> None:
    """Print the JSON Schema of mapping files, for editors that complete and explain their keys."""
    from broker.mapping.files.schema import schema as made

    typer.echo(json.dumps(made(), ensure_ascii=False, indent=2))
