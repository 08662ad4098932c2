"""A message as it came: what logs may say of it, and what the archive keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Final

from broker.hl7.acknowledgement import Mode
from broker.hl7.header import Header
from broker.orders.elision import elided
from broker.store.archive import IN_PART, Archived
from broker.worklist.staleness import instant

LONGEST_NAME: Final = 64
"""Characters of MSH-10, MSH-3|4 or MSH-9 in logs and lists; the raw message has them whole."""


@dataclass(frozen=True)
class Again:
    """What is known of a message that came in the past and that a person wants judged once more.

    `of` is the stream ID of its entry in the archive, `digest` that of its bytes as received.
    `answered` says that it was accepted then: the sender's answer is remembered and stays. `force`
    takes it although newer ones are known.
    """

    of: str
    digest: str
    received: datetime
    answered: bool = False
    force: bool = False


@dataclass  # frozen ones are slow to make, and every message is one
class Arrival:
    """A message as it came; `raw` is only its beginning when it is not `whole`.

    It is never changed: what is worked out of it, several ask for.

    `port` is that of the listener, 0 where there was none.
    """

    raw: bytes
    header: Header | None
    at: datetime
    port: int = 0
    ack: Mode = "auto"  # as its source wants to be answered
    oddity: str = ""  # what had to be mended before it could be read
    again: Again | None = None
    whole: bool = True
    issuer: str = ""  # that scopes the numbers of its source
    zone: tzinfo = UTC  # of its sender's clock
    host: str = ""  # that it came from

    @cached_property
    def sent(self) -> str:
        """MSH-7 as an instant, '' when it does not say when."""
        return instant(self.header.sent, self.zone, self.received) if self.header else ""

    @cached_property
    def digest(self) -> str:
        """The same sender, control id and content: all three are in the bytes."""
        if self.again:
            return self.again.digest
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def was_accepted(self) -> bool:
        """Whether its sender holds our AA already."""
        return self.again is not None and self.again.answered

    @property
    def is_forced(self) -> bool:
        """Whether a person wants it applied although newer messages are known."""
        return self.again is not None and self.again.force

    @property
    def received(self) -> datetime:
        """When it came over the wire."""
        return self.again.received if self.again else self.at

    @cached_property
    def message_type(self) -> str:
        """MSH-9 as TYPE^EVENT."""
        if self.header is None:
            return "?"
        return "^".join(filter(None, (self.header.message_type, self.header.trigger)))

    @cached_property
    def facts(self) -> dict[str, str]:
        """What a log line may say of it: no patient data."""
        if self.header is None:
            return {"source": "?", "type": "?", "control_id": ""}
        return {
            "source": self.header.sender,
            "type": self.message_type,
            "control_id": self.header.control_id[:LONGEST_NAME],
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
        kept = elided(self.raw, recognised=self.header is not None)
        return Archived(
            source=self.facts["source"],
            control_id=self.facts["control_id"],
            message_type=self.message_type,
            outcome=outcome,
            cause="; ".join(dict.fromkeys(note for note in (*notes, self.oddity) if note)),
            received=self.at.timestamp(),
            orders=orders,
            mapping=mapping,
            port=self.port,
            raw=kept.raw,
            answers=() if self.again else tuple(payloads),
            replay_of=self.again.of if self.again else "",
            came=self.received.timestamp() if self.again else 0.0,
            digest=self.digest if self.again or kept.raw != self.raw else "",
            cut=kept.cut or not self.whole,
            issuer=self.issuer if outcome in ("refused", IN_PART) else "",
            sent=self.sent if outcome in ("refused", IN_PART) else "",
        )
