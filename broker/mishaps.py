"""A bug as it may be told: what and where, never its words, which may hold a patient's data."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO


def told(error: BaseException) -> str:
    """The traceback of an error, and of those behind it, without messages and source lines."""
    return "\n".join(_lines(error))


def _lines(error: BaseException) -> Iterator[str]:
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        yield from _lines(behind)
        yield "then:"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    yield f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    for each in getattr(error, "exceptions", ()):  # of a group
        yield from (f"  | {line}" for line in _lines(each))


def tell(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None = None
) -> None:
    """Print an error that nobody caught, in place of what Python would print."""
    del kind, trace
    print(told(error), file=sys.stderr)


def write(
    out: TextIO, problem: tuple[type[BaseException], BaseException, TracebackType | None]
) -> None:
    """Write an error into the log of a terminal."""
    out.write(f"\n{told(problem[1])}")
