"""Examples beside a mapping: message in, expected outcome out; failures keep it from loading."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.message import parse
from broker.hl7.refusal import Refusal
from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.compiling.outbound import FIELD, Outbound
from broker.mapping.files.rules import (
    Expected,
    InboundExample,
    InboundFile,
    OutboundExample,
)
from broker.mapping.standards.judging import judged
from broker.mapping.text.document import MAX_BYTES, perhaps_meant, read_bytes, why
from broker.mapping.text.nodes import Complaint, Node
from broker.mapping.trials.trying import Trial, try_message, unranked

# A fixed moment and a fixed zone, so that examples hold everywhere and always.
RECEIVED = datetime(2026, 3, 16, 12, 0, tzinfo=UTC)
SITE_ZONE = ZoneInfo("Europe/Berlin")
CONTROL_ID = "EXAMPLE1"


@dataclass(frozen=True)
class Difference:
    """One thing that came out otherwise; `node` is where the example says what it expects.

    `found` and `expected` are plain values. `whole` is a difference of the kind of outcome, which
    no single value can mend; without `mendable` not even a new expectation can.
    """

    what: str
    found: Any
    expected: Any
    node: Node
    complaint: Complaint
    whole: bool = False
    mendable: bool = True


@dataclass(frozen=True)
class Result:
    """One example with all that came out otherwise; `trial` is of one with a message."""

    mapping: str
    title: str
    node: Node
    differences: tuple[Difference, ...]
    trial: Trial | None = None

    @property
    def passed(self) -> bool:
        return not self.differences


def failed_examples(bundle: Bundle) -> list[Complaint]:
    """One complaint for each thing that does not come out as an example says."""
    return [difference.complaint for result in results(bundle) for difference in result.differences]


def results(bundle: Bundle) -> Iterator[Result]:
    """Run the examples of every mapping, in their order."""
    for loaded in bundle.loaded:
        for number, example in enumerate(loaded.file.examples):
            node = loaded.root.at(["examples", number])
            if isinstance(example, InboundExample) and isinstance(loaded.file, InboundFile):
                yield _inbound(bundle, loaded, loaded.file, example, node)
            elif isinstance(example, OutboundExample) and isinstance(loaded.mapping, Outbound):
                differences = tuple(_outbound(loaded.mapping, example, node))
                title = f"event {number + 1}"
                yield Result(loaded.file.mapping, title, node, differences)


# inbound


def _inbound(
    bundle: Bundle, loaded: Loaded, file: InboundFile, example: InboundExample, node: Node
) -> Result:
    name, place = file.mapping, node.at(["message"])
    try:
        raw = _message(loaded.path.parent, example.message)
    except OSError as error:
        reason = why(error)
        hint = perhaps_meant(loaded.path.parent, example.message)
        complaint = place.complaint(f"'{example.message}' cannot be read: {reason}", hint)
        wrong = Difference("message", reason, example.message, place, complaint, mendable=False)
        return Result(name, example.message, node, (wrong,))
    if b"\r" not in raw:
        raw = raw.replace(b"\n", b"\r")  # editors keep line feeds
    port = int(min(file.accept.ports, key=int, default="0"))  # comes to a port of the mapping
    trial = try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE, port=port)
    if trial.mapping != name:
        fact = f"the example is for '{trial.mapping or 'no mapping'}', not for this mapping"
        complaint = place.complaint(fact)
        wrong = Difference("mapping", trial.mapping, name, place, complaint, mendable=False)
        return Result(name, example.message, node, (wrong,), trial)
    return Result(name, example.message, node, tuple(_compared(trial, example, node)), trial)


def _message(folder: Path, name: str) -> bytes:
    """The message of an example, which lies below the folder of its mapping. Raises OSError."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(errno.EACCES, "lies outside the folder of the mapping")
    raw = read_bytes(path)
    if len(raw) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"is longer than {MAX_BYTES:,} bytes")
    return raw


def _compared(trial: Trial, example: InboundExample, node: Node) -> Iterator[Difference]:
    refused = shown_refusal(trial.refusal)
    if refused != example.refused:
        place = node.at(["refused"]) if example.refused else node.at(["message"])
        complaint = place.complaint(
            f"the message is {'refused: ' + refused if refused else 'accepted'}",
            f"expected: {example.refused or 'accepted'}",
        )
        yield Difference("refused", refused, example.refused, place, complaint, whole=True)
        return
    if refused:
        return
    found, expected = len(trial.outcomes), len(example.expect)
    if found != expected:
        complaint = node.complaint(f"the message gives {found} changes, expected {expected}")
        yield Difference("changes", found, expected, node, complaint, whole=True)
        return
    for number, (outcome, wanted) in enumerate(zip(trial.outcomes, example.expect, strict=True)):
        yield from _compared_change(outcome.change, wanted, node.at(["expect", number]))


