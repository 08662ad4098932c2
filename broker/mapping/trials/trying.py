"""A message tried against a bundle without any effect: what would become of it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.charsets import decode
from broker.hl7.header import Header, read_header
from broker.hl7.message import Message, parse
from broker.hl7.refusal import Refusal
from broker.mapping.bundle import Bundle
from broker.mapping.running.applying import Inbound, Outcome, Source, outcomes
from broker.mapping.running.leaf import Traced
from broker.mapping.values.evaluation import Watch
from broker.worklist.changes import Ranked, Unmapped


@dataclass(frozen=True)
class Trial:
    """What a message would become. Holds patient data: for the person who tries, not for logs.

    After a refusal `outcomes` are those of the groups before it, and `unfinished` is what was read
    of the refused group; `misses` are pairs of a table and a key that it does not have.
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
    unfinished: tuple[Traced, ...] = ()

    @property
    def held(self) -> tuple[Unmapped, ...]:
        """The codes for which the whole message would wait: accepted, but on no list."""
        if self.refusal is not None:
            return ()
        return tuple(dict.fromkeys(each for one in self.outcomes for each in one.change.held))

    @property
    def mapping(self) -> str:
        """The name of the mapping that accepts the message, '' when none does."""
        return self.inbound.name if self.inbound else ""

    @property
    def place(self) -> str:
        """The file of that mapping."""
        return self.inbound.place if self.inbound else ""


def try_message(
    bundle: Bundle,
    raw: bytes,
    *,
    received: datetime,
    site_zone: ZoneInfo,
    explain: bool = True,
    port: int = 0,
    lenient: bool = False,
) -> Trial:
    """Read, decode and map one message; a refusal is a value. `explain` adds origins and misses.

    `port` is that of the listener it came to. `lenient` asks only what fields say: no default
    stands in, and no attribute is demanded.
    """
    header = source = inbound = decoded = message = refused = None
    found: list[Outcome] = []
    watch = Watch(lenient=lenient) if explain else None
    try:
        header = read_header(raw)
        source = bundle.source(header, port)
        inbound = bundle.accepting(header, port)
        decoded = decode(raw, header, source.charset)
        message = parse(decoded.text, decoded.codec)
        worked = outcomes(
            inbound, source, message, received=received, site_zone=site_zone, watch=watch
        )
        for outcome in worked:
            found.append(outcome)
    except Refusal as refusal:
        refused = refusal
    return Trial(
        header,
        source,
        inbound,
        message,
        decoded.codec if decoded else "",
        decoded.repaired if decoded else False,
        tuple(found),
        refused,
        tuple(watch.misses) if watch else (),
        tuple(watch.traced) if watch and refused else (),
    )


def unranked(value: Any) -> Any:
    """Attributes without the ranks of their leaves, down to the last item."""
    if isinstance(value, Ranked):
        value = value.value
    if isinstance(value, dict):
        return {key: unranked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [unranked(each) for each in value]
    return value
