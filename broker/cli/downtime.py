"""`broker add`, `edit`, `cancel`, `complete`, `reopen`, `reconcile`: while the RIS is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deciding import carry_out, check_said, issuer_of, order_of
from broker.cli.map_deploy import who
from broker.cli.mappings import AsJson
from broker.cli.opening import opened
from broker.cli.typed import changes_of, judge, more_of_step, said_of, slot_of, unknown

if TYPE_CHECKING:
    from broker.orders.by_hand import Act, Done
    from broker.orders.intake import Intake
    from broker.settings import Settings
    from broker.worklist.changes import Attributes

NUMBERING = "HAND-######"
Accession = Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")]
Operator = Annotated[str, typer.Option(help="Who does it; default: the login name.")]
Reason = Annotated[str, typer.Option(help="Why: it stays with the order; no patient data.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing; show what would be, and be told.")
]
PatientId = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID.")]
PatientIssuer = Annotated[str, typer.Option(help="Of the patient ID, if it is another's.")]
Name = Annotated[str, typer.Option(help="FAMILY^GIVEN")]
Birth = Annotated[str, typer.Option(help="YYYYMMDD")]
Sex = Annotated[str, typer.Option(help="F, M or O")]
Modality = Annotated[str, typer.Option(help="e.g. CT")]
Station = Annotated[str, typer.Option(help="AE title of the scheduled station.")]
Start = Annotated[str, typer.Option(help="YYYY-MM-DD HH:MM, or HH:MM of today.")]
Description = Annotated[str, typer.Option(help="What is to be done.")]
More = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEYWORD=VALUE", help="Any other attribute.")
]


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
        program.command(name)(verb)


def add(
    patient: PatientId = "",
    unidentified: Annotated[
        bool, typer.Option("--unidentified", help="Nobody knows who it is: an ID is made.")
    ] = False,
    accession: Annotated[str, typer.Option(help="Default: the next number of ours.")] = "",
    issuer: Annotated[str, typer.Option(help="Of the RIS; default: that of all its orders.")] = "",
    name: Name = "",
    birth: Birth = "",
    sex: Sex = "",
    modality: Modality = "",
    station: Station = "",
    start: Start = "",
    description: Description = "",
    more: More = None,
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
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
    said = {**person, **said_of(name, birth, sex, description, more)}
    said |= {"AccessionNumber": accession} if accession else {}
    slot = slot_of(settings, modality, station, start or "now", description)
    said["ScheduledProcedureStepSequence"] = [{**slot, **more_of_step(more)}]
    judge(said)
    act = _act("add", operator, reason, dry_run, said)
    with opened(settings) as store:
        of_all = issuer or issuer_of(store)
        numbering = "" if accession else NUMBERING
        change = Change(Action.SCHEDULE, said, "add", numbering=numbering)

        async def do(intake: Intake) -> Done:
            return await by_hand.add(intake, act, change, of_all, write=not dry_run)

        carry_out(settings, do, as_json=as_json, dry_run=dry_run)


def edit(
    accession: Accession,
    patient: Annotated[
        str, typer.Option("--patient", metavar="ID", help="Who an unidentified patient is.")
    ] = "",
    patient_issuer: PatientIssuer = "",
    name: Name = "",
    birth: Birth = "",
    sex: Sex = "",
    modality: Modality = "",
    station: Station = "",
    start: Start = "",
    description: Description = "",
    more: More = None,
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Change what an order says, or say who an unidentified patient is."""
    from broker.orders import by_hand

    settings = load_settings(config)
    said = said_of(name, birth, sex, description, more)
    slot = {**slot_of(settings, modality, station, start, description), **more_of_step(more)}
    if not (said or slot or patient):
        raise typer.BadParameter("say what is to be changed")
    act = _act("edit", operator, reason, dry_run, {"accession": accession, **said, "step": slot})
    with opened(settings) as store:
        order = order_of(store, accession)
        changes = changes_of(order, said, slot, patient, patient_issuer)

        async def do(intake: Intake) -> Done:
            return await by_hand.change(intake, act, order, changes, write=not dry_run)

        carry_out(settings, do, as_json=as_json, dry_run=dry_run)


def cancel(
    accession: Accession,
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Take an order off the worklist; a RIS that has ordered it is told (DC)."""
    _end("cancel", accession, operator, reason, dry_run, as_json, load_settings(config))


def complete(
    accession: Accession,
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say that an order is done, for a scanner without MPPS; a RIS that has ordered it is told."""
    _end("complete", accession, operator, reason, dry_run, as_json, load_settings(config))


def reopen(
    accession: Accession,
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Put what has ended, or waits, on the worklist again; no RIS is told."""
    _end("reopen", accession, operator, reason, dry_run, as_json, load_settings(config))


def reconcile(
    typed: Annotated[str, typer.Argument(metavar="TYPED", help="Of the order typed by hand.")],
    real: Annotated[str, typer.Argument(metavar="ORDERED", help="Of the RIS's order.")],
    step: Annotated[str, typer.Option(help="Step ID, where the RIS's order has several.")] = "",
    operator: Operator = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say of which order of the RIS one is that was typed by hand, and tell the RIS what was done.

    An unidentified patient becomes that of the RIS's order.
    """
    from broker.orders import by_hand

    settings = load_settings(config)
    act = _act("reconcile", operator, reason, dry_run, {"typed": typed, "ordered": real})
    with opened(settings) as store:
        mine, other = order_of(store, typed), order_of(store, real)

        async def do(intake: Intake) -> Done:
            return await by_hand.reconcile(intake, act, mine, other, step, write=not dry_run)

        carry_out(settings, do, as_json=as_json, dry_run=dry_run)


def _end(
    verb: str,
    accession: str,
    operator: str,
    reason: str,
    dry_run: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    from broker.orders import by_hand
    from broker.worklist.changes import Action, Change

    act = _act(verb, operator, reason, dry_run, {"accession": accession})
    with opened(settings) as store:
        order = order_of(store, accession)
        change = Change(Action(verb), {"AccessionNumber": order.accession}, verb)

        async def do(intake: Intake) -> Done:
            return await by_hand.change(intake, act, order, [change], write=not dry_run)

        carry_out(settings, do, as_json=as_json, dry_run=dry_run)


def _act(verb: str, operator: str, reason: str, dry_run: bool, said: Attributes) -> Act:
    from broker.orders.by_hand import Act

    if not (reason or dry_run):
        raise typer.BadParameter("say why: it stays with the order", param_hint="--reason")
    check_said(operator, reason)
    return Act(verb, operator or who(), reason, said)
