"""The AEs that a site knows: who is meant by a calling AE title and an address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import Enum, auto
from ipaddress import IPv4Network, IPv6Network, ip_address

from broker.worklist import canary
from broker.worklist.profile import Profile
from broker.worklist.rules import Rules

IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Entry:
    """One AE as a site describes it; without `addresses` it may call from anywhere.

    `certificate`: names, folded, of which that of its connection has to have one; any when empty.
    """

    title: str
    rules: Rules
    aliases: tuple[str, ...] = ()
    addresses: tuple[IPNetwork, ...] = ()
    group: str = ""
    certificate: frozenset[str] = frozenset()


class Unrecognised(Enum):
    """Why no entry fits."""

    UNKNOWN = auto()
    ELSEWHERE = auto()
    """The title is known, but not at this address."""
    CERTIFICATE = auto()
    """The title is known, but not with this certificate, or without one."""


class Directory:
    """Profiles by title or alias; of several entries with a title the one with the address fits.

    `stranger` is the profile of all that are not in it. `any_case`: titles that differ only in
    case mean the same AE, unless one is written exactly so. `site` is the zone of all times.
    `testers` are networks from which the self-test may call, beside this machine.
    """

    def __init__(
        self,
        entries: Sequence[Entry] = (),
        general: Rules | None = None,
        *,
        any_case: bool = True,
        site: tzinfo = UTC,
        testers: Sequence[IPNetwork] = (),
    ) -> None:
        self.stranger = Profile(rules=general or Rules(), site=site)
        self._canary = Profile(canary.AE, Rules(), frozenset({canary.AE}), site=site)
        self._any_case, self._testers = any_case, tuple(testers)
        self._known: dict[str, list[tuple[Entry, Profile]]] = {}
        groups = _groups(entries)
        self.profiles: tuple[Profile, ...] = ()
        for entry in entries:
            titles = frozenset((entry.title, *entry.aliases))
            shared = groups.get(entry.group, titles)
            profile = Profile(entry.title, entry.rules, titles, shared, site)
            self.profiles += (profile,)
            for title in titles:
                self._known.setdefault(title, []).append((entry, profile))
                if any_case and title.upper() != title:
                    self._known.setdefault(title.upper(), []).append((entry, profile))

    def recognise(
        self, calling: str, address: str = "", certificate: frozenset[str] | None = None
    ) -> Profile | Unrecognised:
        """Find the AE that calls itself so from there; '' is an address that nobody knows.

        `certificate` are the names of its certificate, folded; None: not looked at.
        """
        if calling == canary.AE:
            may = _is_here(address) or _within(address, self._testers)
            return self._canary if may else Unrecognised.ELSEWHERE
        found = self._at(calling, address)
        if isinstance(found, Unrecognised):
            return found
        entry, profile = found
        if certificate is None or not entry.certificate or entry.certificate & certificate:
            return profile
        return Unrecognised.CERTIFICATE

    def _at(self, calling: str, address: str) -> tuple[Entry, Profile] | Unrecognised:
        known = self._known.get(calling, [])
        if not known and self._any_case:
            known = self._known.get(calling.upper(), [])
        if not known:
            return Unrecognised.UNKNOWN
        for entry, profile in known:
            if entry.addresses and _within(address, entry.addresses):
                return entry, profile
        for entry, profile in known:
            if not entry.addresses or not address:
                return entry, profile
        return Unrecognised.ELSEWHERE

    def profile(self, calling: str, address: str = "") -> Profile:
        """Give the profile of an AE, the stranger's when it is none of ours."""
        found = self.recognise(calling, address)
        return found if isinstance(found, Profile) else self.stranger


def _groups(entries: Iterable[Entry]) -> dict[str, frozenset[str]]:
    """Give every title of a group by its name."""
    groups: dict[str, frozenset[str]] = {}
    for entry in entries:
        if entry.group:
            titles = groups.get(entry.group, frozenset())
            groups[entry.group] = titles | {entry.title, *entry.aliases}
    return groups


def _is_here(address: str) -> bool:
    """Whether an address is of this machine itself, or nobody says which it is."""
    if not address:
        return True
    try:
        caller = ip_address(address)
    except ValueError:
        return False
    mapped = caller.ipv4_mapped if caller.version == 6 else None
    return (mapped or caller).is_loopback


def _within(address: str, networks: Iterable[IPNetwork]) -> bool:
    try:
        caller = ip_address(address)
    except ValueError:
        return False
    if caller.version == 6 and caller.ipv4_mapped is not None:
        caller = caller.ipv4_mapped
    return any(caller in network for network in networks)
