"""The HL7 profile: what each mapping in force accepts, reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from broker.mapping.bundle import Bundle
from broker.mapping.compiling.outbound import Outbound, Place
from broker.mapping.running.applying import Inbound
from broker.mapping.standards.dictionaries import segments_of
from broker.mapping.trials.coverage import leaves
from broker.settings import Ris, Settings
from broker.settings.updates import ANSWERS
from broker.statements.document import Document, Section


def profile(bundle: Bundle, settings: Settings, version: str) -> Document:
    """Give the profile of these mappings and of the RIS that are told."""
    sections = [_overview(bundle, settings)]
    for inbound in bundle.inbound:
        sections += [_accepted(inbound), _actions(inbound), *_read(inbound)]
    sections += [_answers(each) for each in settings.ris]
    used = dict.fromkeys(each.mapping for each in settings.ris)
    sections += [_written(bundle.outbound[name]) for name in used if name in bundle.outbound]
    return Document(f"HL7 Profile: Worklist broker {version}", tuple(sections))


def _overview(bundle: Bundle, settings: Settings) -> Section:
    listeners = ", ".join(f"{each.listen}" for each in settings.hl7.listeners)
    return Section(
        "Overview",
        (
            f"Mappings in force: version {bundle.version[:12]}. MLLP on {listeners}. Encoding ER7, "
            "any separators. Answers are ACK in original or enhanced mode by MSH-15 and MSH-16. "
            "Messages that no mapping accepts are answered AR 200 (type) or AR 201 (event). "
            "Character sets are those of table 0211.",
        ),
        ("RIS", "Address", "Mapping", "After a refusal"),
        tuple((each.name, f"{each.to}", each.mapping, each.on_reject) for each in settings.ris),
    )


def _accepted(inbound: Inbound) -> Section:
    senders = ", ".join("|".join(each) for each in inbound.senders) or "any"
    ports = ", ".join(map(str, sorted(inbound.ports))) or "all"
    told = (
        f"Senders (MSH-3|MSH-4): {senders}. Ports: {ports}. Versions: {_listed(inbound.versions)}."
    )
    rows = tuple(tuple(each) for each in sorted(inbound.messages))
    return Section(f"{inbound.name}: accepted", (told,), ("MSH-9.1", "MSH-9.2"), rows)


def _actions(inbound: Inbound) -> Section:
    rows = tuple(
        (each.action.value, each.note, each.place.rsplit("/", 1)[-1])
        for each in inbound.actions.lines
    )
    return Section(
        f"{inbound.name}: actions",
        ("The first line whose condition holds decides what a group of a message does.",),
        ("Action", "Note", "Line"),
        rows,
    )


def _read(inbound: Inbound) -> Iterator[Section]:
    """Group the triggers that can say the same fields."""
    by_rows: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for kind, trigger in sorted(inbound.messages):
        rows = tuple(_fields(inbound, _segments(kind, trigger, inbound.versions)))
        by_rows.setdefault(rows, []).append(f"{kind}^{trigger}")
    for rows, triggers in by_rows.items():
        heading = f"{inbound.name}: fields read of {', '.join(triggers)}"
        yield Section(heading, (), ("Attribute", "HL7 fields, the first with a value"), rows)


def _fields(inbound: Inbound, segments: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for leaf in leaves(inbound):
        known = [
            each.label
            for each in leaf.places
            if each.segment.startswith("Z") or not segments or each.segment in segments
        ]
        if known:
            yield leaf.name, " ?? ".join(dict.fromkeys(known))


@cache
def _segments(kind: str, trigger: str, versions: Sequence[str]) -> frozenset[str]:
    return frozenset[str]().union(*(segments_of(each, kind, trigger) for each in versions))


def _answers(ris: Ris) -> Section:
    told = (
        "What is sent again is the same, byte for byte. A line may name an error code of ERR-3, "
        "before 2.5 of ERR-1 or MSA-6."
    )
    rows = tuple((answer, verdict.value) for answer, verdict in {**ANSWERS, **ris.answers}.items())
    return Section(f"{ris.name}: what its answers mean", (told,), ("Answer", "Becomes"), rows)


def _written(outbound: Outbound) -> Section:
    rows = tuple(
        (_place(each.place), each.constant or "from the exam and its order")
        for each in outbound.fields
    )
    message = "^".join(outbound.message)
    told = f"{message}, version {outbound.version}; MSH-7, 9, 10, 11 and 12 besides."
    return Section(f"{outbound.name}: fields written", (told,), ("Field", "Value"), rows)


def _place(place: Place) -> str:
    parts = [str(each) for each in (place.component, place.subcomponent) if each]
    return ".".join([f"{place.segment}-{place.field}", *parts])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "all"
