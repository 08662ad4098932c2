"""How often a wrong password may be tried from one address: some at once, then one now and then."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Final

AT_ONCE: Final = 10
AGAIN_S: Final = 30.0
MOST: Final = 10_000
"""Addresses that are remembered, the last ones that tried."""


@dataclass(slots=True)
class _Owed:
    """Until when an address owes time, and what it has tried lately, as digests."""

    until: float
    tried: deque[bytes] = field(default_factory=lambda: deque(maxlen=AT_ONCE))


class Tries:
    """Wrong passwords by address: each costs `AGAIN_S`, and `AT_ONCE` of them may be owed.

    The same one again is no further guess and costs nothing: a monitor that still has the former
    password does not lock out the people whose proxy it shares.
    """

    def __init__(self) -> None:
        self._owed: OrderedDict[str, _Owed] = OrderedDict()
        self._key = secrets.token_bytes(16)

    def wait_s(self, address: str, now: float) -> float:
        """How long nobody of this address may try at all; 0.0 when somebody may."""
        owed = self._owed.get(_neighbours(address))
        return max(0.0, owed.until - now - (AT_ONCE - 1) * AGAIN_S) if owed else 0.0

    def wrong(self, address: str, shown: str, now: float) -> None:
        """Note that what was shown was wrong."""
        who = _neighbours(address)
        owed = self._owed.setdefault(who, _Owed(now))
        self._owed.move_to_end(who)
        digest = blake2b(shown.encode(), digest_size=8, key=self._key).digest()
        if digest not in owed.tried:
            owed.tried.append(digest)
            owed.until = max(owed.until, now) + AGAIN_S
        if len(self._owed) > MOST:
            self._owed.popitem(last=False)


def _neighbours(address: str) -> str:
    """An address of IPv4, or the /64 of one of IPv6: one machine has all of that."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return found.packed[:8].hex()
    return address
