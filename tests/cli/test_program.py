"""The first page that somebody new sees: `broker --help`."""

from __future__ import annotations

from typer.main import get_command

from broker.cli.program import HEADINGS, program


def test_every_verb_stands_under_one_heading():
    verbs = {name for name, verb in get_command(program()).commands.items() if not verb.hidden}
    listed = [name for names in HEADINGS.values() for name in names]
    assert sorted(listed) == sorted(verbs)
