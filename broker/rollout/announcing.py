"""What every RIS is told, rendered once and with its final MSH-10; and by what we know it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.hl7.header import Header
from broker.rollout.current import Mappings
from broker.settings import Ris
from broker.store.outbox import Event
from broker.worklist import canary
from broker.worklist.changes import Attributes, text_of
from broker.worklist.identity import parted
from broker.worklist.mpps import STATUS

ORDER_CONTROL: Final = "OrderControl"
_OURS: Final = re.compile(r"[0-9A-F]{20}")
_CHECKED: Final = 16
_ORDER_CONTROL: Final = re.compile(rb"[\r\n]ORC.(\w*)")
_STATUS_CONTROLS: Final = frozenset({b"SC", b"UC", b"UD"})


@dataclass(frozen=True)
class Notice:
    """One status message to be: flat attributes of order, step and performed step by keyword.

    `order` is the order's mailbox, `stations` the AEs that have done it or shall. With `progress`
    nothing has changed its state.
    """

    order: str
    procedure: str
    attributes: Attributes
    stations: frozenset[str] = frozenset()
    progress: bool = False


def announced(
    mappings: Mappings, ris: Sequence[Ris], notice: Notice, happened: tuple[str, str], now: datetime
) -> Iterator[Event]:
    """Render a notice for every RIS that wants it, by its mapping.

    `happened` is what made it, and as what: the same gives the same message after a lost reply.
    """
    made: dict[str, tuple[str, str]] = {}
    for each in ris:
        if not _is_told(each, notice):
            continue
        control_id = _control_id(each.name, *happened, notice.order, notice.procedure)
        outbound = mappings.bundle.outbound[each.mapping]
        if each.mapping not in made:
            text = outbound.render(notice.attributes, control_id=control_id, now=now)
            made[each.mapping] = control_id, text
        other, text = made[each.mapping]
        text = text.replace(other, control_id)  # all that two RISs of one mapping differ in
        yield Event(
            ris=each.name,
            order=notice.order,
            control_id=control_id,
            created=now.timestamp(),
            mapping=mappings.named(each.mapping),
            note=happened[1],
            payload=outbound.encoded(text),
            facts={"attributes": notice.attributes, "at": now.isoformat()},
        )


def rendered_again(mappings: Mappings, ris: Ris, event: Event, now: datetime) -> Event | None:
    """Make a message anew by the mapping in force, with a new MSH-10, in the place of the old one.

    Times of what happened stay, MSH-7 is `now`. None of what was kept before facts were.
    """
    if not event.facts.get("attributes"):
        return None
    control_id = _control_id(event.ris, event.control_id, now.isoformat())
    outbound = mappings.bundle.outbound[ris.mapping]
    text = outbound.render(
        event.facts["attributes"],
        control_id=control_id,
        now=datetime.fromisoformat(event.facts["at"]),
        sent=now,
    )
    return Event(
        ris=event.ris,
        order=event.order,
        control_id=control_id,
        created=event.created,
        mapping=mappings.named(ris.mapping),
        note=event.note,
        payload=outbound.encoded(text),
        facts=event.facts,
    )


def is_own(mappings: Mappings, ris: Sequence[Ris], header: Header, raw: bytes) -> bool:
    """Whether a message is one of ours that an engine sends back to us.

    Its MSH-10 tells; where an engine has written another one, it tells a status, and sender and
    type are those that a mapping for one of the RISs writes. An order is never taken for ours.
    """
    written = header.control_id.strip()
    if _OURS.fullmatch(written) and written == _checked(written[:_CHECKED]):
        return True
    said = _ORDER_CONTROL.search(raw) if ris else None
    if said is None or said[1] not in _STATUS_CONTROLS:
        return False
    return any(
        _are_of(header, mappings.bundle.outbound[name].signature)
        for name in {each.mapping for each in ris}
    )


def _are_of(header: Header, signature: tuple[str, str, str]) -> bool:
    application, facility, kind = signature
    return (
        bool(application)
        and header.field(3) == application
        and header.field(4) == facility
        and f"{header.message_type}^{header.trigger}" == kind
    )


def _is_told(ris: Ris, notice: Notice) -> bool:
    """Whether a RIS wants to hear of it; that a cancel came too late it hears in any state."""
    if (canary.MARK in notice.order) is not (ris.name == canary.DESTINATION):
        return False
    issuer = parted(notice.order)[0]
    if not ris.wants_of(notice.stations) or (ris.issuers and issuer not in ris.issuers):
        return False
    if notice.progress and not ris.progress:
        return False
    status = text_of(notice.attributes, STATUS)
    return not ris.states or status in ris.states or ORDER_CONTROL in notice.attributes


def _control_id(*parts: str) -> str:
    return _checked(hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:_CHECKED].upper())


def _checked(beginning: str) -> str:
    """MSH-10 with four digits more, by which we know it again."""
    return beginning + hashlib.sha256(b"worklist" + beginning.encode()).hexdigest()[:4].upper()
