"""How patients, orders and steps are named: issuer + number, and UIDs that a resend repeats."""

from __future__ import annotations

import hashlib

from broker.worklist.changes import Attributes, plain, text_of

_UUID_VARIANT = 0x8 << 60
_UUID_VERSION_5 = 0x5 << 76


def joined(*parts: str) -> str:
    """Join the parts of a key with '|' so that no two different keys look the same."""
    return "|".join(part.strip().replace("%", "%25").replace("|", "%7C") for part in parts)


def parted(key: str) -> list[str]:
    """Take a joined key apart again."""
    return [part.replace("%7C", "|").replace("%25", "%") for part in key.split("|")]


def order_key(attributes: Attributes, source_issuer: str) -> str | None:
    """Name the order by issuer and accession number, None when the message gives no accession."""
    accession = text_of(attributes, "AccessionNumber").strip()
    if not accession:
        return None
    return joined(accession_issuer(attributes, source_issuer), accession)


def accession_issuer(attributes: Attributes, source_issuer: str) -> str:
    """Give the issuer of the accession number: the message's own (EI), else the source's."""
    return said_issuer(attributes) or source_issuer


def said_issuer(attributes: Attributes) -> str:
    """Give the issuer of the accession number that the message itself names, else ''."""
    return _issuer(attributes, "IssuerOfAccessionNumberSequence")


def patient_key(attributes: Attributes, source_issuer: str) -> str | None:
    """Name the patient by issuer and patient ID, None when the message gives no patient ID."""
    patient_id = text_of(attributes, "PatientID").strip()
    if not patient_id:
        return None
    return joined(text_of(attributes, "IssuerOfPatientID").strip() or source_issuer, patient_id)


def order_number(attributes: Attributes, role: str, source_issuer: str) -> str | None:
    """Name a placer or filler number, scoped by its issuer or the source; role Placer | Filler."""
    number = text_of(attributes, f"{role}OrderNumberImagingServiceRequest").strip()
    if not number:
        return None
    issuer = _issuer(attributes, f"Order{role}IdentifierSequence")
    return joined(issuer or source_issuer, number)


def derived_uid(*parts: str) -> str:
    """Derive a UID under 2.25 from names (PS3.5 B.2): the same names give the same UID."""
    digest = int.from_bytes(hashlib.sha256(joined(*parts).encode()).digest()[:16], "big")
    clear = ~((0xF << 76) | (0xC << 60))
    return f"2.25.{digest & clear | _UUID_VERSION_5 | _UUID_VARIANT}"


def derived_number(prefix: str, *parts: str) -> str:
    """Derive an identifier of 16 characters (VR SH) from names too long to be one."""
    digest = hashlib.sha256(joined(*parts).encode()).hexdigest()
    return (prefix + digest.upper())[:16]


def _issuer(attributes: Attributes, sequence: str) -> str:
    items = plain(attributes.get(sequence)) or [{}]
    return (
        text_of(items[0], "LocalNamespaceEntityID") or text_of(items[0], "UniversalEntityID")
    ).strip()
