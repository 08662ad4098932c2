"""`broker demo`: the round trip from order to status message, played and told."""

import signal
import sys
from contextlib import closing
from datetime import datetime
from typing import Annotated

import typer


def register(program: typer.Typer) -> None:
    """Add `demo` to the program."""
    program.command("demo")(demo)


def demo(
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.1, help="Seconds to wait at each hop.")
    ] = 10.0,
) -> None:
    """Play a whole round trip against a throw-away broker; 1 when a hop fails, and which."""
    from rich.console import Console

    from broker.probe.demo import play
    from broker.probe.narrator import tell

    # However the play ends, the throw-away broker must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with closing(play(lambda: datetime.now().astimezone(), deadline_s=deadline)) as steps:
        held = tell(steps, Console(highlight=False))
    if not held:
        raise typer.Exit(1)
