"""`broker map show`: what an overlay changes, or all that is in force, with the origin of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import configured, existing
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.mapping.trials.showing import Shown


def register(verbs: typer.Typer) -> None:
    """Add `show` to the group."""
    verbs.command("show")(show)


def show(
    mapping: Annotated[str, typer.Argument(help="A mapping file, or the name of a mapping.")],
    effective: Annotated[
        bool, typer.Option("--effective", help="With everything that it extends.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show a mapping and what it replaces; 1 when it cannot be read."""
    from broker.mapping.files.overlaying import read_layers
    from broker.mapping.text.nodes import Complaints
    from broker.mapping.trials import showing

    try:
        layered = read_layers(_file(mapping, config))
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(NEGATIVE) from None
    if wrong := [each for each in layered.complaints if each.severity == "error"]:
        typer.echo(str(Complaints(wrong)), err=True)
        raise typer.Exit(NEGATIVE)
    lines = showing.effective(layered) if effective else showing.own(layered)
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    for text in _lines(lines):
        typer.echo(text)


def _file(mapping: str, config: Path | None) -> Path:
    """The file itself, or the one of this name beside the configured mappings or shipped."""
    from broker.mapping.files.overlaying import SHIPPED, SUFFIX
    from broker.mapping.text.nearest import did_you_mean

    if mapping.endswith(SUFFIX):
        existing([Path(mapping)], "MAPPING")
        return Path(mapping)
    folders = (configured(load_settings(config)), SHIPPED)
    known = {path.stem: path for folder in reversed(folders) for path in folder.glob(f"*{SUFFIX}")}
    if mapping not in known and not Path(mapping).is_file():
        hint = did_you_mean(mapping, known) or f"there are: {', '.join(sorted(known))}"
        raise typer.BadParameter(f"there is no mapping '{mapping}'; {hint}", param_hint="MAPPING")
    return known.get(mapping, Path(mapping))


def _lines(lines: Sequence[Shown]) -> Iterator[str]:
    widest = min(max((len(line.text) for line in lines), default=0), 70)
    for line in lines:
        remark = line.note or line.origin
        yield printable(f"{line.text:<{widest}}  # {remark}")
