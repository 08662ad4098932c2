"""The broker's own test order: how it is known from every other, whatever a mapping makes of it."""

from __future__ import annotations

from typing import Final

from broker.worklist.changes import Attributes

AE: Final = "BROKER_CANARY"
"""The only AE that sees it, from this machine or from selftest.peers; it sees nothing else."""
MARK: Final = "BROKERCANARY"
"""Begins every number of it. No hospital's number has it; a mapping may put something around it."""
DESTINATION: Final = "selftest"
"""Where its status messages go, and nothing else."""


def is_canary(item: Attributes) -> bool:
    """Whether a worklist item is the broker's own."""
    return MARK in (item.get("AccessionNumber") or "") or MARK in (item.get("PatientID") or "")
