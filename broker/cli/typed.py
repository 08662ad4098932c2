"""What a person types of an order, as attributes that were judged by their VR."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.worklist.changes import Attributes, Change
    from broker.worklist.records import Order


def unknown() -> Attributes:
    """Somebody whom nobody can identify: an ID that no other has, and a name that says so."""
    from broker.worklist.downtime import UNKNOWN

    number = os.urandom(4).hex().upper()
    return {"PatientID": f"{UNKNOWN}{number}", "PatientName": f"UNKNOWN^{number}"}


@dataclass(frozen=True)
class Typed:
    """The options by which a person says what an order is."""

    name: Annotated[str, typer.Option(help="FAMILY^GIVEN")] = ""
    birth: Annotated[str, typer.Option(help="YYYYMMDD")] = ""
    sex: Annotated[str, typer.Option(help="F, M or O")] = ""
    modality: Annotated[str, typer.Option(help="e.g. CT")] = ""
    station: Annotated[str, typer.Option(help="AE title of the scheduled station.")] = ""
    start: Annotated[str, typer.Option(help="YYYY-MM-DD HH:MM, or HH:MM of today.")] = ""
    description: Annotated[str, typer.Option(help="What is to be done.")] = ""
    more: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEYWORD=VALUE", help="Any other attribute."),
    ] = None


def said_of(typed: Typed) -> Attributes:
    """What is said of patient and order."""
    from broker.worklist.attributes import Kept

    said = {
        "PatientName": typed.name,
        "PatientBirthDate": typed.birth,
        "PatientSex": typed.sex,
        "RequestedProcedureDescription": typed.description,
    }
    said |= {k: v for k, v in _more(typed.more).items() if _kept(k) is not Kept.STEP}
    said = {keyword: value for keyword, value in said.items() if value}
    judge(said)
    return said


def slot_of(settings: Settings, typed: Typed, start: str = "") -> Attributes:
    """What is said of the step: what, where and when; `start` where nobody says when."""
    from datetime import datetime

    from broker.mapping.standards.terms import odd_term

    slot = {
        "Modality": typed.modality,
        "ScheduledStationAETitle": typed.station,
        "ScheduledProcedureStepDescription": typed.description,
    }
    if start := typed.start or start:
        now = datetime.now(settings.timezone)
        at = now if start == "now" else _moment(start, now)
        slot["ScheduledProcedureStepStartDate"] = f"{at:%Y%m%d}"
        slot["ScheduledProcedureStepStartTime"] = f"{at:%H%M%S}"
    slot = {keyword: value for keyword, value in slot.items() if value}
    judge(slot)
    if odd := odd_term("Modality", typed.modality) if typed.modality else None:
        typer.echo(printable(f"warning: {typed.modality} {odd[0]} — {odd[1]}"), err=True)
    return {**slot, **_more_of_step(typed.more)}


def _moment(said: str, now: Any) -> Any:
    from datetime import datetime

    for form, whole in (("%Y-%m-%d %H:%M", said), ("%Y-%m-%d %H:%M", f"{now:%Y-%m-%d} {said}")):
        try:
            return datetime.strptime(whole, form).replace(tzinfo=now.tzinfo)
        except ValueError:
            continue
    raise typer.BadParameter("write YYYY-MM-DD HH:MM, or HH:MM", param_hint="--start")


def _more(more: list[str] | None) -> dict[str, str]:
    return dict(_pair(each) for each in more or ())


def _pair(said: str) -> tuple[str, str]:
    from broker.worklist.attributes import ROWS

    keyword, equals, value = said.partition("=")
    keyword = keyword.strip()
    if not equals or keyword not in ROWS or keyword.endswith("Sequence"):
        raise typer.BadParameter(
            f"{keyword} is no attribute of a worklist entry that has a plain value: "
            "write KEYWORD=VALUE, for instance PatientWeight=80",
            param_hint="--set",
        )
    return keyword, value.strip()


def _more_of_step(more: list[str] | None) -> Attributes:
    """What --set says of the step."""
    from broker.worklist.attributes import Kept

    said = {k: v for k, v in _more(more).items() if _kept(k) is Kept.STEP}
    judge(said)
    return said


def _kept(keyword: str) -> Any:
    from broker.worklist.attributes import ROWS

    return ROWS[keyword].kept


def judge(said: Attributes) -> None:
    """Refuse a value that its VR does not allow, and several where one is typed."""
    from broker.dicom.wellformed import odd_values

    for odd in odd_values(said):
        fact = "is too long" if odd.too_long else "is not what DICOM allows there"
        raise typer.BadParameter(f"{odd.attribute} {fact}")
    for keyword, value in said.items():
        if isinstance(value, str) and ("\\" in value or not value.isprintable()):
            raise typer.BadParameter(f"{keyword} holds a backslash, or what cannot be printed")


def changes_of(
    order: Order, said: Attributes, slot: Attributes, patient: str, patient_issuer: str
) -> list[Change]:
    """An update of the order, after its patient was identified, where that is said."""
    from broker.worklist import downtime
    from broker.worklist.changes import Action, Change
    from broker.worklist.identity import parted

    changes = []
    if patient:
        issuer = patient_issuer or parted(order.patient)[0]
        person = {"PatientID": patient, "IssuerOfPatientID": issuer}
        names = ("PatientName", "PatientBirthDate", "PatientSex")
        known = {keyword: said[keyword] for keyword in names if keyword in said}
        judge(person)
        try:
            changes.append(downtime.identified(order, {**person, **known}))
        except downtime.Impossible as problem:
            typer.echo(printable(f"{order.key}: {problem}"), err=True)
            raise typer.Exit(NEGATIVE) from None
        said = {**said, **person}
    update = {**said, "AccessionNumber": order.accession}
    if slot:
        update["ScheduledProcedureStepSequence"] = [slot]
    if said or slot:
        changes.append(Change(Action.UPDATE, update, "edit"))
    return changes
