"""How scanners of different kinds ask for their list: keys, negotiation, and when they stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.probe.datasets import Attributes
from broker.probe.questions import RETURN_KEYS, STEP, worklist_keys

VERIFICATION: Final = UID("1.2.840.10008.1.1")
MPPS: Final = UID("1.2.840.10008.3.1.2.3.3")


class Wish(NamedTuple):
    """What someone at the scanner wants to see; '' where nothing is said.

    `title` is the scanner's own AE title, `today` the day (YYYYMMDD) on its clock.
    """

    title: str
    today: str
    modality: str = ""
    date: str = ""
    patient_id: str = ""
    patient_name: str = ""
    accession: str = ""
    station: str = ""


@dataclass(frozen=True)
class Manner:
    """How an association is made: transfer syntaxes in the order offered, further SOP classes."""

    syntaxes: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    beside: tuple[UID, ...] = ()
    max_pdu: int = 16382
    stops_at: int | None = None
    """Answers after which it sends a C-CANCEL, its list being full."""
    message_id: int | None = 1
    private: bool = False
    """Keys of its maker's own are among those it sends."""


@dataclass(frozen=True)
class Style:
    """One way of asking: `what` it does in a line, its keys for a wish, and its manner."""

    what: str
    keys: Callable[[Wish], Attributes]
    manner: Manner = field(default_factory=Manner)


def _as_wished(wish: Wish) -> Attributes:
    return worklist_keys(
        modality=wish.modality,
        date=wish.date,
        patient_id=wish.patient_id,
        patient_name=wish.patient_name,
        accession=wish.accession,
        station_ae=wish.station,
    )


def _own_room(wish: Wish) -> Attributes:
    return worklist_keys(
        modality=wish.modality or "CT",
        date=wish.date or wish.today,
        station_ae=wish.station or wish.title,
    )


def _own_modality(wish: Wish) -> Attributes:
    return worklist_keys(modality=wish.modality or "CT", date=wish.date)


def _everything(_: Wish) -> Attributes:
    return worklist_keys()


def _day_and_modality(wish: Wish) -> Attributes:
    return worklist_keys(modality=wish.modality or "CR", date=wish.date or wish.today)


def _several_modalities(wish: Wish) -> Attributes:
    keys = _day_and_modality(wish)
    keys[STEP][0]["Modality"] = wish.modality.split("\\") if wish.modality else ["CR", "DX"]
    return keys


def _from_today(wish: Wish) -> Attributes:
    return worklist_keys(modality=wish.modality, date=wish.date or f"{wish.today}-")


def _barcode(wish: Wish) -> Attributes:
    return worklist_keys(accession=wish.accession)


def _one_patient(wish: Wish) -> Attributes:
    return worklist_keys(patient_id=wish.patient_id, patient_name=wish.patient_name)


def _retrieve_habit(wish: Wish) -> Attributes:
    return {"QueryRetrieveLevel": "WORKLIST", **_as_wished(wish)}


def _contrast(wish: Wish) -> Attributes:
    keys = _as_wished(wish)
    code = {"CodeValue": "", "CodingSchemeDesignator": "", "CodeMeaning": ""}
    keys["RequestedProcedureCodeSequence"] = [code]
    keys[STEP][0] |= {"RequestedContrastAgent": "", "ScheduledProtocolCodeSequence": [code]}
    return keys


def _no_step(wish: Wish) -> Attributes:
    return {k: v for k, v in _as_wished(wish).items() if k != STEP}


def _empty_step(wish: Wish) -> Attributes:
    return {**_as_wished(wish), STEP: [{}]}


def _few_keys(wish: Wish) -> Attributes:
    wanted = ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID")
    step = dict.fromkeys(("Modality", "ScheduledProcedureStepStartDate"), "")
    few = {**{k: RETURN_KEYS[k] for k in wanted}, STEP: [step]}
    return worklist_keys(
        modality=wish.modality,
        date=wish.date or wish.today,
        station_ae=wish.station or wish.title,
        return_keys=few,
    )


ONE_SYNTAX: Final = (ImplicitVRLittleEndian,)
THREE_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)

STYLES: Final[Mapping[str, Style]] = {
    "present-day": Style("the keys that are given, all that is known comes back", _as_wished),
    "own-room": Style(
        "CT console, 'this scanner': modality, own AE title, today; PDU of 50 KB",
        _own_room,
        Manner(max_pdu=50_000),
    ),
    "own-modality": Style("CT console, 'this modality': modality alone", _own_modality),
    "everything": Style("'all': no key at all", _everything),
    "full-list": Style(
        "stops with a C-CANCEL when its list of 20 is full",
        _everything,
        Manner(ONE_SYNTAX, stops_at=20),
    ),
    "radiography": Style(
        "fluoroscopy and X-ray: several services in one association, big endian offered too",
        _day_and_modality,
        Manner(THREE_SYNTAXES, (VERIFICATION, MPPS), 64_234),
    ),
    "cr-dx": Style("one plate reader for both: Modality CR\\DX", _several_modalities),
    "cr-defaults": Style("date and modality filled in by itself", _day_and_modality),
    "ultrasound": Style(
        "few keys, own AE title and day; Implicit VR only, PDU of 16,000",
        _few_keys,
        Manner(ONE_SYNTAX, max_pdu=16_000),
    ),
    "from-today": Style("an open range of dates: 20261129-", _from_today),
    "barcode": Style("one order by its accession number", _barcode, Manner(ONE_SYNTAX)),
    "one-patient": Style("one patient by ID or name, wild cards allowed", _one_patient),
    "retrieve-habit": Style("a Query/Retrieve Level, as for images", _retrieve_habit),
    "private-keys": Style(
        "private attributes of its maker among the keys", _as_wished, Manner(private=True)
    ),
    "no-message-id": Style(
        "the request has no Message ID", _as_wished, Manner(ONE_SYNTAX, message_id=None)
    ),
    "contrast": Style("contrast agent in the step, code sequences of empty keys", _contrast),
    "no-step": Style("without the step sequence", _no_step),
    "empty-step": Style("the step sequence with one empty item: all of it", _empty_step),
}
