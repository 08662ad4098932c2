"""The synthetic corpus against the shipped mappings: all is answered, and what already fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.probe.orders import orm_o01
from broker.probe.scanner import STEP
from tests.doors.actors import Answer, Broker, Line, accepted, find, new_order, only, send, step_of

pytestmark = [
    pytest.mark.peer("redis-server"),
    # pydicom counts the padding of a text of 64 characters as its 65th.
    pytest.mark.filterwarnings("ignore:The value length"),
]

MATCHING = frozenset(
    [
        *("01", "03", "04", "05", "06", "07", "09", "11", "13", "14"),
        *("15", "16", "18", "19", "21", "24", "26", "27"),
    ]
)
"""Messages with the outcome of outcomes.md under the shipped mappings; this only ever grows."""


TAKEN = ("AA", "CA")


@dataclass(frozen=True)
class Played:
    """What a message was answered, and the worklist of its patient right after it."""

    answer: Answer
    items: list[dict[str, Any]]


# Whose worklist to look at after each message.
PATIENTS = {
    "01": "00823417",
    "03": "M000045678",
    "04": "191204059993",
    "05": "4711023",
    "06": "100200300",
    "07": "BK-55120",
    "09": "6455110031",
    "11": "0000081277",
    "13": "00899001",
    "14": "00899001",
    "15": "4711099",
    "16": "4711023",
    "18": "4711023",
    "19": "00823417",
    "21": "P12-9981",
    "24": "33012",
    "26": "VA-99120",
    "27": "00823417",
}


@pytest.fixture(scope="module")
def played(whole: Broker, corpus: Path) -> dict[str, Played]:
    """Every message in the order of its number, which is the order that chained cases need."""
    told = {}
    with Line(whole.hl7) as line:
        for path in sorted(corpus.glob("*.hl7")):
            number = path.name[:2]
            answer = line.send(path.read_bytes())
            told[number] = Played(answer, find(whole, patient_id=PATIENTS[number]))
    return told


def test_every_message_is_answered_and_none_stops_the_broker(
    broker: Broker, played: dict[str, Played], corpus: Path
) -> None:
    assert set(played) == {path.name[:2] for path in corpus.glob("*.hl7")} == set(PATIENTS)
    assert {one.answer.code for one in played.values()} <= {"AA", "CA", "AE", "AR"}
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    only(broker, order)


def test_the_same_messages_again_get_the_same_answers_and_change_nothing(
    broker: Broker, played: dict[str, Played], corpus: Path
) -> None:
    before = find(broker, patient_id=PATIENTS["04"])
    for path in sorted(corpus.glob("*.hl7")):
        again = send(broker.hl7, path.read_bytes())
        assert again.code == played[path.name[:2]].answer.code, path.name
    assert find(broker, patient_id=PATIENTS["04"]) == before


def test_c01_every_message_of_the_corpus_reaches_its_outcome(
    played: dict[str, Played],
) -> None:
    reached = {number for number, reaches in OUTCOMES.items() if reaches(played[number])}
    assert reached >= MATCHING, f"no longer: {sorted(MATCHING - reached)}"
    assert reached <= MATCHING, f"now too, add to MATCHING: {sorted(reached - MATCHING)}"


# --- what outcomes.md says of each


def entry(accession: str, **said: Any) -> Callable[[Played], bool]:
    """The one entry of this accession says all this; `steps` is for several."""

    def holds(one: Played) -> bool:
        mine = [item for item in one.items if item["AccessionNumber"] == accession]
        wrong = [
            keyword
            for item in mine
            for keyword, value in said.items()
            if keyword != "count" and _value(item, keyword) != value
        ]
        return one.answer.code in TAKEN and len(mine) == said.get("count", 1) and not wrong

    return holds


def gone(accession: str) -> Callable[[Played], bool]:
    """The message is taken and this accession has no entry."""
    return lambda one: (
        one.answer.code in TAKEN and all(item["AccessionNumber"] != accession for item in one.items)
    )


def generated(one: Played) -> bool:
    """One entry with an accession number made for it."""
    made = [item["AccessionNumber"] for item in one.items]
    return one.answer.code in TAKEN and len(made) == 1 and 0 < len(made[0]) <= 16


def _value(item: dict[str, Any], keyword: str) -> Any:
    holder: dict[str, Any] = step_of(item) if keyword in item[STEP][0] else item
    value = holder.get(keyword)
    if keyword.endswith("CodeSequence") and value:
        return value[0]["CodeValue"], value[0]["CodingSchemeDesignator"]
    return value


OUTCOMES: dict[str, Callable[[Played], bool]] = {
    "01": entry(
        "24GHMC0087713",
        PatientName="CARVER^ODELIA^JUNE^MS.",
        PatientID="00823417",
        IssuerOfPatientID="GHMC",
        Modality="CT",
        ScheduledStationAETitle="GHCT2",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="093000",
        RequestedProcedureCodeSequence=("IMG2119", "IMGEAP"),
        RequestedProcedureDescription="CT HEAD WO CONTRAST",
        AdmissionID="9900417123",
    ),
    "03": entry(
        "0316-00042CR",
        PatientName="OKAFOR^NGOZI^T",
        PatientID="M000045678",
        IssuerOfPatientID="TWC",
        Modality="CR",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="110000",
        RequestedProcedureCodeSequence=("CHESTPA", "MEDRAD"),
        RequestedProcedureDescription="XR CHEST PA/LAT",
    ),
    "04": entry(
        "NS26A0098812",
        count=2,
        PatientName="Åkerström^Märta Linnéa",
        PatientID="191204059993",
        IssuerOfPatientID="SE",
        Modality="CT",
        ScheduledStationAETitle="NSCT02",
        ScheduledProcedureStepStartDate="20260317",
        ScheduledProcedureStepStartTime="084500",
        StudyInstanceUID="1.2.752.24.99.7.26.55120",
        RequestedProcedureCodeSequence=("81500", "NSRTG"),
    ),
    "05": entry(
        "NA26-0031177",
        PatientName="von der Aue^Jürgen^Günther^^Dr. med.",
        PatientID="4711023",
        IssuerOfPatientID="NORDAU",
        Modality="CT",
        ScheduledStationAETitle="NORDCT1",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="100000",
        RequestedProcedureCodeSequence=("CTABDKM", "ORBISLEI"),
        StudyInstanceUID="1.2.276.0.76.999.26.31177",
    ),
    "06": entry(
        "SV0000771",
        PatientName="Größler^Änne^^Frau",
        PatientID="100200300",
        IssuerOfPatientID="STVEIT",
        Modality="MR",
        ScheduledStationAETitle="SVMR01",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="140000",
        RequestedProcedureCodeSequence=("SCHAED", "HAUS"),
        RequestedProcedureDescription="Schädel-MRT nativ",
    ),
    "07": entry(
        "BK44120",
        PatientName="Brontë-Ångström^Zoë^Chloé",
        PatientID="BK-55120",
        IssuerOfPatientID="BERGKLINIK",
        Modality="US",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="130000",
        RequestedProcedureCodeSequence=("US-ABD", "99LOCAL"),
        RequestedProcedureDescription="Sonographie Abdomen",
    ),
    "09": entry(
        "CZ2600009001",
        PatientName="Šťastná^Růžena^^Mgr.",
        PatientID="6455110031",
        IssuerOfPatientID="NEMOCNICE",
        Modality="MG",
        ScheduledStationAETitle="CZMG1",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="150000",
        RequestedProcedureCodeSequence=("MG-SCR", "VZP"),
        RequestedProcedureDescription="Mamografický screening",
    ),
    "11": entry(
        "81201",
        PatientName="=五十嵐^厚=イガラシ^アツシ",
        PatientID="0000081277",
        IssuerOfPatientID="MIDORI",
        Modality="CR",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="110000",
        StudyInstanceUID="1.2.392.200099.99.81201",
    ),
    "13": entry(
        "26GHMC0090099",
        PatientName="DELACROIX^REMY",
        Modality="MR",
        ScheduledStationAETitle="GHMR1",
        ScheduledProcedureStepStartDate="20260317",
        ScheduledProcedureStepStartTime="101500",
    ),
    "14": entry(
        "26GHMC0090099",
        PatientName="DELACROIX^REMY",
        Modality="MR",
        ScheduledStationAETitle="GHMR2",
        ScheduledProcedureStepStartDate="20260318",
        ScheduledProcedureStepStartTime="140000",
    ),
    "15": lambda one: one.answer.code in TAKEN and not one.items,
    "16": entry(
        "NA26-0031177",
        PatientName="von der Aue-Voß^Jürgen",
        PatientID="4711023",
        IssuerOfPatientID="NORDAU",
        PatientBirthDate="19570113",
        PatientSex="M",
        CurrentPatientLocation="CHI2 214 1 KLINIKUM NORDAU",
        ScheduledStationAETitle="NORDCT1",
        StudyInstanceUID="1.2.276.0.76.999.26.31177",
    ),
    "18": gone("NA26-0031177"),
    "19": entry(
        "24GHMC0087999",
        PatientName="CARVER^ODELIA^JUNE",
        PatientID="00823417",
        IssuerOfPatientID="GHMC",
        Modality="CT",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="111500",
        RequestedProcedureCodeSequence=("IMG2150", "IMGEAP"),
        RequestedProcedurePriority="STAT",
    ),
    "21": generated,
    "24": entry(
        "KA000009",
        PatientName="Bürgi^Trudi",
        PatientID="33012",
        IssuerOfPatientID="STADTSPITAL",
        PatientBirthDate="",
        PatientSex="",
        Modality="MR",
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="140000",
        RequestedProcedureCodeSequence=("MRWS", "SPITAL"),
        RequestedProcedureDescription=(
            "MR Wirbelsäule gesamt mit und ohne Kontrastmittel & Diffusion, P"
        ),
        StudyInstanceUID="1.2.756.99.9.1.9",
    ),
    "26": entry(
        "A7712VALLE",
        PatientName="D&Angelò^Niccolò",
        PatientID="VA-99120",
        IssuerOfPatientID="VALLE",
        Modality="DX",
        ScheduledStationAETitle=["VADX1", "VADX2"],
        ScheduledProcedureStepStartDate="20260316",
        ScheduledProcedureStepStartTime="163000",
        RequestedProcedureCodeSequence=("RXPIEDE", "NOMENCLATORE"),
        ScheduledProtocolCodeSequence=("RXP2", "FUJI"),
        StudyInstanceUID="1.3.76.13.99.7712",
    ),
    "27": gone("24GHMC0087713"),
}
