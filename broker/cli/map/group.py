"""The verbs of `broker map`; each has its file."""

from __future__ import annotations

import typer

from broker.cli.map import check, coverage, deploy, diff, examples, functions, new, show, trying

VERBS = (check, show, trying, examples, diff, coverage, new, deploy, functions)


def register(app: typer.Typer) -> None:
    """Add `map` to the program."""
    verbs = typer.Typer(
        no_args_is_help=True, help="Check, try, test, compare and begin mapping files."
    )
    for verb in VERBS:
        verb.register(verbs)
    app.add_typer(verbs, name="map")
