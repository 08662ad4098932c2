"""`broker map coverage`: what messages say and nobody reads, what mappings say and nobody needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import LAST, CorpusOption, samples, watched
from broker.cli.mappings import MappingsOption, bundle_meant
from broker.cli.outline import printable
from broker.cli.printing import AsJson, print_json

if TYPE_CHECKING:
    from broker.mapping.trials.coverage import Coverage, Covering, Place


def register(verbs: typer.Typer) -> None:
    """Add `coverage` to the group."""
    verbs.command("coverage")(coverage)


def coverage(
    mappings: MappingsOption = None,
    corpus: CorpusOption = LAST,
    inherited: Annotated[
        bool, typer.Option("--inherited", help="Also list the idle rules of what is extended.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show fields never read, rules never used and codes in no table, over messages that came."""
    from broker.mapping.trials.coverage import Covering
    from broker.mapping.trials.trying import try_message

    settings = load_settings(config)
    bundle = bundle_meant(mappings, settings)
    covering = Covering(bundle)
    for each in watched(samples(corpus, config), "reading"):
        trial = try_message(
            bundle,
            each.raw,
            received=each.received,
            site_zone=settings.timezone,
            port=each.port,
        )
        covering.add(trial)
    if as_json:
        print_json(_plain(covering))
        return
    for line in _lines(covering, inherited=inherited):
        typer.echo(printable(line))


def _lines(covering: Covering, *, inherited: bool) -> Iterator[str]:
    for each in covering.used:
        held = f", {each.held} held" if each.held else ""
        yield f"{each.inbound.name}: {each.messages} messages, {each.refused} refused{held}"
        yield from _coverage_lines(each, inherited=inherited)
    for refusal, count in covering.strays.most_common():
        yield f"{count:>6}  taken by no mapping: {refusal}"
    if not covering.used and not covering.strays:
        yield "no messages"


def _coverage_lines(coverage: Coverage, *, inherited: bool) -> Iterator[str]:
    yield from _section(
        "codes in no table",
        (f"{count:>6}  {table}  '{key}'" for (table, key), count in coverage.misses.most_common()),
    )
    yield from _section(
        "fields that messages fill and nothing reads",
        (f"{count:>6}  {name}-{number}" for name, number, count in unread(coverage)),
    )
    idle = {
        "actions that no message met": coverage.idle_lines(),
        "attributes that no message filled": coverage.idle_attributes(),
        "fields that were never needed": coverage.idle_sources(),
    }
    for title, places in idle.items():
        yield from _section(title, _places(each for each in places if coverage.owns(each)))
    rest = {
        title: [each for each in places if not coverage.owns(each)]
        for title, places in idle.items()
    }
    if inherited:
        for title, places in rest.items():
            whose = "" if coverage.is_base else ", inherited"
            yield from _section(f"{title}{whose}", _places(places))
    elif count := sum(map(len, rest.values())):
        whose = "serve other mappings too" if coverage.is_base else "are inherited"
        yield f"  {count} idle rules {whose}: --inherited lists them"


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"  {title}"
        yield from (f"    {line}" for line in found)


def _places(places: Iterable[Place]) -> Iterator[str]:
    return (f"{each.what}   {each.place}" for each in places)


def unread(coverage: Coverage) -> list[tuple[str, int, int]]:
    """Segment, field and count, the most frequent first, then in the order of their names."""
    counted = [(name, number, count) for (name, number), count in coverage.unread.items()]
    return sorted(counted, key=lambda each: (-each[2], each[0], each[1]))


def _plain(covering: Covering) -> dict[str, Any]:
    return {
        "mappings": [_plain_coverage(each) for each in covering.used],
        "taken_by_none": dict(covering.strays),
    }


def _plain_coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "mapping": coverage.inbound.name,
        "messages": coverage.messages,
        "refused": coverage.refused,
        "held": coverage.held,
        "misses": [
            {"table": table, "key": key, "count": count}
            for (table, key), count in coverage.misses.most_common()
        ],
        "unread": [
            {"field": f"{name}-{number}", "count": count}
            for name, number, count in unread(coverage)
        ],
        "idle_actions": [asdict(each) for each in coverage.idle_lines()],
        "idle_attributes": [asdict(each) for each in coverage.idle_attributes()],
        "idle_sources": [asdict(each) for each in coverage.idle_sources()],
    }
