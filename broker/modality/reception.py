"""What the connections of one DICOM listener share: limits, handlers, and who is here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from broker.dicom.association import Sizes
from broker.dicom.dimse import Answers, DimseRequest, Response
from broker.dicom.negotiation import (
    LIMIT_REACHED,
    AssociationRequest,
    Negotiated,
    Rejection,
    Services,
    negotiated,
)
from broker.modality.admission import Admission
from broker.modality.kept import Kept
from broker.modality.warned import AGAIN_S
from broker.pacing import Seldom

NEGOTIATED_BYTES: Final = 2**20
NEGOTIATED_SIZE: Final = 8
"""Bytes that a request takes in memory, with what is agreed on, for each of its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer, and all together, may take of us. Times in seconds, sizes in bytes.

    Sockets beyond `connections` or `connections_per_address` take the place of the one that has
    been silent longest, or are closed at once where all have associations; associations beyond
    theirs are rejected as "local limit exceeded", which a scanner can show.
    `message_s` bounds a PDU or message from its first byte, `request_s` a request with all its
    responses, `write_s` the wait for a peer that stops reading, `close_s` the wait for its close.
    `waiting_requests`, `waiting_bytes`: what a peer may send ahead of its answers. `held` bounds
    the unfinished and unanswered messages of all peers together; whoever makes us hold more than
    `held_freely` when it is reached is aborted, so that a query always finds room.
    """

    associations: int = 500
    associations_per_address: int = 100
    connections: int = 1000
    connections_per_address: int = 200
    association_s: float = 30.0
    message_s: float = 30.0
    idle_s: float = 3600.0
    write_s: float = 30.0
    request_s: float = 300.0
    close_s: float = 5.0
    held: int = 256 * 1024 * 1024
    held_freely: int = 512 * 1024
    waiting_requests: int = 16
    waiting_bytes: int = 32 * 1024 * 1024
    write_block: int = 64 * 1024
    backlog: int = 256
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(slots=True)
class Association:
    """The peer of a request as handlers see it: AE titles, address, what it has cancelled.

    `fuzzy` and `zoned`: fuzzy matching of names, and time zone adjustment, were negotiated.
    """

    calling: str
    called: str
    address: str
    implementation_class: str = ""
    implementation_version: str = ""
    fuzzy: bool = False
    zoned: bool = False
    _cancelled: set[int] = field(default_factory=set)

    def cancelled(self, message_id: int | None) -> bool:
        """Whether a C-CANCEL has come for this Message ID; the server looks by itself too."""
        return (message_id or 0) in self._cancelled

    def cancel(self, message_id: int) -> None:
        """Note a C-CANCEL."""
        self._cancelled.add(message_id)

    def forget(self, message_id: int | None) -> None:
        """The request is answered: its Message ID may be used again."""
        self._cancelled.discard(message_id or 0)


Handler = Callable[[DimseRequest, Association], AsyncIterator[Response | Answers]]
Observe = Callable[[str, Mapping[str, str], float], None]


def observe_nothing(event: str, labels: Mapping[str, str], seconds: float) -> None:
    """The default of `observe`."""


class Guest(Protocol):
    """An open connection, as far as its listener needs to know it."""

    closed: asyncio.Event

    @property
    def busy(self) -> bool:
        """A request is being served."""

    def abort(self, outcome: str) -> None:
        """Send A-ABORT if an association stands, and close; nothing is waited for."""

    def drop(self, outcome: str) -> None:
        """Close without a word and without waiting for anything."""


@dataclass(slots=True)
class Reception:
    """What the connections of one listener share: services, rules, and who is here."""

    handlers: Mapping[tuple[str, str], Handler]
    services: Services
    admission: Admission
    limits: Limits
    observe: Observe
    held: int = 0
    connections: dict[Guest, str] = field(default_factory=dict)
    silent: dict[Guest, str] = field(default_factory=dict)
    by_address: Counter[str] = field(default_factory=Counter)
    associated: Counter[str] = field(default_factory=Counter)
    associated_titles: Counter[str] = field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    negotiated: Kept[bytes, Negotiated] = field(default_factory=lambda: Kept(NEGOTIATED_BYTES))
    warned: Seldom = field(default_factory=lambda: Seldom(AGAIN_S))
    stopping: bool = False

    def negotiate(self, body: bytes) -> Negotiated:
        """Agree with a peer; scanners send the same bytes at every poll. Raises MalformedPdu.

        Whether it is let in is judged each time.
        """
        held = self.negotiated.get(body)
        if held is None:
            held = negotiated(body, self.services)
            self.negotiated.put(body, held, NEGOTIATED_SIZE * len(body))
        return held

    def warns(self, address: str, what: str) -> bool:
        """Whether this is a warning now: what happens again and again is one now and then."""
        return self.warned.first((address, what), asyncio.get_running_loop().time())

    def arrived(self, guest: Guest, address: str) -> bool:
        """Whether one more socket of this address may stay open; it must be `left` either way."""
        room = self._has_room(address)
        self.connections[guest] = address
        self.by_address[address] += 1
        if room:
            self.silent[guest] = address
        return room

    def left(self, guest: Guest) -> None:
        """The socket is closed, or as good as closed."""
        self.silent.pop(guest, None)
        address = self.connections.pop(guest, None)
        if address is not None:
            _take_one(self.by_address, address)

    def came(self, guest: Guest, association: Association) -> None:
        """This one has an association now."""
        self.silent.pop(guest, None)
        self.associated[association.address] += 1
        self.associated_titles[self._counted(association)] += 1

    def went(self, association: Association) -> None:
        """An association has ended."""
        _take_one(self.associated, association.address)
        _take_one(self.associated_titles, self._counted(association))

    def _counted(self, association: Association) -> str:
        """Name the AE that it counts for, whichever of its titles it used."""
        return self.admission.directory.profile(association.calling, association.address).title

    def _has_room(self, address: str) -> bool:
        """Look for room; whoever has said nothing for longest makes way for a newcomer."""
        if self.by_address[address] >= self.limits.connections_per_address:
            oldest = next((guest for guest, at in self.silent.items() if at == address), None)
        elif len(self.connections) >= self.limits.connections:
            oldest = next(iter(self.silent), None)
        else:
            return True
        if oldest is None:
            return False
        self.left(oldest)
        oldest.drop("made way")
        return True

    def judge(
        self, request: AssociationRequest, address: str, certificate: frozenset[str]
    ) -> Rejection | None:
        """Return why the association is refused, or None; rules first, limits second."""
        rejection = self.admission.judge(request, address, self.associated_titles, certificate)
        if rejection is not None:
            return rejection
        full = self.associated.total() >= self.limits.associations
        if full or self.associated[address] >= self.limits.associations_per_address:
            return LIMIT_REACHED
        return None


def _take_one(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if counter[address] <= 0:
        del counter[address]
