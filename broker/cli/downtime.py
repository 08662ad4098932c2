"""`broker add`, `edit`, `cancel`, `complete`, `reopen`, `reconcile`: while the RIS is away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.by_hand import Deed
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deciding import carry_out, issuer_of, order_of
from broker.cli.opening import opened
from broker.cli.printing import AsJson
from broker.cli.spreading import spread
from broker.cli.typed import Typed, changes_of, judge, said_of, slot_of, unknown

if TYPE_CHECKING:
    from broker.orders.by_hand import Act, Done
    from broker.orders.intake import Intake
    from broker.worklist.changes import Attributes

NUMBERING = "HAND-######"
Accession = Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")]
PatientId = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID.")]
PatientIssuer = Annotated[str, typer.Option(help="Of the patient ID, if it is another's.")]


def register(program: typer.Typer) -> None:
    """Add the verbs to the program."""
    for name, verb in (
        ("add", add),
        ("edit", edit),
        ("cancel", cancel),
        ("complete", complete),
        ("reopen", reopen),
        ("reconcile", reconcile),
    ):
        program.command(name)(spread(verb))


def add(
    patient: PatientId = "",
    unidentified: Annotated[
        bool, typer.Option("--unidentified", help="Nobody knows who it is: an ID is made.")
    ] = False,
    accession: Annotated[str, typer.Option(help="Default: the next number of ours.")] = "",
    issuer: Annotated[str, typer.Option(help="Of the RIS; default: that of all its orders.")] = "",
    *,
    typed: Typed,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Add an order by hand, while the RIS is away: it is on the worklist at once.

    No RIS is told of it before the RIS's own order has come: under the same accession number and
    patient it takes over by itself, else `broker reconcile` says which one it is. Prints the
    accession number.
    """
    from broker.orders import by_hand
    from broker.worklist.changes import Action, Change

    if bool(patient) == unidentified:
        raise typer.BadParameter("either --patient ID or --unidentified", param_hint="--patient")
    settings = load_settings(config)
    person = unknown() if unidentified else {"PatientID": patient}
    said = {**person, **said_of(typed)}
    said |= {"AccessionNumber": accession} if accession else {}
    said["ScheduledProcedureStepSequence"] = [slot_of(settings, typed, start="now")]
    judge(said)
    act = _act("add", deed, said)
    with opened(settings) as store:
        of_all = issuer or issuer_of(store)
        numbering = "" if accession else NUMBERING
        change = Change(Action.SCHEDULE, said, "add", numbering=numbering)

        async def do(intake: Intake) -> Done:
            return await by_hand.add(intake, act, change, of_all, write=not deed.dry_run)

        carry_out(settings, act, do, as_json=as_json, dry_run=deed.dry_run)


def edit(
    accession: Accession,
    patient: Annotated[
        str, typer.Option("--patient", metavar="ID", help="Who an unidentified patient is.")
    ] = "",
    patient_issuer: PatientIssuer = "",
    *,
    typed: Typed,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Change what an order says, or say who an unidentified patient is."""
    from broker.orders import by_hand

    settings = load_settings(config)
    said = said_of(typed)
    slot = slot_of(settings, typed)
    if not (said or slot or patient):
        raise typer.BadParameter("say what is to be changed")
    act = _act("edit", deed, {"accession": accession, **said, "step": slot})
    with opened(settings) as store:
        order = order_of(store, accession)
        changes = changes_of(order, said, slot, patient, patient_issuer)

        async def do(intake: Intake) -> Done:
            return await by_hand.change(intake, act, order, changes, write=not deed.dry_run)

        carry_out(settings, act, do, as_json=as_json, dry_run=deed.dry_run)


def cancel(
    accession: Accession,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Take an order off the worklist; a RIS that has ordered it is told (DC)."""
    _end("cancel", accession, deed, as_json, config)


def complete(
    accession: Accession,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say that an order is done, for a scanner without MPPS; a RIS that has ordered it is told."""
    _end("complete", accession, deed, as_json, config)


def reopen(
    accession: Accession,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Put what has ended, or waits, on the worklist again; no RIS is told."""
    _end("reopen", accession, deed, as_json, config)


def reconcile(
    typed: Annotated[str, typer.Argument(metavar="TYPED", help="Of the order typed by hand.")],
    real: Annotated[str, typer.Argument(metavar="ORDERED", help="Of the RIS's order.")],
    step: Annotated[str, typer.Option(help="Step ID, where the RIS's order has several.")] = "",
    *,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say of which order of the RIS one is that was typed by hand, and tell the RIS what was done.

    An unidentified patient becomes that of the RIS's order.
    """
    from broker.orders import by_hand

    settings = load_settings(config)
    act = _act("reconcile", deed, {"typed": typed, "ordered": real})
    with opened(settings) as store:
        mine, other = order_of(store, typed), order_of(store, real)

        async def do(intake: Intake) -> Done:
            return await by_hand.reconcile(intake, act, mine, other, step, write=not deed.dry_run)

        carry_out(settings, act, do, as_json=as_json, dry_run=deed.dry_run)


def _end(verb: str, accession: str, deed: Deed, as_json: bool, config: Path | None) -> None:
    from broker.orders import by_hand
    from broker.worklist.changes import Action, Change

    settings = load_settings(config)
    act = _act(verb, deed, {"accession": accession})
    with opened(settings) as store:
        order = order_of(store, accession)
        change = Change(Action(verb), {"AccessionNumber": order.accession}, verb)

        async def do(intake: Intake) -> Done:
            return await by_hand.change(intake, act, order, [change], write=not deed.dry_run)

        carry_out(settings, act, do, as_json=as_json, dry_run=deed.dry_run)


def _act(verb: str, deed: Deed, said: Attributes) -> Act:
    from broker.orders.by_hand import Act

    deed.check()
    return Act(verb, deed.by, deed.reason, said)
