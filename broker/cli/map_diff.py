"""`broker map diff`: what a new mapping would make of messages that came, beside the old one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import LAST, CorpusOption, samples, watched
from broker.cli.mappings import NEGATIVE, AsJson, bundle_of, configured, print_json
from broker.cli.outline import printable

if TYPE_CHECKING:
    from broker.mapping.differing import Comparison, Group


def register(verbs: typer.Typer) -> None:
    """Add `diff` to the group."""
    verbs.command("diff")(diff)


def diff(
    new: Annotated[
        Path, typer.Argument(help="The new mapping: a file among the old, or a folder.")
    ],
    old: Annotated[
        Path | None, typer.Option("--old", help="What is in force; default: the configured one.")
    ] = None,
    corpus: CorpusOption = LAST,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Replay messages through old and new mappings and list what changes; 1 when anything does."""
    from broker.mapping.differing import Comparison

    settings = load_settings(config)
    before = old or configured(settings)
    comparison = Comparison(bundle_of(before), bundle_of(_beside(before, new)), settings.timezone)
    for each in watched(samples(corpus, config), "comparing"):
        comparison.add(each.name, each.raw, each.received)
    if as_json:
        print_json(_plain(comparison))
    else:
        for line in _lines(comparison):
            typer.echo(printable(line))
    if comparison.changed:
        raise typer.Exit(NEGATIVE)


def _beside(old: Path, new: Path) -> list[Path]:
    """A new folder stands alone; a new file takes the place of the old one of its name."""
    if new.is_dir() or not old.is_dir():
        return [new]
    others = [path for path in sorted(old.glob("*.yaml")) if path.name != new.name]
    return [*others, new]


def _lines(comparison: Comparison) -> Iterator[str]:
    for group in comparison.refusals:
        yield f"{group.count:>6}  {group.old}  →  {group.new}"
        yield f"        in {', '.join(each.message for each in group.samples)}{_more(group)}"
    for group in comparison.groups:
        yield f"{group.count:>6}  {group.what}: {group.old} → {group.new}"
        for each in group.samples:
            shown = f"'{each.old}' → '{each.new}'  " if each.old or each.new else ""
            yield f"        {shown}in {each.message}"
    yield f"{comparison.messages} messages, {comparison.changed} come out otherwise"


def _more(group: Group) -> str:
    return " …" if group.count > len(group.samples) else ""


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "messages": comparison.messages,
        "changed": comparison.changed,
        "refusals": [asdict(each) for each in comparison.refusals],
        "changes": [asdict(each) for each in comparison.groups],
    }
