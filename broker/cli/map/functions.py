"""`broker map functions`: the reference of the expression language."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from broker.cli.printing import AsJson


def register(verbs: typer.Typer) -> None:
    """Add the verb of this file."""
    verbs.command("functions")(functions)


def functions(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/mapping-functions.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the functions of mapping expressions, each with an example."""
    from broker.mapping.trials import reference

    if markdown:
        typer.echo(reference.markdown(), nl=False)
    elif as_json:
        typer.echo(json.dumps(reference.plain(), ensure_ascii=False))
    else:
        for line in reference.lines():
            typer.echo(line)
