"""`broker map`: mapping files judged, tried, tested, compared and begun; each verb has its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import (
    map_coverage,
    map_deploy,
    map_diff,
    map_examples,
    map_functions,
    map_new,
    map_show,
    map_try,
)
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deadline import within_deadline
from broker.cli.mappings import NEGATIVE, AsJson, configured, existing

VERBS = (
    map_show,
    map_try,
    map_examples,
    map_diff,
    map_coverage,
    map_new,
    map_deploy,
    map_functions,
)


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    verbs = typer.Typer(
        no_args_is_help=True, help="Check, try, test, compare and begin mapping files."
    )
    verbs.command("check")(check)
    for verb in VERBS:
        verb.register(verbs)
    app.add_typer(verbs, name="map")


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Mapping files or folders; default: those of the configuration."),
    ] = None,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Judge mappings and run their examples; 1 when something is wrong."""
    from dataclasses import asdict

    from broker.mapping.checking import check as judged

    existing(paths or [], "PATHS")
    with within_deadline():
        found = judged(paths or [configured(load_settings(config))])
    wrong = sum(complaint.severity == "error" for complaint in found)
    if as_json:
        typer.echo(json.dumps([asdict(complaint) for complaint in found], ensure_ascii=False))
    else:
        for complaint in found:
            typer.echo(str(complaint))
        typer.echo(
            f"{wrong} wrong, {len(found) - wrong} odd" if found else "all mappings are right"
        )
    if wrong:
        raise typer.Exit(NEGATIVE)
