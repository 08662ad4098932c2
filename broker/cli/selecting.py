"""The options by which verbs mean messages of the archive."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.store.recall import Selection

_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

OUTCOMES = ("applied", "in part", "stale", "refused", "held", "repeat", "ignored", "by hand")
ACKNOWLEDGEMENTS = ("AA", "AE", "AR", "CA", "CE", "CR")

Grep = Annotated[str, typer.Option("--grep", help="A text in the message as received, any case.")]
Ack = Annotated[str, typer.Option("--ack", help="What it was answered, e.g. AE.")]
Accession = Annotated[
    str, typer.Option("--accession", help="Of an order it changed, or a component of the message.")
]
Sender = Annotated[str, typer.Option("--sender", help="MSH-3, MSH-4, or both as 'APP|FAC'.")]
Type = Annotated[str, typer.Option("--type", help="ORM, or ORM^O01.")]
Outcome = Annotated[
    str, typer.Option("--outcome", help=f"{', '.join(OUTCOMES[:-1])} or 'by hand'.")
]
ControlId = Annotated[str, typer.Option("--control-id", help="MSH-10.")]
Since = Annotated[str, typer.Option("--since", help="30m, 2h, 3d, or 2026-11-25T10:00.")]
Until = Annotated[str, typer.Option("--until", help="The same.")]


def selection(
    zone: ZoneInfo,
    *,
    grep: Grep = "",
    ack: Ack = "",
    accession: Accession = "",
    sender: Sender = "",
    message_type: Type = "",
    outcome: Outcome = "",
    control_id: ControlId = "",
    since: Since = "",
    until: Until = "",
) -> Selection:
    """The messages meant; times without an offset are the site's. What cannot be is exit 2."""
    from broker.store.recall import Selection

    _choice(outcome, OUTCOMES, "--outcome")
    _choice(ack.upper(), ACKNOWLEDGEMENTS, "--ack")
    return Selection(
        grep=grep,
        ack=ack,
        accession=accession,
        sender=sender,
        message_type=message_type,
        outcome=outcome,
        control_id=control_id,
        since_ms=_epoch_ms(since, zone, "--since"),
        until_ms=_epoch_ms(until, zone, "--until"),
    )


Meant = Callable[..., Any]
"""Gives the Selection that the options of a verb say, once it is told the zone of the site."""


def by_selection(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb every option of `selection`; it takes what they say as its argument `meant`."""
    said = inspect.signature(selection, eval_str=False).parameters
    options = [each for each in said.values() if each.kind is each.KEYWORD_ONLY]
    own = [each for each in inspect.signature(verb).parameters.values() if each.name != "meant"]

    def run(**given: Any) -> None:
        words = {each.name: given.pop(each.name) for each in options}
        verb(**given, meant=partial(selection, **words))

    run.__doc__, run.__name__, run.__module__ = verb.__doc__, verb.__name__, verb.__module__
    hints = {**get_type_hints(verb, include_extras=True), **_hints_of_options()}
    parameters = [
        each.replace(annotation=hints[each.name], kind=each.KEYWORD_ONLY)
        for each in (*own, *options)
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _hints_of_options() -> dict[str, Any]:
    return {
        name: globals()[str(hint)]
        for name, hint in selection.__annotations__.items()
        if str(hint) in globals()
    }


def _choice(said: str, possible: tuple[str, ...], option: str) -> None:
    if said and said not in possible:
        hint = f"'{said}' is none of {', '.join(possible)}"
        raise typer.BadParameter(hint, param_hint=option)


def stream_id(typed: str) -> str:
    """The ID of a message as Redis has it; what is none ends the command with 2."""
    from broker.store import recall

    found = recall.stream_id(typed)
    if found is None:
        raise typer.BadParameter(f"'{typed}' is no ID as `broker log` lists them", param_hint="ID")
    return found


def _epoch_ms(said: str, zone: ZoneInfo, option: str) -> int:
    if not said:
        return 0
    now = datetime.now(zone)
    if ago := _AGO.fullmatch(said.strip()):
        return int((now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(said.strip())
    except ValueError:
        hint = "a time is 30m, 2h, 3d ago, or 2026-11-25T10:00"
        raise typer.BadParameter(hint, param_hint=option) from None
    if not moment.tzinfo:
        moment = moment.replace(tzinfo=zone)
    return max(1, int(moment.timestamp() * 1000))
