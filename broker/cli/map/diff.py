"""`broker map diff`: what a new mapping would make of messages that came, beside the old one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import LAST, CorpusOption, samples, watched
from broker.cli.mappings import bundle_of, configured, existing
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.mapping.trials.differing import Comparison, Sample


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
    from broker.mapping.trials.differing import Comparison

    existing([new], "NEW")
    existing([old] if old else [], "--old")
    settings = load_settings(config)
    before = old or configured(settings)
    comparison = Comparison(bundle_of(before), bundle_of(_beside(before, new)), settings.timezone)
    for each in watched(samples(corpus, config), "comparing"):
        comparison.add(each.name, each.raw, each.received, each.port)
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


TELLING = (
    *("AccessionNumber", "PatientID", "Modality", "ScheduledStationAETitle"),
    *("ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"),
)


def _lines(comparison: Comparison) -> Iterator[str]:
    for group in comparison.refusals:
        yield f"{group.count:>6}  {group.old}  →  {group.new}"
        for each in group.samples:
            yield f"        in {each.message}{_gained(each)}"
        yield from ["        …"] if group.count > len(group.samples) else []
    for group in comparison.groups:
        yield f"{group.count:>6}  {group.what}: {group.old} → {group.new}"
        for each in group.samples:
            yield f"        {_both(each)}in {each.message}"
    yield f"{comparison.messages} messages, {comparison.changed} come out otherwise"


def _both(sample: Sample) -> str:
    if not (sample.old or sample.new):
        return ""
    if sample.old == sample.new:  # only what may replace it later is another matter
        return f"'{sample.old}', said by another choice: a later choice never replaces a former  "
    return f"'{sample.old}' → '{sample.new}'  "


def _gained(sample: Sample) -> str:
    """What a message asks for that was refused before: what a worklist stands on, and a count."""
    told = "; ".join(_asked(each) for each in sample.gains)
    return f": {told}" if told else ""


def _asked(gain: dict[str, Any]) -> str:
    from broker.mapping.trials.examples import as_text
    from broker.worklist.attributes import STEPS

    step = {**next(iter(gain.get(STEPS) or ()), {})}
    found = {**gain, **step}
    shown = {keyword: found[keyword] for keyword in TELLING if found.get(keyword)}
    rest = len(found.keys() - shown.keys() - {"action", STEPS})
    said = ", ".join(f"{keyword} {as_text(value)}" for keyword, value in shown.items())
    return f"{gain['action']}, {said}, and {rest} more" if said else f"{gain['action']}"


def _plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "messages": comparison.messages,
        "changed": comparison.changed,
        "refusals": [asdict(each) for each in comparison.refusals],
        "changes": [asdict(each) for each in comparison.groups],
    }
