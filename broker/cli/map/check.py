"""`broker map check`: every mistake of mapping files with its place, and their examples run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deadline import within_deadline
from broker.cli.mappings import configured, existing
from broker.cli.printing import NEGATIVE, AsJson


def register(verbs: typer.Typer) -> None:
    """Add `check` to the group."""
    verbs.command("check")(check)


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
