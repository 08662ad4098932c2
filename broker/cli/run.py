"""`broker run`, and the hidden `broker door` that it starts for each door."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings

DOORS = ("orders", "modality", "updates", "console")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("run")(run)
    app.command("door", hidden=True)(door)


def run(
    config: ConfigOption = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", help=f"Only this door ({', '.join(DOORS)}); again for several. Default: all."
        ),
    ] = None,
) -> None:
    """Start the broker: orders, modality, updates and console, with a Redis of its own."""
    roles = [name for each in role or [] for name in each.split(",")]
    if strangers := sorted(set(roles) - set(DOORS)):
        typer.echo(f"--role: no door is called {strangers[0]}; doors: {', '.join(DOORS)}", err=True)
        raise typer.Exit(2)
    settings = load_settings(config)

    from broker import roles as supervisor
    from broker.cli import logs

    logs.configure(settings.log, door="run")
    try:
        raise typer.Exit(supervisor.run(settings, roles, config=config))
    except supervisor.CannotRun as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(refusal.code) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


def door(
    role: Annotated[str, typer.Argument(metavar="DOOR")],
    instance: Annotated[int, typer.Option("--instance")] = 0,
    config: ConfigOption = None,
) -> None:
    """Run one process of one door (started by `broker run`)."""
    if role not in DOORS:
        raise typer.Exit(2)
    _end_with_supervisor()
    settings = load_settings(config)

    from broker.cli import logs
    from broker.mapping.document import Complaints
    from broker.store.executors import StoreUnavailable

    logs.configure(settings.log, door=role, instance=instance)
    serve = import_module(f"broker.{role}.door").serve
    try:
        serve(settings, ready=_say_ready, instance=instance)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    except (OSError, StoreUnavailable) as trouble:  # a port, the store: the supervisor tries again
        typer.echo(f"{role}: {trouble}", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None


def _end_with_supervisor() -> None:
    """A killed supervisor takes its doors with it: what they had not acknowledged is sent again."""
    if supervisor := os.environ.get("BROKER_SUPERVISOR"):
        from broker.store.server import die_with_parent

        die_with_parent(signal.SIGKILL, int(supervisor))


def _say_ready(bound: Mapping[str, str]) -> None:
    """Tell the supervisor where this door listens; without one, say it on stdout."""
    line = json.dumps(dict(bound)) + "\n"
    if descriptor := os.environ.get("BROKER_READY_FD"):
        with os.fdopen(int(descriptor), "w", encoding="ascii") as pipe:
            pipe.write(line)
    else:
        sys.stdout.write(line)
        sys.stdout.flush()
