"""How often a wrong password may be tried from one address: some at once, then one now and then."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

AT_ONCE: Final = 10
AGAIN_S: Final = 30.0
MOST: Final = 10_000
"""Addresses that are remembered, the last ones that tried."""


class Tries:
    """Wrong passwords by address: each costs `AGAIN_S`, and `AT_ONCE` of them may be owed."""

    def __init__(self) -> None:
        self._owed_until: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """How long nobody of this address may try at all; 0.0 when somebody may."""
        owed = self._owed_until.get(_neighbours(address), now) - now
        return max(0.0, owed - (AT_ONCE - 1) * AGAIN_S)

    def wrong(self, address: str, now: float) -> None:
        """Note that a password was wrong."""
        who = _neighbours(address)
        self._owed_until[who] = max(self._owed_until.get(who, now), now) + AGAIN_S
        self._owed_until.move_to_end(who)
        if len(self._owed_until) > MOST:
            self._owed_until.popitem(last=False)


def _neighbours(address: str) -> str:
    """An address of IPv4, or the /64 of one of IPv6: one machine has all of that."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return found.packed[:8].hex()
    return address
