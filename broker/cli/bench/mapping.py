"""`broker bench map`: what mapping an order costs, beside hl7apy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.bench.measuring import machine_line
from broker.cli.printing import AsJson

if TYPE_CHECKING:
    from broker.bench.mapping import Loading, Pace


def register(verbs: typer.Typer) -> None:
    """Add `map` to the group."""
    verbs.command("map")(mapping)


def mapping(
    messages: Annotated[
        int, typer.Option(min=1, max=100_000, help="Orders in each of five rounds.")
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """Microseconds to map an order, beside reading fields with hl7apy; time to load and compare.

    All is processor time; the microseconds are medians. hl7apy only reads the fields that each
    attribute may come from, of messages already parsed: no conditions, no functions, no defaults.
    """
    from broker.bench import mapping as bench
    from broker.bench.report import machine
    from broker.settings import shipped_mappings

    about = machine()
    loading, bundle = bench.measure_loading(shipped_mappings())
    paces = [bench.measure(bundle, each) for each in bench.samples(bundle, messages)]
    comparing = bench.measure_comparing(bundle, messages * bench.COMPARED)
    if as_json:
        shown = {
            "machine": about,
            "loading": asdict(loading),
            "rows": [_plain(p) for p in paces],
            "comparing": asdict(comparing),
        }
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(f"bench map: shipped mappings\n{machine_line(about)}")
    for line in _pace_lines(loading, paces):
        typer.echo(line)
    typer.echo(
        f"compare {comparing.messages:,} messages, {comparing.changed:,} come out otherwise "
        f"in {comparing.groups} attributes: {comparing.seconds:.2f} s"
    )


def _plain(pace: Pace) -> dict[str, object]:
    return {**asdict(pace), "ratio": pace.ratio, "ratio_with_parse": pace.ratio_with_parse}


def _pace_lines(loading: Loading, paces: Iterable[Pace]) -> Iterator[str]:
    yield (
        f"load {loading.files} files {loading.first_s:.2f} s, "
        f"again with {loading.examples} examples run {loading.checked_s:.2f} s"
    )
    yield f"{'µs a message':24}{'broker':>10}{'hl7apy':>10}{'ratio':>8}"
    for each in paces:
        yield f"{each.mapping} ({each.message})"
        yield _pace_line("rules", each.apply_us, each.hl7apy_read_us, each.ratio)
        whole = (each.with_parse_us, each.hl7apy_with_parse_us)
        yield _pace_line("parsing and rules", *whole, each.ratio_with_parse)


def _pace_line(what: str, ours_us: float, peer_us: float, ratio: float) -> str:
    return f"  {what:22}{ours_us:10.1f}{peer_us:10.1f}{ratio:7.0f}×"
