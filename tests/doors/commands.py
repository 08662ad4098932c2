"""`broker …` as a person types it beside a running broker, without a new Python for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.cli import run_command
from tests.doors.actors import Broker

Said = tuple[int, str, str]
"""Exit code, output and complaints."""
Command = Callable[..., Said]


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """What the command with these words says."""
    capsys.readouterr()
    code = run_command(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def command_of(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs a command on this broker's configuration and gives what it said."""

    config = str(broker.folder / "broker.yaml")
    return lambda *words: typed(capsys, *words, "--config", config)
