"""The tree of commands. Each group's file has `register(app)`, which adds its verbs."""

from functools import cache
from importlib import metadata
from typing import Final

import typer

from broker.cli import (
    ae,
    backup,
    config,
    conformance,
    demo,
    downtime,
    find,
    log,
    look,
    moving,
    mpps,
    outbox,
    patient,
    probe,
    purge,
    replay,
    run,
    schema,
    selftest,
    status,
    trace,
    unmapped,
    why,
)
from broker.cli.bench import group as bench
from broker.cli.dead import group as dead
from broker.cli.doctor import group as doctor
from broker.cli.map import group as map

GROUPS = (
    run,
    demo,
    look,
    why,
    trace,
    ae,
    log,
    replay,
    dead,
    outbox,
    status,
    doctor,
    selftest,
    unmapped,
    mpps,
    downtime,
    patient,
    moving,
    backup,
    purge,
    conformance,
    map,
    schema,
    config,
    probe,
    find,
    bench,
)

HEADINGS: Final = {
    "Run it": ("run", "demo", "status", "doctor", "selftest", "config"),
    "See what there is, and why": ("list", "show", "why", "trace", "log", "ae"),
    "Put right what went wrong": ("dead", "replay", "outbox", "unmapped", "mpps", "patient"),
    "Go on while the RIS is away": ("add", "edit", "cancel", "complete", "reopen", "reconcile"),
    "Keep and move data": ("backup", "restore", "export", "import", "purge"),
    "Read a sender, and be read": ("map", "schema", "conformance"),
    "Be a RIS or a scanner": ("find", "probe", "bench"),
}
"""Of `broker --help`, and the verbs below each."""


@cache
def program() -> typer.Typer:
    """The whole command line. Groups import what they need when a verb runs, so help is quick.

    It is built once: groups that register anew would hold every verb once more.
    """
    app = typer.Typer(
        name="broker",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="HL7 orders in, DICOM modality worklist out, MPPS back as HL7 status messages.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(version)
    for group in GROUPS:
        group.register(app)
    _under_headings(app)
    return app


def _under_headings(app: typer.Typer) -> None:
    heading_of = {name: heading for heading, names in HEADINGS.items() for name in names}
    for verb in app.registered_commands:
        verb.rich_help_panel = heading_of.get(f"{verb.name}")
    for group in app.registered_groups:
        group.rich_help_panel = heading_of.get(f"{group.name}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"broker {metadata.version('worklist-broker')}")
        raise typer.Exit


def version(
    shown: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """HL7 orders in, DICOM modality worklist out, MPPS back as HL7 status messages."""
