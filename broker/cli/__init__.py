"""The command line. `program.py` names the verbs: each has a file, or a folder with its `group.py`.

All other files are what several verbs share: options (`configuration`, `mappings`, `selecting`,
`spreading`), the store (`opening`), what is read for a person (`looking`, `tracing`, `asking`,
`letters`, `corpus`), how it is told (`printing`, `rows`, `outline`, `bars`), and what a person does
(`by_hand`, `deciding`, `auditing`). What a verb needs is imported as it runs.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import typer
from typer.main import get_command

__all__ = ["run_command"]


def run_command(arguments: Sequence[str], *, lasting: bool = False) -> int:
    """Run one command; returns its exit code (0, 1, 2, 69, 75 or 78).

    A `lasting` one is `broker run` or what that starts.
    """
    command = _process() if lasting else _program()
    try:
        command(list(arguments), prog_name="broker")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@cache
def _process() -> Callable[..., Any]:
    """A process carries none of the other verbs for as long as it runs: they are 2 MB."""
    from broker.cli import run

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    run.register(app)
    return get_command(app)


@cache
def _program() -> Callable[..., Any]:
    from broker.cli.program import program

    return get_command(program())
