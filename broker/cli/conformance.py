"""`broker conformance`: the documents that a tender asks for."""

from __future__ import annotations

from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import bundle_meant
from broker.cli.printing import AsJson, print_json

if TYPE_CHECKING:
    from broker.mapping.bundle import Bundle
    from broker.settings import Settings
    from broker.statements.document import Document


class Which(StrEnum):
    """The documents there are."""

    DICOM = "dicom"
    IHE = "ihe"
    HL7 = "hl7"


def register(program: typer.Typer) -> None:
    """Add `conformance` to the program."""
    program.command("conformance")(conformance)


def conformance(
    document: Annotated[
        Which, typer.Argument(help="DICOM statement, IHE statement or HL7 profile.")
    ] = Which.DICOM,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Print a conformance statement as Markdown, from code, configuration and mappings in force."""
    from broker.statements.document import markdown, plain

    made = _made(document, load_settings(config))
    if as_json:
        print_json(plain(made))
        return
    for line in markdown(made):
        typer.echo(line)


def _made(document: Which, settings: Settings) -> Document:
    version = metadata.version("worklist-broker")
    if document is Which.DICOM:
        from broker.statements import dicom

        return dicom.statement(settings, version)
    if document is Which.IHE:
        from broker.statements import ihe

        return ihe.statement(version)
    from broker.statements import hl7

    return hl7.profile(_in_force(settings), settings, version)


def _in_force(settings: Settings) -> Bundle:
    """The mappings of the broker that runs, else those of the folder."""
    from contextlib import closing

    from broker.cli.opening import store_url
    from broker.rollout.deploying import load_version
    from broker.store import bundles
    from broker.store.executors import Store, StoreUnavailable

    try:
        with closing(Store(store_url(settings))) as store:
            active = store.run(bundles.active())
            files = store.run(bundles.get(active.version)) if active else None
    except StoreUnavailable:
        files = None
    if files is None:
        return bundle_meant(None, settings)
    return load_version(files, settings.mappings, settings.ris)
