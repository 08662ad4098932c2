"""Everything an operator can say: broker.yaml, BROKER_* variables, one model a room."""

from broker.settings.modality import Ae, Dicom, DicomLimits, Lenient, Mpps
from broker.settings.orders import Hl7, Hl7Limits, Listener
from broker.settings.store import Keep, Redis
from broker.settings.updates import Destination, Forward, Ris, Updates, Verdict
from broker.settings.values import Address
from broker.settings.watching import Console, Log
from broker.settings.whole import Settings, shipped_mappings

__all__ = [
    "Address",
    "Ae",
    "Console",
    "Destination",
    "Dicom",
    "DicomLimits",
    "Forward",
    "Hl7",
    "Hl7Limits",
    "Keep",
    "Lenient",
    "Listener",
    "Log",
    "Mpps",
    "Redis",
    "Ris",
    "Settings",
    "Updates",
    "Verdict",
    "shipped_mappings",
]
