"""The mappings that are in force together, and which of them is for a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from broker.hl7.charsets import CharsetPolicy
from broker.hl7.header import Header
from broker.hl7.refusal import Location, Refusal
from broker.mapping.compiling.outbound import Outbound
from broker.mapping.files.rules import InboundFile, OutboundFile
from broker.mapping.running.applying import Inbound, Source
from broker.mapping.text.nodes import Complaint, Node

ANY = "*"
MOST_SENDERS = 1024
"""Kinds of header whose choice is remembered: a hospital has dozens, a peer may invent more."""
Kind = tuple[str, str, str, str, str, int]
"""What a choice depends on: application, facility, message type, trigger, version, port."""


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
    chosen: dict[Kind, tuple[Inbound | None, Source]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def for_messages(self) -> Bundle:
        """The same without what only people and tools look at, half of its memory."""
        return replace(self, warnings=(), loaded=(), files={})

    def source(self, header: Header, port: int = 0) -> Source:
        """What holds for the sender of a message, also of one that no mapping accepts."""
        return self._choice(header, port)[1]

    def accepting(self, header: Header, port: int = 0) -> Inbound:
        """The mapping for a message that came to a port of ours, 0 where nobody knows which.

        The one that names the port wins, then the closest sender, type and version. Raises Refusal
        AR 200 or 201.
        """
        mapping = self._choice(header, port)[0]
        if mapping is not None:
            return mapping
        kinds = {
            kind
            for each in self.inbound
            if _port_match(each, port) is not None
            for kind, _ in each.messages
        }
        known = header.message_type in kinds
        taken = {
            f"{kind}^{trigger}" if known else kind
            for each in self.inbound
            if _port_match(each, port) is not None
            for kind, trigger in each.messages
            if not known or kind == header.message_type
        }
        shown = "^".join(part for part in (header.message_type, header.trigger) if part)
        raise Refusal(
            f"no mapping accepts {shown[:20] or 'a message without type'} from this sender",
            code="201" if known else "200",
            location=Location("MSH", 1, 9, 1, 2 if known else 1),
            remedy=f"send {', '.join(sorted(taken))}, or mend 'accept: messages' of a mapping",
        )

    def _choice(self, header: Header, port: int) -> tuple[Inbound | None, Source]:
        """The mapping and the source, worked out once for each kind of header."""
        kind = (
            header.sending_application,
            header.sending_facility,
            header.message_type,
            header.trigger,
            header.version,
            port,
        )
        choice = self.chosen.get(kind)
        if choice is None:
            if len(self.chosen) >= MOST_SENDERS:
                self.chosen.clear()
            mapping = self._best(header, port)
            known = mapping or self._best_sender(header, port)
            choice = self.chosen[kind] = (mapping, _source(known, header))
        return choice

    def _best(self, header: Header, port: int) -> Inbound | None:
        ranked = [
            (named, sender, exact, _version_match(mapping, header), mapping)
            for mapping in self.inbound
            if (named := _port_match(mapping, port)) is not None
            and (sender := _sender_match(mapping, header)) is not None
            and (exact := _message_match(mapping, header)) is not None
        ]
        return max(ranked, key=lambda each: each[:4], default=(0, 0, 0, (), None))[4]

    def _best_sender(self, header: Header, port: int) -> Inbound | None:
        ranked = [
            ((named, sender), mapping)
            for mapping in self.inbound
            if (named := _port_match(mapping, port)) is not None
            and (sender := _sender_match(mapping, header)) is not None
        ]
        return max(ranked, key=lambda each: each[0], default=(0, None))[1]


def _port_match(mapping: Inbound, port: int) -> int | None:
    """Whether a mapping is for a port: 1 it names it, 0 it names none, None it is for others."""
    if not mapping.ports:
        return 0
    return 1 if port in mapping.ports else None


def _source(mapping: Inbound | None, header: Header) -> Source:
    if mapping is None:
        return Source(header.sender, header.sending_facility, charset=CharsetPolicy())
    return mapping.source(header.sender, header.sending_application, header.sending_facility)


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
