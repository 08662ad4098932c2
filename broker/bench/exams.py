"""The MPPS load client: `python -m broker.bench.exams SECONDS HOST PORT FIRST COUNT CONNECTIONS`.

Each connection reports one exam after the other: N-CREATE, N-SET. Data sets are made once and get
their numbers put in, because making them would be the slower half.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime

from pydicom import Dataset

from broker.bench.dicom import Association
from broker.bench.entries import Entry, dataset_of, implicit
from broker.bench.timings import Timings, print_timings, run_client

MPPS = "1.2.840.10008.3.1.2.3.3"
SAMPLE = 100_000
"""A number in whose place others of six digits are put."""
FIRST = SAMPLE + 1
CREATE, SET = b"\x40\x01", b"\x20\x01"
UID_ROOT = "1.2.276.0.76.999.5"


class Exams:
    """One association over which exams of entries are reported."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._association = Association(address, abstract_syntax=MPPS)
        entry = Entry(SAMPLE, "CT1", datetime(2026, 3, 16, 9))  # noqa: DTZ001 (DICOM local time)
        self._begun, self._ended = implicit(begun(entry)), implicit(ended(entry))

    def begin(self, number: int) -> int:
        """N-CREATE; gives the status."""
        command = {0x0002: _even(MPPS), 0x0100: CREATE, 0x1000: _uid(number)}
        return self._association.request(command, _numbered(self._begun, number))

    def end(self, number: int) -> int:
        """N-SET to COMPLETED; gives the status."""
        command = {0x0003: _even(MPPS), 0x0100: SET, 0x1001: _uid(number)}
        return self._association.request(command, _numbered(self._ended, number))

    def close(self) -> None:
        """Close the connection."""
        self._association.close()


def report(
    address: tuple[str, int], first: int, count: int, *, connections: int, seconds: float
) -> Timings:
    """Report exams `first` to `first + count` from a process of its own; a latency is a pair's."""
    host, port = address
    arguments = (host, port, first, count, connections)
    return run_client("broker.bench.exams", *arguments, given=b"", seconds=seconds)


def begun(entry: Entry) -> Dataset:
    """What an N-CREATE says of an entry (PS3.4 Table F.7.2-1)."""
    dataset = dataset_of(
        {
            "PatientName": f"MUSTER{entry.number}^MIRJAM^ANNA^DR.",
            "PatientID": f"P{entry.number}",
            "PatientBirthDate": "19800229",
            "PatientSex": "F",
            "PerformedProcedureStepID": f"SPS{entry.number}",
            "PerformedStationAETitle": entry.station,
            "PerformedStationName": "",
            "PerformedLocation": "",
            "PerformedProcedureStepStartDate": f"{entry.start:%Y%m%d}",
            "PerformedProcedureStepStartTime": f"{entry.start:%H%M%S}",
            "PerformedProcedureStepEndDate": "",
            "PerformedProcedureStepEndTime": "",
            "PerformedProcedureStepStatus": "IN PROGRESS",
            "PerformedProcedureStepDescription": "CT head",
            "PerformedProcedureTypeDescription": "",
            "Modality": "CT",
            "StudyID": f"RP{entry.number}",
        }
    )
    scheduled = dataset_of(
        {
            "StudyInstanceUID": entry.study_uid,
            "AccessionNumber": f"ACC{entry.number}",
            "RequestedProcedureID": f"RP{entry.number}",
            "RequestedProcedureDescription": "CT head",
            "ScheduledProcedureStepID": f"SPS{entry.number}",
            "ScheduledProcedureStepDescription": "CT head without contrast",
        }
    )
    scheduled.ScheduledProtocolCodeSequence = []
    scheduled.ReferencedStudySequence = []
    dataset.ScheduledStepAttributesSequence = [scheduled]
    for empty in ("ReferencedPatientSequence", "ProcedureCodeSequence", "PerformedSeriesSequence"):
        setattr(dataset, empty, [])
    dataset.PerformedProtocolCodeSequence = []
    return dataset


def ended(entry: Entry) -> Dataset:
    """What an N-SET to COMPLETED says of an entry: one series of three images."""
    dataset = dataset_of(
        {
            "PerformedProcedureStepStatus": "COMPLETED",
            "PerformedProcedureStepEndDate": f"{entry.start:%Y%m%d}",
            "PerformedProcedureStepEndTime": f"{entry.start:%H%M%S}",
        }
    )
    series = dataset_of(
        {
            "PerformingPhysicianName": "HALVORSEN^PIPPA",
            "OperatorsName": "WALDEN^PIA",
            "SeriesDescription": "HEAD",
            "RetrieveAETitle": "",
            "ProtocolName": "HEAD",
            "SeriesInstanceUID": f"{UID_ROOT}.{entry.number}.1",
        }
    )
    images = (f"{UID_ROOT}.{entry.number}.1.{image}" for image in range(1, 4))
    series.ReferencedImageSequence = [
        dataset_of(
            {
                "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "ReferencedSOPInstanceUID": image,
            }
        )
        for image in images
    ]
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    dataset.PerformedSeriesSequence = [series]
    return dataset


def _even(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _uid(number: int) -> bytes:
    return _even(f"{UID_ROOT}.{number}")


def _numbered(data: bytes, number: int) -> bytes:
    return data.replace(b"%d" % SAMPLE, b"%d" % number)


def drive(exams: Exams, numbers: Iterator[int], seconds: float) -> Timings:
    """Report exam after exam for at most `seconds`; a fault is what is not Success."""
    latencies, faults, start = [], 0, time.perf_counter()
    with closing(exams):
        for number in numbers:
            began = time.perf_counter()
            faults += (exams.begin(number), exams.end(number)) != (0, 0)
            latencies.append(time.perf_counter() - began)
            if time.perf_counter() - start > seconds:
                break
    return Timings(latencies, time.perf_counter() - start, faults)


def main() -> None:
    """Be the client process."""
    seconds, host, port, *numbers = sys.argv[1:]
    first, count, connections = map(int, numbers)
    opened = [Exams((host, int(port))) for _ in range(connections)]

    def one(place: int) -> Timings:
        mine = iter(range(first + place, first + count, connections))
        return drive(opened[place], mine, float(seconds))

    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(one, range(connections)))
    latencies = [latency for part in parts for latency in part.latencies_s]
    elapsed_s = max(part.elapsed_s for part in parts)
    print_timings(Timings(latencies, elapsed_s, sum(part.faults for part in parts)))


if __name__ == "__main__":
    main()
