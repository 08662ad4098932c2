"""`broker bench patients`: all ADT of a hospital under small caps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.bench.measuring import measurable, measuring, report_table, the_moment
from broker.cli.printing import AsJson

if TYPE_CHECKING:
    from broker.bench.processes import Broker


def register(verbs: typer.Typer) -> None:
    """Add `patients` to the group."""
    verbs.command("patients")(patients)


def patients(
    messages: Annotated[
        int, typer.Option(min=100, max=5_000_000, help="ADT^A08 of 20,000 patients.")
    ] = 5000,
    as_json: AsJson = False,
) -> None:
    """Memory while all ADT of a hospital comes, 1 % with a document of 200 KB, under small caps."""
    import tempfile
    from pathlib import Path

    from broker.bench import patients as bench
    from broker.probe.address import Address
    from broker.probe.throwaway import broker_in

    with measuring(), tempfile.TemporaryDirectory(prefix="broker-") as folder:

        @contextmanager
        def started() -> Iterator[Broker]:
            with broker_in(Path(folder), Address("127.0.0.1", 9), said=bench.CAPS) as running:
                yield measurable(running)

        measured = bench.measure(started, messages=messages, now=the_moment())
        report_table(f"bench patients: {messages} ADT^A08", measured, bench.lines, as_json)
