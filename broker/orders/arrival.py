"""A message as it came: what logs may say of it, and what the archive keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.hl7.header import Header
from broker.orders.elision import elided
from broker.store.archive import Archived


@dataclass(frozen=True)
class Arrival:
    """A message as it came."""

    raw: bytes
    header: Header | None
    at: datetime

    @property
    def digest(self) -> str:
        """The same sender, control id and content: all three are in the bytes."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def message_type(self) -> str:
        """MSH-9 as TYPE^EVENT."""
        if self.header is None:
            return "?"
        return "^".join(filter(None, (self.header.message_type, self.header.trigger)))

    @property
    def facts(self) -> dict[str, str]:
        """What a log line may say of it: no patient data."""
        if self.header is None:
            return {"source": "?", "type": "?", "control_id": ""}
        return {
            "source": self.header.sender,
            "type": self.message_type,
            "control_id": self.header.control_id,
        }

    def archived(
        self,
        outcome: str,
        notes: Sequence[str],
        payloads: Sequence[bytes],
        orders: tuple[str, ...],
        mapping: str,
    ) -> Archived:
        """Make the archive's entry of it."""
        return Archived(
            source=self.facts["source"],
            control_id=self.facts["control_id"],
            message_type=self.message_type,
            outcome=outcome,
            cause="; ".join(note for note in notes if note),
            received=self.at.timestamp(),
            orders=orders,
            mapping=mapping,
            raw=elided(self.raw, recognised=self.header is not None),
            answers=tuple(payloads),
        )
