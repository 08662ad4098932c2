"""The messages and senders that a mapping accepts, judged against the tables of HL7."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hl7apy import load_library

from broker.mapping.compiling.compiler import Compiler
from broker.mapping.text.nearest import did_you_mean

ANY = "*"
USUAL = ("ORM", "OMI", "OMG", "ADT", "SIU", "ORU")
TYPES, EVENTS = "HL70076", "HL70003"


def messages(
    compiler: Compiler, texts: Sequence[str], versions: Sequence[str]
) -> list[tuple[str, str]]:
    """Type and trigger of each, `*` for every trigger."""
    found = []
    for number, text in enumerate(texts):
        kind, _, trigger = text.partition("^")
        wrong = _mistake(text, kind, trigger, versions)
        if wrong:
            node = compiler.root.at(["accept", "messages", number])
            compiler.complaints.append(node.complaint(*wrong))
        found.append((kind, trigger))
    return found


def senders(compiler: Compiler, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Application and facility of each, `*` for any."""
    found = []
    for number, text in enumerate(texts):
        application, bar, facility = text.partition("|")
        if not (bar and application and facility):
            node = compiler.root.at(["accept", "senders", number])
            hint = "write MSH-3|MSH-4, as EPIC|NORTH or EPIC|*"
            compiler.complaints.append(node.complaint(f"'{text}' is not a sender", hint))
        found.append((application.strip(), facility.strip()))
    return found


def _mistake(text: str, kind: str, trigger: str, versions: Sequence[str]) -> tuple[str, str] | None:
    if not (kind and trigger):
        hint = "write type^trigger, as ORM^O01, or ADT^* for every trigger"
        return f"'{text}' is not a message type", hint
    types, events = _known(TYPES, versions), _known(EVENTS, versions)
    if kind not in types and not kind.startswith("Z"):
        close = did_you_mean(kind, USUAL) or did_you_mean(kind, types)
        hint = close or "as ORM, OMI, OMG, ADT; a site's own begin with Z"
        return f"HL7 has no message type '{kind[:20]}' ({text[:40]})", hint
    if "^" in trigger:
        event = trigger.partition("^")[0]
        return f"'{text[:40]}' names a structure", f"write {kind[:20]}^{event[:20]}"
    if trigger != ANY and trigger not in events and not trigger.startswith("Z"):
        close = did_you_mean(trigger, _of_type(kind)) or did_you_mean(trigger, events)
        hint = close or "a site's own events begin with Z"
        return f"HL7 has no event '{trigger[:20]}' ({text[:40]})", hint
    return None


def _of_type(kind: str) -> list[str]:
    """The events that have a structure with this type: they are the likelier meant."""
    names = load_library("2.5.1").MESSAGES
    return [name.partition("_")[2] for name in names if name.startswith(f"{kind}_")]


def _known(table: str, versions: Sequence[str]) -> frozenset[str]:
    """The values in the accepted versions and in 2.5.1: senders say less than they send."""
    return frozenset().union(*(_values(table, version) for version in {*versions, "2.5.1"}))


@lru_cache(maxsize=64)
def _values(table: str, version: str) -> frozenset[str]:
    tables = getattr(load_library(version), "TABLES", {})
    return frozenset(tables[table][1]) if table in tables else frozenset()
