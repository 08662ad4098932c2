"""Synthetic orders: ORM^O01, OMI^O23 and ADT^A08 from small values. Every patient is invented.

Segments are joined by hand on purpose: a pretend RIS must not share the code it is there to test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

_CONTROL_IDS = itertools.count(1)


@dataclass(frozen=True)
class Patient:
    """An invented patient; the name is PID-5 as HL7 writes it, birth date YYYYMMDD."""

    patient_id: str = "P0815"
    name: str = "MUSTER^MIRJAM^ANNA"
    birth_date: str = "19800229"
    sex: str = "F"
    issuer: str = "NORTH"


@dataclass(frozen=True)
class Step:
    """One scheduled procedure step: an IPC in OMI^O23, the whole ORC/OBR group in ORM^O01."""

    step_id: str = "SPS0001"
    modality: str = "CT"
    station_ae: str = "CT1"
    station_name: str = "CTROOM1"
    protocol: str = "CTHEAD"
    description: str = "CT head without contrast"


@dataclass(frozen=True)
class Order:
    """One requested procedure with its steps; texts go into the message as they are."""

    patient: Patient = Patient()
    accession: str = "ACC0001"
    procedure_id: str = "RP0001"
    study_uid: str = "1.2.276.0.76.999.1.1"
    placer: str = "PL0001"
    filler: str = "FL0001"
    description: str = "CT head"
    start: datetime = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
    steps: tuple[Step, ...] = (Step(),)
    visit: str = "V0001"


@dataclass(frozen=True)
class Envelope:
    """What the MSH of a message says; a new control ID per envelope unless given."""

    control_id: str = field(default_factory=lambda: f"PROBE{next(_CONTROL_IDS):06d}")
    application: str = "PROBERIS"
    facility: str = "NORTH"
    version: str = "2.3.1"
    sent: datetime = datetime(2026, 3, 16, 8, 0, tzinfo=UTC)
    charset: str = "UNICODE UTF-8"
    codec: str = "utf-8"
    accept_ack: str = ""
    application_ack: str = ""


def numbered(number: int, *, start: datetime | None = None, modality: str = "CT") -> Order:
    """An order whose every identifier carries the same number; patients repeat after 500."""
    person = Patient(f"P{number % 500:05d}", f"MUSTER{number % 500:05d}^MIRJAM")
    step = Step(step_id=f"SPS{number:06d}", modality=modality, station_ae=f"{modality}1")
    order = Order(
        patient=person,
        accession=f"ACC{number:06d}",
        procedure_id=f"RP{number:06d}",
        study_uid=f"1.2.276.0.76.999.2.{number}",
        placer=f"PL{number:06d}",
        filler=f"FL{number:06d}",
        visit=f"V{number:06d}",
        steps=(step,),
    )
    return order if start is None else replace(order, start=start)


def orm_o01(
    *orders: Order, control: str = "NW", status: str = "SC", envelope: Envelope | None = None
) -> bytes:
    """An ORM^O01 of HL7 2.3 to 2.5.1: one ORC/OBR group per step, the ZDS last (IHE RAD-4).

    All orders share the patient of the first; when their study UIDs differ, each group has its own
    ZDS. `control` is ORC-1, `status` ORC-5.
    """
    envelope = envelope or Envelope()
    segments = [_msh(envelope, "ORM^O01"), _pid(orders[0].patient), _pv1(orders[0])]
    groups = [(order, step) for order in orders for step in order.steps]
    one_study = len({order.study_uid for order in orders}) == 1
    for number, (order, step) in enumerate(groups, start=1):
        segments += _orm_group(order, step, control, status, number)
        if not one_study or number == len(groups):
            segments.append(_segment("ZDS", {1: f"{order.study_uid}^PROBE^Application^DICOM"}))
    return _message(segments, envelope)


def omi_o23(
    *orders: Order, control: str = "NW", status: str = "SC", envelope: Envelope | None = None
) -> bytes:
    """An OMI^O23 of HL7 2.5.1: per order ORC, TQ1, OBR and one IPC per step."""
    envelope = envelope or Envelope(version="2.5.1")
    segments = [
        _msh(envelope, "OMI^O23^OMI_O23"),
        _pid(orders[0].patient),
        _pv1(orders[0]),
    ]
    for number, order in enumerate(orders, start=1):
        segments.append(_segment("ORC", {1: control, 2: order.placer, 3: order.filler, 5: status}))
        segments.append(_segment("TQ1", {1: "1", 7: _ts(order.start), 9: "R"}))
        segments.append(_omi_obr(order, number))
        segments += [_ipc(order, step) for step in order.steps]
    return _message(segments, envelope)


def adt_a08(patient: Patient, *, envelope: Envelope | None = None) -> bytes:
    """An ADT^A08 that says who the patient is now."""
    envelope = envelope or Envelope()
    event = _segment("EVN", {1: "A08", 2: _ts(envelope.sent)})
    visit = _segment("PV1", {1: "1", 2: "O"})
    return _message([_msh(envelope, "ADT^A08"), event, _pid(patient), visit], envelope)


def _orm_group(order: Order, step: Step, control: str, status: str, number: int) -> list[str]:
    timing = f"^^^{_ts(order.start)}^^R"
    orc = {1: control, 2: order.placer, 3: order.filler, 5: status, 7: timing}
    obr = {
        1: str(number),
        2: order.placer,
        3: order.filler,
        4: f"{step.protocol}^{order.description}^PROBE^{step.protocol}^{step.description}^PROBE",
        18: order.accession,
        19: order.procedure_id,
        20: step.step_id,
        21: step.station_ae,
        24: step.modality,
        27: timing,
        44: f"{step.protocol}^{order.description}^PROBE",
    }
    return [_segment("ORC", orc), _segment("OBR", obr)]


def _omi_obr(order: Order, number: int) -> str:
    code = f"{order.steps[0].protocol}^{order.description}^PROBE"
    fields = {1: str(number), 2: order.placer, 3: order.filler, 4: code, 44: code}
    return _segment("OBR", fields)


def _ipc(order: Order, step: Step) -> str:
    fields = {
        1: order.accession,
        2: order.procedure_id,
        3: order.study_uid,
        4: step.step_id,
        5: step.modality,
        6: f"{step.protocol}^{step.description}^PROBE",
        7: step.station_name,
        9: step.station_ae,
    }
    return _segment("IPC", fields)


def _msh(envelope: Envelope, kind: str) -> str:
    # MSH-1 is the separator itself, so every later field sits one place further left.
    fields = {
        1: "^~\\&",
        2: envelope.application,
        3: envelope.facility,
        4: "BROKER",
        5: envelope.facility,
        6: _ts(envelope.sent),
        8: kind,
        9: envelope.control_id,
        10: "P",
        11: envelope.version,
        14: envelope.accept_ack,
        15: envelope.application_ack,
        17: envelope.charset,
    }
    return _segment("MSH", fields)


def _pid(patient: Patient) -> str:
    fields = {
        1: "1",
        3: f"{patient.patient_id}^^^{patient.issuer}^PI",
        5: patient.name,
        7: patient.birth_date,
        8: patient.sex,
    }
    return _segment("PID", fields)


def _pv1(order: Order) -> str:
    referring = "30112^WALDEN^PIA^^^DR"
    return _segment("PV1", {1: "1", 2: "O", 3: "RADIO", 8: referring, 19: order.visit})


def _segment(name: str, fields: Mapping[int, str]) -> str:
    last = max((number for number, text in fields.items() if text), default=0)
    return "|".join([name, *(fields.get(number, "") for number in range(1, last + 1))])


def _message(segments: Sequence[str], envelope: Envelope) -> bytes:
    return "".join(f"{segment}\r" for segment in segments).encode(envelope.codec)


def _ts(moment: datetime) -> str:
    """HL7 TS without zone, as most RISs write it: the receiver reads it as site time."""
    return moment.strftime("%Y%m%d%H%M%S")
