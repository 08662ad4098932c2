"""Which ends of an association an engineer must hear of, and what can be done about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.dicom.negotiation import (
    CALLED_AE_UNKNOWN,
    CALLING_AE_ELSEWHERE,
    CALLING_AE_UNKNOWN,
    CALLING_AE_UNPROVEN,
    LIMIT_REACHED,
)

AGAIN_S: Final = 600.0
"""A scanner that is rejected asks again every minute, all day: it is a warning this often."""
REMEDIES: Final[Mapping[str, str]] = {
    CALLED_AE_UNKNOWN.fact: "call dicom.ae_title, or name this title in dicom.aliases",
    CALLING_AE_UNKNOWN.fact: "name it in dicom.aes, if it may ask",
    CALLING_AE_ELSEWHERE.fact: "see addresses of this AE in dicom.aes",
    CALLING_AE_UNPROVEN.fact: "see certificate of this AE in dicom.aes",
    LIMIT_REACHED.fact: (
        "it keeps associations open, or see dicom.limits.associations, associations_per_host "
        "and max_associations of the AE"
    ),
}
"""By the reason of the rejection; others are the peer's own to mend."""
CUT_OFF: Final = {
    "message deadline": "a message did not come to its end: see the scanner, or the network",
    "peer stopped reading": "it does not read its answers: see the scanner, or the network",
    "too many requests at once": "it sends on without waiting for answers",
    "too much at once": "see dicom.limits.held",
    "request without Message ID": "see dicom.lenient.message_id",
}
"""What the broker puts an end to, by outcome."""


def remedy(outcome: str, reason: str) -> str | None:
    """What to do about an association that ended so, '' if nobody knows; None: nothing is wrong."""
    if outcome == "rejected":
        return REMEDIES.get(reason, "")
    return CUT_OFF.get(outcome)
