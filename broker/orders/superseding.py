"""Messages that were refused, and about whose orders their sender has said something since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from broker.hl7.message import Group, Segments, groups, parse
from broker.hl7.refusal import Refusal
from broker.store.archive import Archived
from broker.worklist.finding import Identifier, Known
from broker.worklist.identity import joined
from broker.worklist.records import Order
from broker.worklist.staleness import OURS, is_stale, stamp

FILLERS = (("ORC", 3), ("OBR", 3), ("SCH", 27))
ACCESSIONS = (("IPC", 1), ("OBR", 18))
PLACERS = (("ORC", 2), ("OBR", 2), ("SCH", 26))


def identifiers(message: Archived) -> list[Identifier]:
    """Name each order that a refused message is about by the narrowest number that HL7 has for it.

    No mapping is asked, since perhaps that is what refused it: [] where any of them has no number.
    """
    try:
        said = parse(message.raw.decode("latin-1"))
        parts: list[Segments] = list(groups(said)) if said.all("ORC") else [said]
    except Refusal:
        return []
    named = [next(_named(part, message.issuer), None) for part in parts]
    return [each for each in named if each] if message.issuer and all(named) else []


def is_superseded(message: Archived, first_s: float, known: Known) -> bool:
    """Tell whether its sender has spoken of every order of a message after it.

    `first_s` is when it came (epoch seconds); `known` has the orders of its `identifiers`.
    """
    named = identifiers(message)
    came = stamp(datetime.fromtimestamp(first_s, UTC))
    return bool(named) and all(
        any(_spoken_of(order, message, came) for order in known.with_number(each)) for each in named
    )


def _named(part: Group | Segments, issuer: str) -> Iterator[Identifier]:
    for kind, fields in (("filler", FILLERS), ("accession", ACCESSIONS), ("placer", PLACERS)):
        for name, number in fields:
            segment = part.first(name)
            found = segment.repetitions(number) if segment else []
            if said := found[0].text(1).strip() if found else "":
                yield Identifier(kind, said if kind == "accession" else joined(issuer, said))


def _spoken_of(order: Order, message: Archived, came: str) -> bool:
    """Tell whether the sender of a message has said something newer of an order: by its own clock.

    By ours where its clock says nothing, or the same minute.
    """
    last = order.sent.get(message.source, "")
    if is_stale(message.sent, last):
        return True
    untold = not (message.sent and last) or not is_stale(last, message.sent)
    return untold and is_stale(came, order.sent.get(OURS, ""))
