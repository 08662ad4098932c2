"""Which of two messages of one sender is the newer, by the sender's own clock (MSH-7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead of ours: what is later is not believed."""
CREDIBLE = timedelta(minutes=5)
"""How far ahead of ours a clock may be that is compared with other senders'."""
OURS = ""
"""Among the clocks of senders the broker's own: when what was said last came in. No sender has this
name, which is MSH-3|MSH-4."""
_STAMP = "%04d%02d%02d%02d%02d%02d.%06d"
"""A third of what strftime takes; every message needs some."""
_TIMESTAMP = re.compile(r"(\d{14}\.\d+|\d{4,14})([+-]\d{4})?")


def instant(sent: str, zone: tzinfo, received: datetime | None = None) -> str:
    """Give MSH-7 in UTC at its own precision, '' when it does not say when.

    A time more than five minutes after `received` (aware) counts as that: believed, it would make
    all that the sender says till then stale, a cancel too.

    A time without offset is of `zone`. In the hour that is repeated when summer ends it could mean
    either, and arrival decides; a bare date stays as it is.
    """
    universal = _universal(sent, zone)
    if not received:
        return universal
    now, digits = _clock(received), len(universal)
    if universal[:14] <= now[:digits]:  # nearly every clock
        return universal
    return universal if universal[:14] <= _clock(received + AHEAD)[:digits] else now


@lru_cache(maxsize=512)  # messages that come fast were sent in the same second
def _universal(sent: str, zone: tzinfo) -> str:
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
    try:
        return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")[: len(whole)] + digits[14:]
    except OverflowError:
        return ""  # the first or the last hours of the calendar


def _clock(at: datetime) -> str:
    return stamp(at)[:14]


def stamp(at: datetime) -> str:
    """Give a time of ours (aware) as an instant."""
    utc = at.astimezone(UTC)
    date, time = (utc.year, utc.month, utc.day), (utc.hour, utc.minute, utc.second)
    return _STAMP % (*date, *time, utc.microsecond)


def is_credible(sent: str, received: str) -> bool:
    """Tell whether an instant says when something was sent, also to other senders' clocks."""
    return bool(sent) and (not received or not is_stale(_soon_after(received[:14]), sent))


@lru_cache(maxsize=64)
def _soon_after(received: str) -> str:
    at = datetime.strptime(received + "+0000", "%Y%m%d%H%M%S%z")
    return (at + CREDIBLE).strftime("%Y%m%d%H%M%S")


def is_stale(sent: str, newest: str) -> bool:
    """Tell whether a message sent at `sent` is older than the newest one seen of that sender.

    Both are instants of one sender, compared at the coarser precision; equal or unknown ones are
    not stale, so arrival decides.
    """
    if not sent or not newest:
        return False
    digits = min(len(sent), len(newest))
    return sent[:digits] < newest[:digits]


def newest(sent: Mapping[str, str], sender: str, time: str) -> dict[str, str]:
    """Remember a sender's time, unless it is unknown or a newer one is known.

    The same time at a coarser precision would forget by how much another one is older.
    """
    known = sent.get(sender, "")
    if not time or known.startswith(time) or is_stale(time, known):
        return dict(sent)
    return {**sent, sender: time}
