"""`broker run`, and the hidden commands of the processes that it starts."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from broker.cli.configuration import ConfigOption, load_settings

DOORS = ("orders", "modality", "updates", "console")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("run")(run)
    app.command("door", hidden=True)(door)
    app.command("forkserver", hidden=True)(forkserver)


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

    from broker.cli import logs
    from broker.supervising import starting
    from broker.supervising.refusal import CannotRun
    from broker.supervising.service_manager import ServiceManager

    logs.configure(settings.log, door="run")
    told_to_end, manager = _until_the_supervisor_listens(), ServiceManager(os.environ)
    gc.enable()
    try:
        code = starting.run(
            settings, roles, config=config, told_to_end=told_to_end, manager=manager
        )
        raise typer.Exit(code)
    except CannotRun as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(refusal.code) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None


def _until_the_supervisor_listens() -> Callable[[], bool]:
    """End at SIGTERM; tells whether it came, for where the exception is lost, as in a finaliser."""
    told = threading.Event()

    def end(*_: object) -> NoReturn:
        told.set()
        sys.exit(os.EX_OK)

    signal.signal(signal.SIGTERM, end)
    return told.is_set


def door(
    role: Annotated[str, typer.Argument(metavar="DOOR")],
    instance: Annotated[int, typer.Option("--instance")] = 0,
    config: ConfigOption = None,
) -> None:
    """Run one process of one door (started by `broker run`)."""
    if role not in DOORS:
        raise typer.Exit(2)
    _end_with_supervisor()
    bound = json.loads(os.environ.get("BROKER_BOUND", "{}"))
    settings = load_settings(config).bound_again(bound)

    from broker.cli import logs
    from broker.mapping.text.nodes import Complaints
    from broker.store.executors import StoreUnavailable
    from broker.tls.credentials import Unusable

    logs.configure(settings.log, door=role, instance=instance)
    serve = import_module(f"broker.{role}.door").serve
    gc.enable()
    try:
        serve(settings, ready=_say_ready, instance=instance)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    except Unusable as problem:
        typer.echo(str(problem), err=True)
        raise typer.Exit(os.EX_CONFIG) from None
    except (OSError, StoreUnavailable) as trouble:  # a port, the store: the supervisor tries again
        typer.echo(f"{role}: {trouble}", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None


def forkserver(control: int, roles: list[str]) -> None:
    """The process that `broker run` has its doors forked from; it asks for them over `control`."""
    _end_with_supervisor()

    from broker.cli import run_command
    from broker.supervising import forkserver as doors

    def begin(role: str, instance: int) -> int:
        return run_command(["door", role, "--instance", str(instance)], lasting=True)

    doors.serve(socket.socket(fileno=control), roles, begin)


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
