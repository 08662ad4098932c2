"""What the connections of one DICOM listener share: limits, handlers, and who is here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.dicom.association import Sizes
from broker.dicom.dimse import DimseRequest, Response
from broker.dicom.negotiation import (
    LIMIT_REACHED,
    AssociationRequest,
    Policy,
    Rejection,
    Services,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer, and all together, may take of us. Times in seconds, sizes in bytes.

    Sockets beyond `connections` or `connections_per_address` are closed at once; associations
    beyond theirs are rejected as "local limit exceeded", which a scanner can show.
    `message_s` bounds a PDU or message from its first byte, `request_s` a request with all its
    responses, `write_s` the wait for a peer that stops reading, `close_s` the wait for its close.
    `waiting_requests`, `waiting_bytes`: what a peer may send ahead of its answers.
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
    waiting_requests: int = 16
    waiting_bytes: int = 32 * 1024 * 1024
    write_block: int = 64 * 1024
    backlog: int = 256
    sizes: Sizes = field(default_factory=Sizes)


@dataclass(slots=True)
class Association:
    """The peer of a request as handlers see it: AE titles, address, what it has cancelled."""

    calling: str
    called: str
    address: str
    implementation_class: str = ""
    implementation_version: str = ""
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


Handler = Callable[[DimseRequest, Association], AsyncIterator[Response]]
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

    def close_now(self) -> None:
        """Close without waiting for anything."""


@dataclass(slots=True)
class Reception:
    """What the connections of one listener share: services, rules, and who is here."""

    handlers: Mapping[tuple[str, str], Handler]
    services: Services
    policy: Policy
    limits: Limits
    observe: Observe
    connections: set[Guest] = field(default_factory=set)
    by_address: Counter[str] = field(default_factory=Counter)
    associated: Counter[str] = field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    stopping: bool = False

    def admits(self, address: str) -> bool:
        """Whether one more socket of this address may stay open."""
        limits = self.limits
        return (
            len(self.connections) < limits.connections
            and self.by_address[address] < limits.connections_per_address
        )

    def judge(self, request: AssociationRequest, address: str) -> Rejection | None:
        """Return why the association is refused, or None; rules first, limits second."""
        rejection = self.policy.judge(request)
        if rejection is not None:
            return rejection
        full = self.associated.total() >= self.limits.associations
        if full or self.associated[address] >= self.limits.associations_per_address:
            return LIMIT_REACHED
        return None
