"""What comes in and is nobody's order: acknowledgements, and our own messages that return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.hl7.acknowledgement import is_acknowledgement
from broker.hl7.header import Header
from broker.rollout.announcing import is_own
from broker.rollout.current import Mappings
from broker.settings import Ris

ACKNOWLEDGEMENT: Final = "acknowledgement"
RETURNED: Final = "a status message of ours that was sent back to us"


def echo_of(header: Header, raw: bytes, mappings: Mappings, ris: Sequence[Ris]) -> str:
    """Say what a message is that must not be applied, '' of one that may be.

    An engine that routes by type alone sends us what we have sent: applied, it would report the
    exam to us as if the RIS had, and that again to the RIS.
    """
    if is_acknowledgement(header):
        return ACKNOWLEDGEMENT
    return RETURNED if is_own(mappings, ris, header, raw) else ""
