"""`broker config`: what is in force and where it was said, and what is wrong or risky about it."""

from __future__ import annotations

from typing import Annotated

import typer

from broker.cli.configuration import ConfigOption, read_settings
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import print_rows

app = typer.Typer(no_args_is_help=True, help="The configuration: what is in force, and its risks.")


def register(program: typer.Typer) -> None:
    """Add `config` to the program."""
    program.add_typer(app, name="config")


@app.command("show")
def show(
    origin: Annotated[
        bool, typer.Option("--origin", help="Where each value was said: file, variable, default.")
    ] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not a default.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Print every setting that is in force; passwords are hidden."""
    from broker.settings import origins

    found = origins.said(*read_settings(config))
    shown = [each for each in found if not changed or each.origin != origins.DEFAULT]
    if as_json:
        print_json([each._asdict() for each in shown])
        return
    rows = [{"key": each.key, "value": each.value, "origin": each.origin} for each in shown]
    if not origin:
        rows = [{"key": row["key"], "value": row["value"]} for row in rows]
    if rows:
        print_rows(rows)


@app.command("check")
def check(config: ConfigOption = None) -> None:
    """Check the configuration, its files and its Redis.

    1 where there are warnings, 69 where the Redis is not there, 78 where no broker would start.
    """
    from broker.rollout.risks import Wrong, risks

    settings, tree = read_settings(config)
    try:
        found = risks(settings, tree)
    except Wrong as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(wrong.code) from None
    for sentence in found:
        typer.echo(f"warning: {sentence}")
    if found:
        raise typer.Exit(NEGATIVE)
    typer.echo("the configuration is right, and nothing about it is risky")
