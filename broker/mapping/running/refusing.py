"""A refusal of the worklist as the answer that its sender deserves."""

from __future__ import annotations

import re
from typing import Final

from broker.hl7.refusal import Location, Refusal
from broker.worklist.applied import Applied
from broker.worklist.refusals import Reason, Refused

# HL7 table 0357: a wrong patient is no matter of this message's form, so AR; the rest is AE
CONDITIONS: Final[dict[Reason, str]] = {
    Reason.WRONG_PATIENT: "205",
    Reason.NO_PATIENT: "101",
    Reason.NO_ACCESSION: "101",
    Reason.INCOMPLETE: "101",
    Reason.CONTRADICTION: "204",
    Reason.CIRCULAR: "205",
    Reason.BEGUN: "206",
    Reason.TOO_MANY: "100",
    Reason.NO_NUMBER: "101",
    Reason.AMBIGUOUS: "205",
}
_PLACE: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+))?")


def refusal_of(refused: Refused) -> Refusal:
    """Give the reason its code of table 0357, and the place (ORC[2], PID-3) its HL7 form."""
    found = _PLACE.match(refused.location)
    location = Location(found[1], int(found[2] or 1), int(found[3] or 0)) if found else None
    return Refusal(
        refused.fact, code=CONDITIONS[refused.reason], location=location, remedy=refused.remedy
    )


def in_part(applied: Applied) -> Refusal | None:
    """Say which groups were left out of a message whose good ones were applied."""
    if not applied.refused:
        return None
    reasons = [refusal_of(r) if isinstance(r, Refused) else r for r in applied.refused]
    first, *others = [reason for reason in reasons if isinstance(reason, Refusal)]
    return Refusal(
        f"only in part: {first.text}",
        code=first.code,
        location=first.location,
        remedy=f"{first.remedy}; the other groups were applied",
        rule=first.rule,
        acknowledgement="AE",
        others=tuple(others),
    )
