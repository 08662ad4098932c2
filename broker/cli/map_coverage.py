"""`broker map coverage`: what messages say and nobody reads, what mappings say and nobody needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import LAST, CorpusOption, samples, watched
from broker.cli.mappings import (
    AsJson,
    MappingsOption,
    bundle_of,
    configured,
    print_json,
)
from broker.cli.outline import printable

if TYPE_CHECKING:
    from broker.mapping.coverage import Coverage, Covering, Place


def register(verbs: typer.Typer) -> None:
    """Add `coverage` to the group."""
    verbs.command("coverage")(coverage)


def coverage(
    mappings: MappingsOption = None,
    corpus: CorpusOption = LAST,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show fields never read, rules never used and codes in no table, over messages that came."""
    from broker.mapping.coverage import Covering
    from broker.mapping.trying import try_message

    settings = load_settings(config)
    bundle = bundle_of(mappings or configured(settings))
    covering = Covering(bundle)
    for each in watched(samples(corpus, config), "reading"):
        trial = try_message(bundle, each.raw, received=each.received, site_zone=settings.timezone)
        covering.add(trial)
    if as_json:
        print_json(_plain(covering))
        return
    for line in _lines(covering):
        typer.echo(printable(line))


def _lines(covering: Covering) -> Iterator[str]:
    for each in covering.used:
        yield f"{each.inbound.name}: {each.messages} messages, {each.refused} refused"
        yield from _coverage_lines(each)
    for refusal, count in covering.strays.most_common():
        yield f"{count:>6}  taken by no mapping: {refusal}"
    if not covering.used and not covering.strays:
        yield "no messages"


def _coverage_lines(coverage: Coverage) -> Iterator[str]:
    yield from _section(
        "codes in no table",
        (f"{count:>6}  {table}  '{key}'" for (table, key), count in coverage.misses.most_common()),
    )
    yield from _section(
        "fields that messages fill and nothing reads",
        (f"{count:>6}  {name}-{number}" for name, number, count in unread(coverage)),
    )
    yield from _section("actions that no message met", _places(coverage.idle_lines()))
    yield from _section("attributes that no message filled", _places(coverage.idle_attributes()))
    yield from _section("fields that were never needed", _places(coverage.idle_sources()))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield f"  {title}"
        yield from (f"    {line}" for line in found)


def _places(places: list[Place]) -> Iterator[str]:
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
