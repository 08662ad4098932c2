"""How patients, orders and steps are named: issuer + number, and UIDs that a resend repeats."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from broker.worklist.changes import Attributes, plain, text_of

PRIOR = "PriorPatientIDsSequence"
OF_ROLE = {
    role: (f"{role}OrderNumberImagingServiceRequest", f"Order{role}IdentifierSequence")
    for role in ("Filler", "Placer")
}
"""Where the number of an order and its issuer stand."""
_UUID_VARIANT = 0x8 << 60
_UUID_VERSION_5 = 0x5 << 76


@lru_cache(maxsize=4096)  # one message asks for each of its few keys about ten times
def joined(*parts: str) -> str:
    """Join the parts of a key with '|' so that no two different keys look the same."""
    plainly = "|".join([part.strip() for part in parts])
    if "%" not in plainly and plainly.count("|") == len(parts) - 1:
        return plainly  # nothing to escape, nearly always
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


def universal_key(attributes: Attributes) -> str | None:
    """Name the patient by the universal ID of the issuer, where that is said beside its name."""
    patient_id, universal = text_of(attributes, "PatientID").strip(), universal_issuer(attributes)
    named = text_of(attributes, "IssuerOfPatientID").strip()
    if not (patient_id and universal) or universal == named:
        return None
    return joined(universal, patient_id)


def universal_issuer(attributes: Attributes) -> str:
    """Give the universal ID of the issuer of a patient ID, '' where none is said."""
    items = plain(attributes.get("IssuerOfPatientIDQualifiersSequence"))
    return text_of(items[0], "UniversalEntityID").strip() if items else ""


def prior_keys(attributes: Attributes, source_issuer: str) -> list[tuple[str, ...]]:
    """Name the patients that are merged into another (MRG-1): for each ID the keys it may mean.

    An ID without an issuer is of the surviving patient's, else of the source's; one whose issuer
    has a universal ID as well may be known by that.
    """
    survivors = text_of(attributes, "IssuerOfPatientID").strip()
    found = []
    for item in plain(attributes.get(PRIOR)) or ():
        prior = text_of(item, "PatientID").strip()
        said = text_of(item, "IssuerOfPatientID").strip()
        issuers = [said] if said else [survivors or source_issuer, source_issuer]
        issuers += [other] if said and (other := universal_issuer(item)) else []
        if prior:
            found.append(tuple(dict.fromkeys(joined(issuer, prior) for issuer in issuers)))
    return found


def order_number(attributes: Attributes, role: str, source_issuer: str) -> str | None:
    """Name a placer or filler number, scoped by its issuer or the source; role Placer | Filler."""
    keyword, sequence = OF_ROLE[role]
    number = text_of(attributes, keyword).strip()
    if not number:
        return None
    return joined(_issuer(attributes, sequence) or source_issuer, number)


def number_issuer(attributes: Attributes, role: str) -> str:
    """Give the issuer that a placer or filler number comes with, else ''; role Placer | Filler."""
    return _issuer(attributes, OF_ROLE[role][1])


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
    said = attributes.get(sequence)
    if said is None or not (items := plain(said)):  # hardly any number comes with one
        return ""
    return (
        text_of(items[0], "LocalNamespaceEntityID") or text_of(items[0], "UniversalEntityID")
    ).strip()
