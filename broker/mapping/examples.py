"""Examples beside a mapping: message in, expected outcome out; failures keep it from loading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.message import parse
from broker.hl7.refusal import Refusal
from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.document import Complaint, Node
from broker.mapping.judging import judged
from broker.mapping.rendering import FIELD, Outbound
from broker.mapping.rules import (
    Expected,
    InboundExample,
    InboundFile,
    OutboundExample,
)
from broker.mapping.trying import Trial, try_message
from broker.worklist.changes import plain

# A fixed moment and a fixed zone, so that examples hold everywhere and always.
RECEIVED = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
SITE_ZONE = ZoneInfo("Europe/Berlin")
CONTROL_ID = "EXAMPLE1"


def failed_examples(bundle: Bundle) -> list[Complaint]:
    """One complaint for each example that does not come out as its mapping says."""
    return [complaint for loaded in bundle.loaded for complaint in _failed(bundle, loaded)]


def _failed(bundle: Bundle, loaded: Loaded) -> Iterator[Complaint]:
    for number, example in enumerate(loaded.file.examples):
        node = loaded.root.at(["examples", number])
        if isinstance(example, InboundExample) and isinstance(loaded.file, InboundFile):
            yield from _failed_inbound(bundle, loaded, example, node)
        elif isinstance(example, OutboundExample) and isinstance(loaded.mapping, Outbound):
            yield from _failed_outbound(loaded.mapping, example, node)


# inbound


def _failed_inbound(
    bundle: Bundle, loaded: Loaded, example: InboundExample, node: Node
) -> Iterator[Complaint]:
    path = loaded.path.parent / example.message
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        yield node.at(["message"]).complaint(f"'{example.message}' cannot be read: {reason}")
        return
    if b"\r" not in raw:
        raw = raw.replace(b"\n", b"\r")  # editors keep line feeds
    trial = try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)
    if trial.mapping != loaded.file.mapping:
        fact = f"the example is for '{trial.mapping or 'no mapping'}', not for this mapping"
        yield node.at(["message"]).complaint(fact)
        return
    yield from _compared(trial, example, node)


def _compared(trial: Trial, example: InboundExample, node: Node) -> Iterator[Complaint]:
    refused = _shown_refusal(trial.refusal)
    if refused != example.refused:
        place = node.at(["refused"]) if example.refused else node.at(["message"])
        yield place.complaint(
            f"the message is {'refused: ' + refused if refused else 'accepted'}",
            f"expected: {example.refused or 'accepted'}",
        )
        return
    if len(trial.outcomes) != len(example.expect) and not refused:
        fact = f"the message gives {len(trial.outcomes)} changes, expected {len(example.expect)}"
        yield node.complaint(fact)
        return
    for number, (outcome, expected) in enumerate(zip(trial.outcomes, example.expect, strict=False)):
        yield from _compared_change(outcome.change, expected, node.at(["expect", number]))


def _shown_refusal(refusal: Refusal | None) -> str:
    if refusal is None:
        return ""
    parts = (refusal.acknowledgement, refusal.code, str(refusal.location or ""))
    return " ".join(part for part in parts if part)


def _compared_change(change: Any, expected: Expected, node: Node) -> Iterator[Complaint]:
    if change.action is not expected.action:
        yield node.at(["action"]).complaint(
            f"the action is {change.action.value}, expected {expected.action.value}"
        )
    yield from _compared_attributes(change.attributes, expected.attributes, node.at(["attributes"]))


def _compared_attributes(
    attributes: dict[str, Any], expected: dict[str, Any], node: Node
) -> Iterator[Complaint]:
    """Only what is expected is compared; an expected nothing (`~`) means absent or erased."""
    for keyword, wanted in expected.items():
        place = node.at([keyword])
        found = plain(attributes.get(keyword))
        if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
            yield from _compared_items(keyword, found, wanted, place)
        elif _as_text(found) != _as_text(wanted):
            yield place.complaint(
                f"{keyword} is '{_as_text(found)}'", f"expected '{_as_text(wanted)}'"
            )


def _compared_items(keyword: str, found: Any, wanted: list[Any], node: Node) -> Iterator[Complaint]:
    count = len(found) if isinstance(found, list) else 0
    if count != len(wanted):
        yield node.complaint(f"{keyword} has {count} items", f"expected {len(wanted)}")
        return
    for number, (item, expected) in enumerate(zip(found, wanted, strict=True)):
        yield from _compared_attributes(item, expected, node.at([number]))


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "\\".join(str(each) for each in value)
    return "" if value is None else str(value)


# outbound


def _failed_outbound(
    mapping: Outbound, example: OutboundExample, node: Node
) -> Iterator[Complaint]:
    text = mapping.render(example.event, control_id=CONTROL_ID, now=RECEIVED)
    for key, wanted in example.expect.items():
        found = _field(text, key)
        if found is None:
            place = node.at(["expect"])
            yield place.key_complaint(key, f"'{key}' is not a field", "as ORC-5 or ORC-2.1")
        elif found != wanted:
            yield node.at(["expect", key]).complaint(f"{key} is '{found}'", f"expected '{wanted}'")
    for error in judged(text):
        yield node.complaint(f"hl7apy does not accept the message: {error}")


def _field(text: str, key: str) -> str | None:
    match = FIELD.fullmatch(key)
    if match is None:
        return None
    name, *numbers = match.groups()
    field, component, subcomponent = (int(number or 0) for number in numbers)
    segment = parse(text).first(name)
    repetitions = segment.repetitions(field) if segment is not None else []
    return repetitions[0].text(component, subcomponent) if repetitions else ""
