"""Rows of facts: a table for a person at a terminal, else one line with tabs for each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from broker.cli.outline import printable

Row = dict[str, str]


def print_rows(rows: Sequence[Row]) -> None:
    """Print rows that have the same keys; control characters are made harmless."""
    lines = [[printable(value) for value in row.values()] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            typer.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)
