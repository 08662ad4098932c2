"""What judging mappings may take at most: a check that would never end says so and ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

DEADLINE_S: Final = 300.0
"""All shipped mappings take a second; a slow machine that has other work takes some."""


class _Late(BaseException):
    """No mistake of a file, so that nothing which survives those survives this."""


@contextmanager
def within_deadline() -> Iterator[None]:
    """End what takes longer with 75 (main thread only)."""

    def late(*_: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    try:
        yield
    except _Late:
        fact = f"checking the mappings took more than {DEADLINE_S:g} s and was given up"
        typer.echo(f"{fact}; check the files one by one", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
