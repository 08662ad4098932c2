"""What the trail hears of scanners: queries, reports, and who did not prove to be who it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from broker.audit.events import LARGEST_QUERY, Alarm, Exam, Query
from broker.audit.trail import Silence, Trail
from broker.dicom.negotiation import (
    CALLING_AE_ELSEWHERE,
    CALLING_AE_UNKNOWN,
    CALLING_AE_UNPROVEN,
)
from broker.modality.reception import Observe
from broker.modality.steps import Reported, reported_to_nobody
from broker.modality.told import Tell, Told

TOLD = ("PatientID", "PatientName", "ScheduledStepAttributesSequence")
"""What an audit message says of an exam, whose data set may be large."""
STRANGERS = {CALLING_AE_ELSEWHERE.fact, CALLING_AE_UNKNOWN.fact, CALLING_AE_UNPROVEN.fact}


def told_to(trail: Trail | Silence, tell: Tell) -> Tell:
    """Give what notes a query that is over, and hands it on."""
    if isinstance(trail, Silence):
        return tell

    def told(query: Told) -> None:
        tell(query)
        who = query.association
        short = query.identifier if len(query.identifier) <= LARGEST_QUERY else b""
        asked = (short, query.transfer_syntax, query.status)
        trail.note(Query(_now(), who.calling, who.called, who.address, *asked))

    return told


def reported_to(trail: Trail | Silence) -> Callable[[Reported], None]:
    """Give what notes an N-CREATE or N-SET that was answered."""

    def reported(it: Reported) -> None:
        who = it.association
        said = {name: it.said.get(name) for name in TOLD}
        trail.note(Exam(_now(), who.calling, who.address, it.kind, it.uid, it.status, said))

    return reported_to_nobody if isinstance(trail, Silence) else reported


def alarmed_by(trail: Trail | Silence, observe: Observe) -> Observe:
    """Give what notes failed handshakes and strangers, and hands everything on."""

    def observed(event: str, labels: Mapping[str, str], seconds: float) -> None:
        observe(event, labels, seconds)
        reason = labels.get("reason", "")
        if event == "handshake" or (event == "association" and reason in STRANGERS):
            address = labels.get("address", "")
            trail.note(Alarm(_now(), labels.get("calling", ""), address, reason))

    return observed


def _now() -> datetime:
    return datetime.now(UTC)
