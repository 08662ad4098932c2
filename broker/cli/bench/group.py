"""The verbs of `broker bench`; each has its file."""

from __future__ import annotations

import typer

from broker.cli.bench import (
    find,
    growth,
    mapping,
    orders,
    patients,
    slow_loris,
    soak,
    status,
    visits,
)

VERBS = (orders, growth, patients, slow_loris, find, visits, status, soak, mapping)


def register(program: typer.Typer) -> None:
    """Add `bench` to the program."""
    verbs = typer.Typer(no_args_is_help=True, help="Measure the broker beside other programs.")
    for verb in VERBS:
        verb.register(verbs)
    program.add_typer(verbs, name="bench")
