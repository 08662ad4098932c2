"""The mappings that are in force together, and which of them is for a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.hl7.charsets import CharsetPolicy
from broker.hl7.header import Header
from broker.hl7.refusal import Location, Refusal
from broker.mapping.applying import Inbound, Source
from broker.mapping.document import Complaint, Node
from broker.mapping.rendering import Outbound
from broker.mapping.rules import InboundFile, OutboundFile

ANY = "*"


@dataclass(frozen=True)
class Loaded:
    """One mapping file: its models, its tree of positions and what it compiled to."""

    path: Path
    root: Node
    file: InboundFile | OutboundFile
    mapping: Inbound | Outbound


@dataclass(frozen=True)
class Bundle:
    """The mappings that are in force together; `version` names the content of `files`."""

    version: str
    inbound: tuple[Inbound, ...]
    outbound: Mapping[str, Outbound]
    warnings: tuple[Complaint, ...] = ()
    loaded: tuple[Loaded, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def source(self, header: Header) -> Source:
        """What holds for the sender of a message, also of one that no mapping accepts."""
        mapping = self._best(header) or self._best_sender(header)
        if mapping is None:
            return Source(header.sender, header.sending_facility, charset=CharsetPolicy())
        return mapping.source(header.sender, header.sending_application, header.sending_facility)

    def accepting(self, header: Header) -> Inbound:
        """The mapping for a message; the closest sender wins. Raises Refusal AR 200 or 201."""
        mapping = self._best(header)
        if mapping is not None:
            return mapping
        kinds = {kind for each in self.inbound for kind, _ in each.messages}
        known = header.message_type in kinds
        shown = "^".join(part for part in (header.message_type, header.trigger) if part)
        raise Refusal(
            f"no mapping accepts {shown[:20] or 'a message without type'} from this sender",
            code="201" if known else "200",
            location=Location("MSH", 1, 9, 1, 2 if known else 1),
            remedy="name it under 'accept: messages' of a mapping",
        )

    def _best(self, header: Header) -> Inbound | None:
        ranked = [
            (sender, exact, _version_match(mapping, header), mapping)
            for mapping in self.inbound
            if (sender := _sender_match(mapping, header)) is not None
            and (exact := _message_match(mapping, header)) is not None
        ]
        return max(ranked, key=lambda each: each[:3], default=(0, 0, (), None))[3]

    def _best_sender(self, header: Header) -> Inbound | None:
        ranked = [(_sender_match(mapping, header), mapping) for mapping in self.inbound]
        matching = [(rank, mapping) for rank, mapping in ranked if rank is not None]
        return max(matching, key=lambda each: each[0], default=(0, None))[1]


def _sender_match(mapping: Inbound, header: Header) -> int | None:
    """How closely a mapping names the sender: 3 both, 2 application, 1 facility, 0 anybody."""
    ranks = [
        2 * (application != ANY) + (facility != ANY)
        for application, facility in mapping.senders
        if application in (ANY, header.sending_application)
        and facility in (ANY, header.sending_facility)
    ]
    return max(ranks, default=None)


def _message_match(mapping: Inbound, header: Header) -> int | None:
    kind, trigger = header.message_type, header.trigger
    if (kind, trigger) in mapping.messages:
        return 1
    if (kind, ANY) in mapping.messages:
        return 0
    # MSH-9 may lack the event (hazards 2.1): take it where only one is possible.
    events = [event for name, event in mapping.messages if name == kind]
    return 0 if not trigger and len(events) == 1 else None


def _version_match(mapping: Inbound, header: Header) -> tuple[int, ...]:
    """The closest version at or below the one sent: versions choose a mapping, none is refused."""
    sent = _numbers(header.version)
    return max((each for each in map(_numbers, mapping.versions) if each <= sent), default=())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit())
