"""The tree of commands. Each group's file has `register(app)`, which adds its verbs."""

from collections.abc import Sequence
from importlib import metadata

import typer

from broker.cli import bench, demo, look, map, probe, run, schema, status, unmapped

GROUPS = (run, demo, look, status, unmapped, map, schema, probe, bench)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code (0, 1, 2, 69, 75 or 78)."""
    try:
        program()(list(arguments), prog_name="broker")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def program() -> typer.Typer:
    """The whole command line. Groups import what they need when a verb runs, so help is quick."""
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