def lost(result: Result) -> list[str]:
    """The attributes that an example expects and that come out without a value.

    Where the message is refused now, nothing comes out at all, and nothing is listed.
    """
    if not any(each.whole for each in result.differences):
        gone = (each for each in result.differences if each.mendable and each.expected)
        return [each.what for each in gone if each.found in (None, "", [])]
    if result.trial is None or result.trial.refusal or "expect" not in result.node.entries:
        return []
    found = [unranked(outcome.change.attributes) for outcome in result.trial.outcomes]
    wanted = [each.at(["attributes"]).entries for each in result.node.at(["expect"]).items]
    pairs = zip(wanted, [*found, *({} for _ in wanted)], strict=False)
    return [
        keyword
        for expected, attributes in pairs
        for keyword, node in expected.items()
        if node.value is not None and not attributes.get(keyword)
    ]


def shown_refusal(refusal: Refusal | None) -> str:
    """A refusal as examples name it: `AE 103 OBR^1^24`."""
    if refusal is None:
        return ""
    parts = (refusal.acknowledgement, refusal.code, str(refusal.location or ""))
    return " ".join(part for part in parts if part)


def _compared_change(change: Any, expected: Expected, node: Node) -> Iterator[Difference]:
    if change.action is not expected.action:
        place, found, wanted = node.at(["action"]), change.action.value, expected.action.value
        complaint = place.complaint(f"the action is {found}, expected {wanted}")
        yield Difference("action", found, wanted, place, complaint)
    yield from _compared_attributes(
        change.attributes, expected.attributes, node.at(["attributes"]), ""
    )


def _compared_attributes(
    attributes: dict[str, Any], expected: dict[str, Any], node: Node, above: str
) -> Iterator[Difference]:
    """Only what is expected is compared; an expected nothing (`~`) means absent or erased."""
    for keyword, wanted in expected.items():
        place = node.at([keyword])
        found = unranked(attributes.get(keyword))
        if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
            yield from _compared_items(f"{above}{keyword}", found, wanted, place)
        elif as_text(found) != as_text(wanted):
            complaint = place.complaint(
                f"{keyword} is '{as_text(found)}'", f"expected '{as_text(wanted)}'"
            )
            yield Difference(f"{above}{keyword}", found, wanted, place, complaint)


def _compared_items(
    keyword: str, found: Any, wanted: list[Any], node: Node
) -> Iterator[Difference]:
    count = len(found) if isinstance(found, list) else 0
    if count != len(wanted):
        complaint = node.complaint(f"{keyword} has {count} items", f"expected {len(wanted)}")
        yield Difference(keyword, found, wanted, node, complaint)
        return
    for number, (item, expected) in enumerate(zip(found, wanted, strict=True)):
        above = f"{keyword}[{number + 1}]/"
        yield from _compared_attributes(item, expected, node.at([number]), above)


def as_text(value: Any) -> str:
    """A plain value as examples compare it: several texts joined, nothing is ''."""
    if isinstance(value, list):
        return "\\".join(str(each) for each in value)
    return "" if value is None else str(value)


# outbound


def _outbound(mapping: Outbound, example: OutboundExample, node: Node) -> Iterator[Difference]:
    text = mapping.render(example.event, control_id=CONTROL_ID, now=RECEIVED)
    for key, wanted in example.expect.items():
        place = node.at(["expect"])
        found = field_of(text, key)
        if found is None:
            complaint = place.key_complaint(key, f"'{key}' is not a field", "as ORC-5 or ORC-2.1")
            yield Difference(key, None, wanted, place, complaint, mendable=False)
        elif found != wanted:
            place = place.at([key])
            complaint = place.complaint(f"{key} is '{found}'", f"expected '{wanted}'")
            yield Difference(key, found, wanted, place, complaint)
    for error in judged(text):
        complaint = node.complaint(f"hl7apy does not accept the message: {error}")
        yield Difference("message", error, "valid", node, complaint, mendable=False)


def field_of(text: str, key: str) -> str | None:
    """The value of a field of a message, named as outbound mappings do; None for no such name."""
    match = FIELD.fullmatch(key)
    if match is None:
        return None
    name, *numbers = match.groups()
    field, component, subcomponent = (int(number or 0) for number in numbers)
    named = parse(text).all(name[:3])[int(name[4:-1] or 1) - 1 :]
    segment = named[0] if named else None
    repetitions = segment.repetitions(field) if segment is not None else []
    return repetitions[0].text(component, subcomponent) if repetitions else ""
