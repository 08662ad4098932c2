"""What a person did or read by a command, and what the broker removes by itself.

A command tells at once: nobody waits for one that has ended.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.audit.events import (
    APPLICATION,
    DESTINATION,
    MOST_PATIENTS,
    NOMINAL,
    PATIENT_NUMBER,
    SOURCE,
    STUDY,
    Us,
)
from broker.audit.schema import Code, Message, Object, Participant, written
from broker.audit.trail import place_of
from broker.settings import Settings

ORDER: Final = Code("110109", "Order Record")
PATIENT: Final = Code("110110", "Patient Record")
EXAM: Final = Code("110111", "Procedure Record")
EXPORT: Final = Code("110106", "Export")
IMPORT: Final = Code("110107", "Import")
ALERT: Final = Code("110113", "Security Alert")
SOFTWARE: Final = Code("110131", "Software Configuration")
MEDIA: Final = {
    EXPORT: (SOURCE, Code("110154", "Destination Media")),
    IMPORT: (DESTINATION, Code("110155", "Source Media")),
}
"""What the broker was, and what the file was (A.5.3.5, A.5.3.6)."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One deed of one operator, or of the broker itself without one.

    `said` is the command and the reason, `file` what it moved.
    """

    at: datetime
    operator: str
    event: Code
    action: str
    said: str
    patients: tuple[str, ...] = ()
    accessions: tuple[str, ...] = ()
    exams: tuple[str, ...] = ()
    file: str = ""

    def message(self, us: Us) -> Message:
        """Order, Patient or Procedure Record, Export, Import, or a Security Alert (A.5.3)."""
        ours, medium = MEDIA.get(self.event, (APPLICATION, None))
        who = [us.participant(ours, requestor=not self.operator)]
        if self.operator:
            who.insert(0, Participant(self.operator, True))
        if medium is not None:
            who.append(Participant(self.file, False, medium))
        what = list(self._objects()) if self.event != ALERT else []
        kinds = [SOFTWARE] if self.event == ALERT else []
        return Message(
            self.event, self.action, self.at, NOMINAL, who, what, types=kinds, description=self.said
        )

    def _objects(self) -> Iterable[Object]:
        for patient in self.patients[:MOST_PATIENTS] or ("",):
            yield Object(patient, PATIENT_NUMBER, "1", "1")
        if self.accessions:
            yield Object("unknown", STUDY, "2", "3", accessions=self.accessions)
        for uid in self.exams:
            yield Object("unknown", STUDY, "2", "3", mpps=uid)


def tell(settings: Settings, deeds: Iterable[Deed]) -> None:
    """Write them where the trail is. Raises OSError, tls Unusable, places.TooLong."""
    us = Us(settings.dicom.ae_title, socket.gethostname(), f"command:{os.getpid()}")
    with closing(place_of(settings)) as place:
        for deed in deeds:
            place.write(written(deed.message(us), us.title, settings.site), deed.at)
