"""Which of two messages of one sender is the newer, by the sender's own clock (MSH-7)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo

_TIMESTAMP = re.compile(r"(\d{14}\.\d+|\d{4,14})([+-]\d{4})?")


def instant(sent: str, zone: tzinfo) -> str:
    """Give MSH-7 in UTC at its own precision, '' when it does not say when.

    A time without offset is of `zone`. In the hour that is repeated when summer ends it could mean
    either, and arrival decides; a bare date stays as it is.
    """
    found = _TIMESTAMP.match(sent)
    if not found:
        return ""
    digits, offset = found.groups()
    whole = digits[:14]
    if len(whole) < 10:
        return digits
    try:
        at = datetime.strptime(whole.ljust(14, "0") + (offset or "+0000"), "%Y%m%d%H%M%S%z")
    except ValueError:
        return ""
    if not offset:
        at = at.replace(tzinfo=zone)
        if at.utcoffset() != at.replace(fold=1).utcoffset():
            return ""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")[: len(whole)] + digits[14:]


def is_stale(sent: str, newest: str) -> bool:
    """Tell whether a message sent at `sent` is older than the newest one seen of that sender.

    Both are instants of one sender, compared at the coarser precision; equal or unknown ones are
    not stale, so arrival decides.
    """
    digits = min(len(sent), len(newest))
    return sent[:digits] < newest[:digits]


def newest(sent: dict[str, str], sender: str, time: str) -> dict[str, str]:
    """Remember a sender's time, unless it is unknown or a newer one is known."""
    if not time or is_stale(time, sent.get(sender, "")):
        return sent
    return {**sent, sender: time}
