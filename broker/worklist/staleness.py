"""Which of two messages of one sender is the newer, by the sender's own clock (MSH-7)."""

from __future__ import annotations

import re

_TIMESTAMP = re.compile(r"(\d{14}\.\d+|\d{4,14})([+-]\d{4})?")


def is_stale(sent: str, newest: str) -> bool:
    """Tell whether a message sent at `sent` is older than the newest one seen of that sender.

    Both are HL7 time stamps of one sender, compared at the coarser precision; equal or unreadable
    times are not stale, so arrival decides. Zones must be the same text to be compared.
    """
    mine, theirs = _TIMESTAMP.match(sent), _TIMESTAMP.match(newest)
    if not mine or not theirs or mine[2] != theirs[2]:
        return False
    digits = min(len(mine[1]), len(theirs[1]))
    return mine[1][:digits] < theirs[1][:digits]


def newest(sent: dict[str, str], sender: str, time: str) -> dict[str, str]:
    """Remember a sender's time, unless a newer one is known."""
    known = sent.get(sender, "")
    if not _TIMESTAMP.match(time) or is_stale(time, known):
        return sent
    return {**sent, sender: time}
