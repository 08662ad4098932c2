"""The verb `broker doctor`: what is examined, in which order, and how it is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, read_settings
from broker.cli.opening import store_url, unopened
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.status import health_of

if TYPE_CHECKING:
    from broker.cli.doctor.finding import Finding
    from broker.mapping.text.nodes import Node
    from broker.settings import Settings


def register(program: typer.Typer) -> None:
    """Add `doctor` to the program."""
    program.command("doctor")(doctor)


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not ok.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Examine configuration, store, doors, ports, destinations and what waits; 1 when one fails."""
    from broker.cli.doctor.finding import State

    bound = json.loads(os.environ.get("BROKER_BOUND", "{}"))
    settings, tree = read_settings(config)
    every = examined(settings.bound_again(bound), tree)
    found = [each for each in every if not (quiet and each.state is State.OK)]
    if as_json:
        print_json([each._asdict() for each in found])
    else:
        for each in found:
            remedy = f": {each.remedy}" if each.remedy else ""
            typer.echo(printable(f"{each.state:5}{each.what:14}{each.fact}{remedy}"))
    if any(each.state is State.FAIL for each in found):
        raise typer.Exit(NEGATIVE)


def examined(settings: Settings, tree: Node) -> Iterator[Finding]:
    """Give what is found, from the inside outwards; what needs a store that is away is left out."""
    from broker.cli.doctor import examining
    from broker.cli.doctor.finding import fail
    from broker.store import reads
    from broker.store.executors import Store, StoreUnavailable

    yield from examining.of_configuration(settings, tree)
    yield from examining.of_mappings(settings)
    yield from examining.of_certificates(settings)
    try:
        with closing(Store(store_url(settings))) as store:
            store.run(reads.ping())
            health = health_of(settings)
            yield from examining.of_store(settings, store, health)
    except StoreUnavailable as away:
        yield fail("store", f"{away}", unopened(settings, f"{away}"))
        yield from examining.of_ports(settings)
        return
    yield from examining.of_group(settings)
    yield from examining.of_doors(settings, health)
    yield from examining.of_ports(settings)
    if health.counts:
        yield from examining.of_destinations(settings, health.counts)
        yield from examining.of_work(health.counts, health)
    yield from examining.of_selftest(settings, health)
