"""A refusal of the worklist as the answer that its sender deserves."""

from __future__ import annotations

import re
from typing import Final

from broker.hl7.refusal import Location, Refusal
from broker.worklist.refusals import Reason, Refused

# HL7 table 0357: a wrong patient is no matter of this message's form, so AR; the rest is AE
CONDITIONS: Final[dict[Reason, str]] = {
    Reason.WRONG_PATIENT: "205",
    Reason.NO_PATIENT: "101",
    Reason.NO_ACCESSION: "101",
    Reason.INCOMPLETE: "101",
    Reason.CONTRADICTION: "204",
}
_PLACE: Final = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+))?")


def refusal_of(refused: Refused) -> Refusal:
    """Give the reason its code of table 0357, and the place (ORC[2], PID-3) its HL7 form."""
    found = _PLACE.match(refused.location)
    location = Location(found[1], int(found[2] or 1), int(found[3] or 0)) if found else None
    return Refusal(
        refused.fact, code=CONDITIONS[refused.reason], location=location, remedy=refused.remedy
    )
