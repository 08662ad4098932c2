"""Defined terms of attributes whose values others must know (PS3.3)."""

from __future__ import annotations

from typing import Final

from broker.mapping.text.nearest import did_you_mean


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES: Final = _words(
    """
    ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC
    HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA
    PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SC SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF
    """
)
"""Of (0008,0060), PS3.3 C.7.3.1.1.1; the last line is retired."""


STEP_STATES: Final = _words(
    "SCHEDULED ARRIVED READY STARTED DEPARTED CANCELLED DISCONTINUED HELD RELEASED"
)
"""The last two are words of the worklist: a hold by status, and what takes it back."""
TERMS: Final = {
    "Modality": (
        MODALITIES,
        "is no modality that DICOM knows",
        "as CT, MR, US, CR, DX, MG, NM, PT",
    ),
    "PatientSex": (_words("M F O"), "is no sex that DICOM knows", "M, F, O, or nothing"),
    "PregnancyStatus": (
        _words("1 2 3 4"),
        "is no pregnancy status that DICOM knows",
        "1 not, 2 possibly, 3 definitely, 4 unknown",
    ),
    "ScheduledProcedureStepStatus": (
        STEP_STATES,
        "is no status of a step that DICOM knows",
        "leave it out: it follows from the action and from what scanners report (MPPS)",
    ),
}
"""By attribute (PS3.3 C.7.1.1, C.3.4, C.4.10) its terms, and what to say of another one."""


def odd_term(keyword: str, value: str) -> tuple[str, str] | None:
    """Fact and hint when a value is none of the defined terms of its attribute."""
    term = value.strip().upper()
    terms, fact, hint = TERMS.get(keyword, ((), "", ""))
    if not terms or term in terms:
        return None
    if keyword == "Modality":
        hint = SLIPS.get(term) or did_you_mean(term, MODALITIES) or hint
    return fact, hint


def raw_terms(keyword: str) -> tuple[str, str] | None:
    """Fact and hint where a field as it was sent shall fill an attribute of defined terms."""
    if keyword not in TABLES:
        return None
    return TERMS[keyword][1], f"end with | lookup({TABLES[keyword]}), as ihe-orders does"


TABLES: Final = {"Modality": "modality", "PatientSex": "sex", "PregnancyStatus": "pregnancy"}
"""The tables that make a sender's words the terms of DICOM."""
SLIPS: Final = {
    **dict.fromkeys(("MRI", "MRT", "NMR"), "did you mean 'MR'?"),
    **dict.fromkeys(("PET", "PETCT"), "did you mean 'PT'?"),
    **dict.fromkeys(("ULTRASOUND", "SONO"), "did you mean 'US'?"),
    **dict.fromkeys(("XR", "XRAY", "RX"), "did you mean 'CR' or 'DX'?"),
    "MAMMO": "did you mean 'MG'?",
}
