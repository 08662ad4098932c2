"""A bar on a terminal for what takes its time; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(doing: str) -> Iterator[Callable[[str, float, float], None]]:
    """Give what is told the part at hand, how much of it is done and how much there is."""
    if not sys.stderr.isatty():
        yield lambda _part, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    told = TextColumn("{task.description}")
    columns = (told, BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(doing, total=1.0)

        def tell(part: str, done: float, total: float) -> None:
            shown.update(task, description=f"{doing} {part}", completed=done, total=total or 1.0)

        yield tell
