"""Whose messages a listener takes at all, before any mapping is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.hl7.header import Header
from broker.hl7.refusal import Location, Refusal
from broker.settings.orders import Sender
from broker.tls.peers import is_named

ANY = "*"
UNPROVEN = "the certificate of this connection is not that of this sender"


@dataclass(frozen=True, slots=True)
class Admission:
    """Whose messages are taken, and with which `processing` ID (MSH-11); all when empty."""

    senders: tuple[Sender, ...] = ()
    processing: tuple[str, ...] = ()

    def judge(self, header: Header, certificate: frozenset[str] = frozenset()) -> None:
        """Raise Refusal AR 103 for a sender that is not in the list, AR 202 for MSH-11.

        `certificate` are the names of the connection's. A sender that is named by itself has to be
        who its own line says, whatever lines with `*` say.
        """
        found = [each for each in self.senders if _is(each.sender, header)]
        if self.senders and not found:
            raise Refusal(
                "this listener does not take messages of this sender",
                code="103",
                acknowledgement="AR",
                location=Location("MSH", 1, 3),
                remedy="send to another port, or add the sender to hl7.listeners.senders",
            )
        if found and not _is_proven(found, certificate):
            raise Refusal(
                UNPROVEN,
                code="103",
                acknowledgement="AR",
                location=Location("MSH", 1, 3),
                remedy="see the certificate of the sender in hl7.listeners.senders",
            )
        if self.processing and (header.processing_id or "P") not in self.processing:
            raise Refusal(
                "this listener does not take this processing ID",
                code="202",
                location=Location("MSH", 1, 11),
                remedy=f"send {' or '.join(self.processing)} in MSH-11, or to another port",
            )


def _is(sender: str, header: Header) -> bool:
    application, facility = sender.split("|", 1)
    return application in (ANY, header.sending_application) and facility in (
        ANY,
        header.sending_facility,
    )


def _is_proven(found: Sequence[Sender], certificate: frozenset[str]) -> bool:
    """Whether one of the lines that say most of this sender is content with its certificate."""
    fewest = min(each.sender.split("|").count(ANY) for each in found)
    nearest = (each for each in found if each.sender.split("|").count(ANY) == fewest)
    return any(not one.certificate or is_named(one.certificate, certificate) for one in nearest)
