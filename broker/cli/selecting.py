"""The options by which verbs mean messages of the archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.store.recall import Selection

_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

OUTCOMES = ("applied", "in part", "stale", "refused", "held", "repeat", "ignored", "by hand")
ACKNOWLEDGEMENTS = ("AA", "AE", "AR", "CA", "CE", "CR")


@dataclass(frozen=True)
class Meant:
    """The options by which messages of the archive are meant."""

    grep: Annotated[
        str, typer.Option("--grep", help="A text in the message as received, any case.")
    ] = ""
    ack: Annotated[str, typer.Option("--ack", help="What it was answered, e.g. AE.")] = ""
    accession: Annotated[
        str,
        typer.Option("--accession", help="Of an order it changed, or a component of the message."),
    ] = ""
    sender: Annotated[str, typer.Option("--sender", help="MSH-3, MSH-4, or both as 'APP|FAC'.")] = (
        ""
    )
    message_type: Annotated[str, typer.Option("--type", help="ORM, or ORM^O01.")] = ""
    outcome: Annotated[
        str, typer.Option("--outcome", help=f"{', '.join(OUTCOMES[:-1])} or 'by hand'.")
    ] = ""
    control_id: Annotated[str, typer.Option("--control-id", help="MSH-10.")] = ""
    since: Annotated[str, typer.Option("--since", help="30m, 2h, 3d, or 2026-11-25T10:00.")] = ""
    until: Annotated[str, typer.Option("--until", help="The same.")] = ""

    def selection(self, zone: ZoneInfo) -> Selection:
        """The messages meant; times without an offset are the site's. What cannot be is exit 2."""
        from broker.store.recall import Selection

        _choice(self.outcome, OUTCOMES, "--outcome")
        _choice(self.ack.upper(), ACKNOWLEDGEMENTS, "--ack")
        return Selection(
            grep=self.grep,
            ack=self.ack,
            accession=self.accession,
            sender=self.sender,
            message_type=self.message_type,
            outcome=self.outcome,
            control_id=self.control_id,
            since_ms=_epoch_ms(self.since, zone, "--since"),
            until_ms=_epoch_ms(self.until, zone, "--until"),
        )


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
