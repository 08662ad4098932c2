"""`broker bench …`: throw-away brokers under load, beside other programs in the same run."""

from __future__ import annotations

import typer

from broker.cli import bench_map, bench_orders, bench_scanners, bench_soak

VERBS = (bench_orders, bench_scanners, bench_soak, bench_map)


def register(program: typer.Typer) -> None:
    """Add `bench` to the program."""
    app = typer.Typer(no_args_is_help=True, help="Measure the broker beside other programs.")
    for verb in VERBS:
        verb.register(app)
    program.add_typer(app, name="bench")
