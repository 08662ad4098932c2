"""Audit messages read with an XML parser, and held against the schema of PS3.15 A.5.1."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

CODED = {"csd-code", "codeSystemName", "originalText"}
SCHEMA: dict[str, tuple[set[str], set[str], list[str]]] = {
    "AuditMessage": (
        set(),
        set(),
        [
            "EventIdentification",
            "ActiveParticipant+",
            "AuditSourceIdentification",
            "ParticipantObjectIdentification*",
        ],
    ),
    "EventIdentification": (
        {"EventActionCode", "EventDateTime", "EventOutcomeIndicator"},
        set(),
        ["EventID", "EventTypeCode*", "EventOutcomeDescription?"],
    ),
    "EventID": (CODED, set(), []),
    "EventTypeCode": (CODED, set(), []),
    "EventOutcomeDescription": (set(), set(), []),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        ["RoleIDCode*"],
    ),
    "RoleIDCode": (CODED, set(), []),
    "AuditSourceIdentification": (
        {"AuditSourceID"},
        {"AuditEnterpriseSiteID"},
        ["AuditSourceTypeCode*"],
    ),
    "AuditSourceTypeCode": ({"csd-code"}, set(), []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID", "ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
        set(),
        [
            "ParticipantObjectIDTypeCode",
            "ParticipantObjectName?",
            "ParticipantObjectQuery?",
            "ParticipantObjectDetail*",
            "ParticipantObjectDescription*",
        ],
    ),
    "ParticipantObjectIDTypeCode": (CODED, set(), []),
    "ParticipantObjectName": (set(), set(), []),
    "ParticipantObjectQuery": (set(), set(), []),
    "ParticipantObjectDetail": ({"type", "value"}, set(), []),
    "ParticipantObjectDescription": (set(), set(), ["MPPS*", "Accession*"]),
    "MPPS": ({"UID"}, set(), []),
    "Accession": ({"Number"}, set(), []),
}
"""Of each element the attributes that it has to have, those it may have, and its children."""


def read(message: bytes | str) -> Xml.Element:
    """The message, which must be as the schema wants it."""
    root = Xml.fromstring(message)
    assert root.tag == "AuditMessage"
    _judge(root)
    return root


def _judge(element: Xml.Element) -> None:
    needed, allowed, children = SCHEMA[element.tag]
    found = set(element.attrib)
    assert needed <= found <= needed | allowed, (element.tag, found)
    tags = [child.tag for child in element]
    for each in children:
        name, many = each.rstrip("+*?"), each[-1] if each[-1] in "+*?" else "1"
        count = 0
        while tags and tags[0] == name:
            count += 1
            tags.pop(0)
        most = {"+": 99, "*": 99, "?": 1, "1": 1}[many]
        least = {"+": 1, "*": 0, "?": 0, "1": 1}[many]
        assert least <= count <= most, (element.tag, each, count)
    assert tags == [], f"{element.tag} has {tags} out of place"
    if element.tag == "ParticipantObjectIdentification":
        either = {"ParticipantObjectName", "ParticipantObjectQuery"}
        assert len(either & {child.tag for child in element}) == 1, "a name or a query"
    for child in element:
        _judge(child)


def event(root: Xml.Element) -> str:
    """The code of the event."""
    found = root.find("EventIdentification/EventID")
    assert found is not None
    return found.attrib["csd-code"]


def kind(root: Xml.Element) -> str:
    """The code of its type, '' when it has none."""
    found = root.find("EventIdentification/EventTypeCode")
    return found.attrib["csd-code"] if found is not None else ""


def said(root: Xml.Element) -> dict[str, str]:
    """Action and outcome."""
    found = root.find("EventIdentification")
    assert found is not None
    return dict(found.attrib)


def objects(root: Xml.Element) -> dict[str, Xml.Element]:
    """The objects by the meaning of what identifies them."""
    return {
        each[0].attrib["originalText"]: each
        for each in root.findall("ParticipantObjectIdentification")
    }


def participants(root: Xml.Element) -> list[dict[str, str]]:
    """Who took part, in order, with the code of the role."""
    found = []
    for each in root.findall("ActiveParticipant"):
        role = each.find("RoleIDCode")
        code = role.attrib["csd-code"] if role is not None else ""
        found.append({**each.attrib, "role": code})
    return found
