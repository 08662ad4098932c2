"""The six commonest queries of scanners, asked by DCMTK's findscu with a scanner's return keys."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.modality.site import (
    AET,
    DATE,
    STEPS,
    Site,
    plan,
    private_redis,
    read_implicit,
    site_of,
)

pytestmark = pytest.mark.peer("redis-server", "dcmtk")

STEP = f"{STEPS}[0]"
TOP = [
    "AccessionNumber",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "ReferringPhysicianName",
    "MedicalAlerts",
]
OF_STEP = [
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepDescription",
    "ScheduledPerformingPhysicianName",
]
RETURNED = [*TOP, *(f"{STEP}.{keyword}" for keyword in OF_STEP)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with private_redis() as redis, site_of(redis, "timezone: Europe/Berlin") as site:
        plan(site.store, "A1", patient_id="4711", PatientName="Müller^Jörg")
        plan(site.store, "A2", patient_id="4712", PatientName="MULLER^ANNA", **{DATE: "20260102"})
        plan(
            site.store, "A3", patient_id="4713", **{AET: "MR1", "Modality": "MR", DATE: "20260102"}
        )
        plan(
            site.store, "A4", patient_id="4714", **{AET: "MR1", "Modality": "MR", DATE: "20260109"}
        )
        yield site


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([f"{STEP}.{AET}=CT1", f"{STEP}.{DATE}=20260101"], ["A1"]),  # this scanner, today
        ([f"{STEP}.Modality=MR", f"{STEP}.{DATE}=20260101-20260107"], ["A3"]),  # modality, week
        (["AccessionNumber=A4"], ["A4"]),  # the bar code of an order
        (["PatientID=4712"], ["A2"]),  # the wristband
        (["PatientName=mul*"], ["A1", "A2"]),  # typed by hand
        ([f"{STEP}.{DATE}=20260102-"], ["A2", "A3", "A4"]),  # everything from a day on
    ],
)
def test_findscu_gets_the_list_that_a_scanner_asks_for(
    site: Site,
    keys: list[str],
    expected: list[str],
    dcmtk_program: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    asked = {key.partition("=")[0] for key in keys}
    every = [*keys, *(key for key in RETURNED if key not in asked)]
    run = subprocess.run(
        [
            *(str(dcmtk_program("findscu")), "-W", "-aet", "CT1", "-aec", "BROKER"),
            *("-X", "-od", str(tmp_path), "127.0.0.1", str(site.port)),
            *(word for key in every for word in ("-k", key)),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers = [read_implicit(path.read_bytes()) for path in sorted(tmp_path.glob("*.dcm"))]
    assert [str(answer.AccessionNumber) for answer in answers] == expected
    for answer in answers:
        assert answer.StudyInstanceUID
        assert len(answer.ScheduledProcedureStepSequence) == 1
