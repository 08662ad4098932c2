"""Invented worklist entries: each as the order of a RIS, and as the file that wlmscpfs reads.

The messages are written by hand on purpose: a load client must not share the code that it measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from broker.bench.dicom import ANSWERS, WORKLIST

ASKED_STATION = "BENCH"
OTHER_STATIONS = 40
OTHER_DAYS = 10
LONG_STATION = "LONG"
"""Where the entries of a long list are."""

# With the nine of the step these are 27, as many as a scanner with a long query asks for.
REQUEST_KEYS = (
    *("AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID"),
    *("PatientBirthDate", "PatientSex", "PatientWeight", "MedicalAlerts", "StudyInstanceUID"),
    *("RequestingPhysician", "RequestedProcedureDescription", "AdmissionID"),
    *("CurrentPatientLocation", "RequestedProcedureID", "RequestedProcedurePriority"),
    *("PatientTransportArrangements", "PlacerOrderNumberImagingServiceRequest"),
    "FillerOrderNumberImagingServiceRequest",
)
STEP_KEYS = (
    *("Modality", "ScheduledStationAETitle", "ScheduledProcedureStepStartDate"),
    *("ScheduledProcedureStepStartTime", "ScheduledPerformingPhysicianName"),
    *("ScheduledProcedureStepDescription", "ScheduledProcedureStepID"),
    *("ScheduledStationName", "ScheduledProcedureStepLocation"),
)

START_DATE = "ScheduledProcedureStepStartDate"

ORM = """\
MSH|^~\\&|BENCHRIS|NORTH|BROKER|NORTH|{sent:%Y%m%d%H%M%S}||ORM^O01|{control_id}|P|2.3.1||||||UNICODE UTF-8
PID|1||P{number}^^^NORTH^MR||MUSTER{number}^MIRJAM^ANNA^^DR.||19800229|F|||77 QUARRY RD^^GLENHAVEN^OR^97401^US^L||5550139|5550140
PV1|1|O|RADIO^2^1^NORTH||||1144^HALVORSEN^PIPPA^^^^MD|30112^WALDEN^PIA^^^DR|||||||||||V{number}
ORC|{code}|PL{number}|FL{number}||SC||^^^{start:%Y%m%d%H%M%S}^^R||{sent:%Y%m%d%H%M%S}|7781^RADIOLOGY||30112^WALDEN^PIA^^^DR||5550100
OBR|1|PL{number}|FL{number}|CTHEAD^CT head^BENCH^CTHEAD^CT head without contrast^BENCH||{sent:%Y%m%d%H%M%S}|||||||Penicillin||^^^Head|30112^WALDEN^PIA^^^DR||ACC{number}|RP{number}|SPS{number}|{station}|||CT|||^^^{start:%Y%m%d%H%M%S}^^R|||WALK|^Headache, worst of life|||7781&HALVORSEN&PIPPA||||||||||CTHEAD^CT head^BENCH
ZDS|{study_uid}^BENCH^Application^DICOM
"""  # noqa: E501 a segment is a line


@dataclass(frozen=True, slots=True)
class Entry:
    """One order of one step; every identifier carries the number, so none is like another."""

    number: int
    station: str
    start: datetime

    @property
    def study_uid(self) -> str:
        """The study's UID."""
        return f"1.2.276.0.76.999.3.{self.number}"


def entries(first: int, count: int, today: date) -> list[Entry]:
    """`count` entries numbered from `first`: ANSWERS at ASKED_STATION today, the rest elsewhere."""
    return [_entry(number, number - first, today) for number in range(first, first + count)]


def more_entries(first: int, count: int, today: date) -> list[Entry]:
    """`count` entries numbered from `first`, none of them at ASKED_STATION."""
    numbers = range(first, first + count)
    return [_entry(number, number - first + ANSWERS, today) for number in numbers]


def long_list(first: int, count: int, today: date) -> list[Entry]:
    """`count` entries at LONG_STATION today."""
    return [Entry(n, LONG_STATION, _start(n - first, today)) for n in range(first, first + count)]


def _start(place: int, today: date) -> datetime:
    morning = datetime(today.year, today.month, today.day, 7)  # noqa: DTZ001 (HL7 local time)
    return morning + timedelta(minutes=place % 600)


