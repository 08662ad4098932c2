"""The DICOM conformance statement, in the order of PS3.2 Annex A."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

from broker.dicom import dimse, negotiation
from broker.dicom.pdu import OUR_MAX_PDU
from broker.modality.door import SERVED, limits
from broker.settings import Settings
from broker.settings.updates import STATUSES
from broker.statements.document import Document, Section
from broker.worklist.attributes import ROWS, STEPS, Kept
from broker.worklist.mpps import MppsStatus
from broker.worklist.requirements import NEEDS, Need

STATUS: Final = ("Status", "Kind", "When")
SYNTAXES: Final = (negotiation.IMPLICIT_LITTLE, negotiation.EXPLICIT_LITTLE)
MATCHING: Final = {
    "R": "required",
    "O": "optional, matched",
    "o": "optional, not matched (FF01)",
    "-": "no key",
}
FIND: Final = (
    (dimse.PENDING, "Pending", "an answer; all keys with a value were matched"),
    (dimse.PENDING_UNSUPPORTED_KEYS, "Pending", "an answer; an optional key was not matched"),
    (dimse.SUCCESS, "Success", "the list is whole"),
    (dimse.CANCELLED, "Cancel", "C-CANCEL was heeded"),
    (dimse.OUT_OF_RESOURCES, "Refused", "the list is too long, too much to look through, no store"),
    (dimse.IDENTIFIER_DOES_NOT_MATCH, "Failed", "the identifier cannot be read; (0000,0901)"),
    (dimse.UNABLE_TO_PROCESS, "Failed", "a mistake of ours, logged"),
)
ANY_SERVICE: Final = (
    (dimse.SOP_CLASS_NOT_SUPPORTED, "Failed", "the SOP Class is not that of the context"),
    (dimse.UNRECOGNISED_OPERATION, "Failed", "the operation is not provided in this context"),
    (dimse.INVALID_OBJECT_INSTANCE, "Failed", "the SOP Instance UID is no UID"),
)
REJECTIONS: Final = tuple(
    each for each in vars(negotiation).values() if isinstance(each, negotiation.Rejection)
)


def statement(settings: Settings, version: str) -> Document:
    """Give the statement of this program with these settings."""
    return Document(
        f"DICOM Conformance Statement: Worklist broker {version}",
        tuple(_sections(settings, version)),
    )


def _sections(settings: Settings, version: str) -> Iterator[Section]:
    yield _overview(settings, version)
    yield _contexts(settings)
    yield _associations(settings)
    yield _rejections()
    yield Section(
        "Modality Worklist: keys",
        (
            "Attributes of PS3.4 Table K.6-1 with the types of matching and return key there. "
            "Every one is returned when it is asked for; a key outside of the table is passed over "
            "(FF01). Single value, list of UID, wild card, range and universal matching are "
            "provided, sequence matching for sequences that are matched; case does not count in "
            "names. Fuzzy matching of names and time zone adjustment where negotiated.",
        ),
        ("Attribute", "Tag", "Within", "Matching", "Return type"),
        tuple(_keys()),
    )
    yield Section("Modality Worklist: statuses", (), STATUS, _statuses(*FIND))
    yield Section(
        "MPPS: attributes",
        (
            "Types that an SCU has to follow by PS3.4 Table F.7.2-1: in N-CREATE, in N-SET "
            "('-': may not be set), and in the final state. `mpps: strict` holds an AE to them; "
            "`lenient`, the default, takes what deviates and counts it. N-GET gives every one.",
        ),
        ("Attribute", "Tag", "N-CREATE", "N-SET", "Final state"),
        tuple(_needs(NEEDS, "")),
    )
    yield Section(
        "MPPS: statuses",
        (),
        ("Status", "Meaning"),
        tuple((each.value, each.name.replace("_", " ").lower()) for each in MppsStatus),
    )
    yield from _sent_on(settings)
    yield Section("Statuses of every service", (), STATUS, _statuses(*ANY_SERVICE))
    yield _charsets(settings)
    yield _security(settings)


def _overview(settings: Settings, version: str) -> Section:
    forward = settings.updates.forward
    peers = ", ".join(f"{each.called} at {each.to}" for each in forward)
    opens = (
        f"as an SCU it sends MPPS on to {peers}"
        if forward
        else "it opens no associations (`updates.forward` is empty)"
    )
    provided = [
        (UID(uid).name, "SCP", ", ".join(kind for other, kind in SERVED if other == uid))
        for uid in dict.fromkeys(uid for uid, _ in SERVED)
    ]
    mpps = negotiation.MODALITY_PERFORMED_PROCEDURE_STEP
    used = [(UID(mpps).name, "SCU", "N-CREATE, N-SET")] if forward else []
    return Section(
        "Overview",
        (
            f"The worklist broker {version} gives modalities their worklist, and takes the reports "
            f"of what they perform; {opens}. It is not a medical device.",
        ),
        ("SOP Class", "Role", "Requests"),
        (*provided, *used),
    )


def _role(uid: str, settings: Settings) -> str:
    sends = settings.updates.forward and uid == negotiation.MODALITY_PERFORMED_PROCEDURE_STEP
    return "SCP, SCU" if sends else "SCP"


def _sent_on(settings: Settings) -> Iterator[Section]:
    """What an SCP that MPPS is sent on to has to know, and what each status means to us."""
    for each in settings.updates.forward:
        table = {**STATUSES, **each.statuses}
        yield Section(
            f"MPPS sent on to {each.name}",
            (
                f"Called {each.called}, calling {each.ae_title}, at {each.to}. Two presentation "
                "contexts are proposed, one a transfer syntax; a data set goes byte for byte where "
                "the one in which it came is accepted. Requests of one performed step go in their "
                f"order, up to {each.connections} associations at once. What is not in this table "
                "is a refusal that a person sees to. After a lost answer 0111 to an N-CREATE and "
                "0110 to an N-SET count as success.",
            ),
            ("Status", "What becomes of the request"),
            tuple((status, verdict.value) for status, verdict in sorted(table.items())),
        )


def _contexts(settings: Settings) -> Section:
    return Section(
        "Presentation contexts",
        (
            "The first transfer syntax of this list that is offered is taken. All others are "
            "rejected one by one: 3 abstract syntax not supported, 4 transfer syntaxes not "
            "supported.",
            f"Extended negotiation: of {UID(negotiation.MODALITY_WORKLIST).name} fuzzy semantic "
            "matching of person names and time zone query adjustment are agreed on where wanted. "
            "Asynchronous operations, role selection and user identity are not negotiated.",
        ),
        ("Abstract syntax", "UID", "Transfer syntax", "Transfer syntax UID", "Role"),
        tuple(
            (UID(uid).name, uid, UID(syntax).name, syntax, _role(uid, settings))
            for uid in dict.fromkeys(uid for uid, _ in SERVED)
            for syntax in SYNTAXES
        ),
    )


def _associations(settings: Settings) -> Section:
    dicom, held = settings.dicom, limits(settings)
    own = ", ".join((dicom.ae_title, *dicom.aliases))
    rows = (
        ("Application context", negotiation.APPLICATION_CONTEXT),
        ("AE titles", own),
        ("Called AE title", "any" if dicom.called_ae == "any" else f"only {own}"),
        ("Calling AE titles", "any" if dicom.unknown_ae == "accept" else "those of the directory"),
        ("AE titles in the directory", ", ".join(each.title for each in dicom.aes) or "none"),
        ("Plain port", f"{dicom.listen}" if dicom.plain else "none"),
        ("TLS port", f"{dicom.tls.listen}" if dicom.tls else "none"),
        ("Maximum PDU received", f"{OUR_MAX_PDU} bytes"),
        ("Associations at once", f"{held.associations}"),
        ("Associations of one address", f"{held.associations_per_address}"),
        ("Requests outstanding", "1 (synchronous)"),
        ("ARTIM: connect to A-ASSOCIATE-RQ", f"{held.association_s:g} s"),
        ("A PDU or message, from its first byte", f"{held.message_s:g} s"),
        ("An idle association is aborted after", f"{held.idle_s:g} s"),
        ("Longest list, unless an AE has its own", f"{dicom.rules.max_answers} answers"),
        ("Implementation class UID", negotiation.IMPLEMENTATION_CLASS),
        ("Implementation version name", negotiation.IMPLEMENTATION_VERSION),
    )
    return Section("Association policies", (), ("What", "Value"), rows)


def _rejections() -> Section:
    rows = [
        (f"{each.result}", f"{each.source}", f"{each.reason}", each.fact) for each in REJECTIONS
    ]
    return Section("Association rejection", (), ("Result", "Source", "Reason", "When"), tuple(rows))


def _keys() -> Iterator[tuple[str, ...]]:
    for keyword, row in ROWS.items():
        within = STEPS if row.kept is Kept.STEP else ""
        yield keyword, _tag(keyword), within, MATCHING[row.matching], row.returned


def _needs(needs: Mapping[str, Need], within: str) -> Iterator[tuple[str, ...]]:
    for keyword, need in needs.items():
        yield f"{within}{keyword}", _tag(keyword), need.create, need.set, need.final or "–"
        yield from _needs(need.items, f"{within}{keyword} > ")


def _statuses(*rows: tuple[int, str, str]) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{status:04X}", kind, when) for status, kind, when in rows)


def _charsets(settings: Settings) -> Section:
    terms = sorted(term for term in python_encoding if term.startswith(("ISO", "GB")))
    said = settings.dicom.rules.charset or "that of the query where it has one, else ISO_IR 100"
    return Section(
        "Character sets",
        (
            f"Read, in queries and MPPS: {', '.join(terms)}.",
            f"Written: the default repertoire where it does, else {said}; ISO_IR 192 where "
            "that does not hold a letter, unless the AE says `beyond_charset: transliterate`.",
        ),
        ("AE", "Character set"),
        tuple((each.title, each.charset) for each in settings.dicom.aes if each.charset),
    )


def _security(settings: Settings) -> Section:
    tls = settings.dicom.tls
    if tls is None:
        told = "TLS is not configured (`dicom.tls`): the network has to protect the association."
    else:
        told = (
            f"TLS on {tls.listen} after PS3.15 B.12 (BCP 195, RFC 8996 and 9325): TLS 1.2 and 1.3; "
            f"certificates of peers: {tls.client}."
        )
    bound = [
        (
            each.title,
            ", ".join(map(str, each.addresses)) or "any",
            ", ".join(each.certificate) or "any",
        )
        for each in settings.dicom.aes
    ]
    return Section("Security", (told,), ("AE", "Addresses", "Certificate names"), tuple(bound))


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
