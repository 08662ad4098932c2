"""A message tried against a bundle without any effect: what would become of it, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.charsets import decode
from broker.hl7.header import Header, read_header
from broker.hl7.message import Message, parse
from broker.hl7.refusal import Refusal
from broker.mapping.applying import Inbound, Outcome, Source, outcomes
from broker.mapping.bundle import Bundle
from broker.mapping.evaluation import Watch
from broker.worklist.changes import Ranked


@dataclass(frozen=True)
class Trial:
    """What a message would become. Holds patient data: for the person who tries, not for logs.

    After a refusal `outcomes` are those of the groups before it; `misses` are pairs of a table and
    a key that it does not have.
    """

    header: Header | None = None
    source: Source | None = None
    inbound: Inbound | None = None
    message: Message | None = None
    codec: str = ""
    repaired: bool = False
    outcomes: tuple[Outcome, ...] = ()
    refusal: Refusal | None = None
    misses: tuple[tuple[str, str], ...] = ()

    @property
    def mapping(self) -> str:
        """The name of the mapping that accepts the message, '' when none does."""
        return self.inbound.name if self.inbound else ""

    @property
    def place(self) -> str:
        """The file of that mapping."""
        return self.inbound.place if self.inbound else ""


def try_message(
    bundle: Bundle, raw: bytes, *, received: datetime, site_zone: ZoneInfo, explain: bool = True
) -> Trial:
    """Read, decode and map one message; a refusal is a value. `explain` adds origins and misses."""
    trial = Trial()
    found: list[Outcome] = []
    watch = Watch() if explain else None
    try:
        header = read_header(raw)
        source = bundle.source(header)
        trial = replace(trial, header=header, source=source)
        inbound = bundle.accepting(header)
        trial = replace(trial, inbound=inbound)
        decoded = decode(raw, header, source.charset)
        trial = replace(trial, codec=decoded.codec, repaired=decoded.repaired)
        message = parse(decoded.text, decoded.codec)
        trial = replace(trial, message=message)
        worked = outcomes(
            inbound, source, message, received=received, site_zone=site_zone, watch=watch
        )
        for outcome in worked:
            found.append(outcome)
    except Refusal as refusal:
        trial = replace(trial, refusal=refusal)
    return replace(trial, outcomes=tuple(found), misses=tuple(watch.misses) if watch else ())


def unranked(value: Any) -> Any:
    """Attributes without the ranks of their leaves, down to the last item."""
    if isinstance(value, Ranked):
        value = value.value
    if isinstance(value, dict):
        return {key: unranked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unranked(each) for each in value]
    return value