def _entry(number: int, place: int, today: date) -> Entry:
    start = _start(place, today)
    if place < ANSWERS:
        return Entry(number, ASKED_STATION, start)
    station = f"CT{place % OTHER_STATIONS}"
    return Entry(number, station, start + timedelta(days=place % OTHER_DAYS))


def order_frame(entry: Entry, *, sent: datetime, code: str = "NW", control_id: str = "") -> bytes:
    """The ORM^O01 that schedules the entry, or another ORC-1, as an MLLP block."""
    text = ORM.format(
        code=code,
        control_id=control_id or f"B{entry.number}",
        number=entry.number,
        station=entry.station,
        start=entry.start,
        study_uid=entry.study_uid,
        sent=sent,
    )
    return framed(text)


def framed(text: str) -> bytes:
    """A message that is written in lines, as an MLLP block."""
    return b"\x0b" + text.replace("\n", "\r").encode() + b"\x1c\r"


def write_worklist_file(entry: Entry, folder: Path) -> None:
    """The entry as `folder`/NUMBER.wl, with what a C-FIND answer of the broker would say."""
    dataset = worklist_item(entry)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(WORKLIST)
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{entry.study_uid}.1")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / f"{entry.number}.wl", enforce_file_format=True)


def worklist_item(entry: Entry) -> Dataset:
    """The entry as a C-FIND answer of the broker would say it."""
    dataset = _request(entry)
    dataset.ScheduledProcedureStepSequence = [_step(entry)]
    return dataset


def _request(entry: Entry) -> Dataset:
    return dataset_of(
        {
            "AccessionNumber": f"ACC{entry.number}",
            "ReferringPhysicianName": "WALDEN^PIA^^DR",
            "PatientName": f"MUSTER{entry.number}^MIRJAM^ANNA^DR.",
            "PatientID": f"P{entry.number}",
            "PatientBirthDate": "19800229",
            "PatientSex": "F",
            "MedicalAlerts": "Penicillin",
            "StudyInstanceUID": entry.study_uid,
            "RequestingPhysician": "WALDEN^PIA^^DR",
            "RequestedProcedureDescription": "CT head",
            "AdmissionID": f"V{entry.number}",
            "CurrentPatientLocation": "RADIO 2 1 NORTH",
            "RequestedProcedureID": f"RP{entry.number}",
            "RequestedProcedurePriority": "ROUTINE",
            "PatientTransportArrangements": "WALK",
            "PlacerOrderNumberImagingServiceRequest": f"PL{entry.number}",
            "FillerOrderNumberImagingServiceRequest": f"FL{entry.number}",
        }
    )


def _step(entry: Entry) -> Dataset:
    return dataset_of(
        {
            "Modality": "CT",
            "ScheduledStationAETitle": entry.station,
            "ScheduledProcedureStepStartDate": f"{entry.start:%Y%m%d}",
            "ScheduledProcedureStepStartTime": f"{entry.start:%H%M%S}",
            "ScheduledPerformingPhysicianName": "HALVORSEN^PIPPA",
            "ScheduledProcedureStepDescription": "CT head without contrast",
            "ScheduledProcedureStepID": f"SPS{entry.number}",
        }
    )


def question(today: date, station: str = ASKED_STATION, **top: str) -> bytes:
    """The identifier for a station's list of today: 27 keys, Implicit VR Little Endian."""
    return asked({**top}, ScheduledStationAETitle=station, **{START_DATE: f"{today:%Y%m%d}"})


def asked(top: dict[str, str], **step: str) -> bytes:
    """An identifier with the 27 keys, these of them not universal; Implicit VR Little Endian."""
    dataset = dataset_of(dict.fromkeys(REQUEST_KEYS, "") | top)
    dataset.ScheduledProcedureStepSequence = [dataset_of(dict.fromkeys(STEP_KEYS, "") | step)]
    return implicit(dataset)


def dataset_of(values: dict[str, str]) -> Dataset:
    """A data set of these leaves."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def implicit(dataset: Dataset) -> bytes:
    """A data set in Implicit VR Little Endian."""
    written = DicomBytesIO()
    written.is_implicit_VR = True
    written.is_little_endian = True
    write_dataset(written, dataset)
    return written.getvalue()
