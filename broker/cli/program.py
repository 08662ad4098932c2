"""The tree of commands. Each group's file has `register(app)`, which adds its verbs."""

from functools import cache
from importlib import metadata

import typer

from broker.cli import (
    ae,
    backup,
    bench,
    config,
    conformance,
    dead,
    demo,
    doctor,
    downtime,
    find,
    log,
    look,
    map,
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
    return app


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
