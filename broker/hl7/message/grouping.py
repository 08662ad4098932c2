"""Which orders, or which patients, a message holds, and which segments belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.hl7.message.segments import NULL, Group, Message, Named, Segment
from broker.hl7.refusal import Location, Refusal, too_many

ORDER_LIMIT: Final = 500  # of one message, or patients: others wait while it is worked on
SHARED_LIMIT: Final = 20_000  # orders times the segments that all of them share
ORDER_NUMBERS: Final = (2, 3)
"""Of ORC and of OBR alike: placer and filler order number."""


def groups(message: Message) -> list[Group]:
    """Return the orders of a message: each ORC up to the next.

    A further OBR under one ORC is an order of its own that shares that ORC; without any ORC each
    OBR starts an order. Z segments at the very end belong to all orders that lack that name.
    Raises Refusal AE 100 for a second patient or more than 500 orders, AE 102 or 205 for IPC that
    do not fit together.
    """
    _refuse_second_patient(message)
    named = message.named
    if _several(named, "ORC") or _several(named, "OBR") or _several(named, "IPC"):
        return _parted(message)
    alone = "ORC" in named or "OBR" in named  # nearly every message has one order
    return [Group(1, message.segments, named)] if alone else []


def by_patient(message: Message) -> list[Group]:
    """Return the patients of a message: the segments before the first PID, then each PID's own.

    A40 repeats PID and MRG; what stands behind the pair (PV1) is of that patient. Raises Refusal AE
    100 for more than 500 patients.
    """
    header: list[Segment] = []
    patients: list[list[Segment]] = []
    for segment in message.segments:
        if segment.name == "PID":
            patients.append([])
        (patients[-1] if patients else header).append(segment)
    _refuse_too_many("patients", "PID", header, len(patients))
    return [Group(index, [*header, *own]) for index, own in enumerate(patients, 1)]


def _several(named: Named, name: str) -> bool:
    return len(named.get(name, ())) > 1


def _parted(message: Message) -> list[Group]:
    header, orders = _orders(message.segments)
    _refuse_too_many("orders", "ORC" if "ORC" in message.named else "OBR", header, len(orders))
    for own in orders:
        _refuse_discord([segment for segment in own if segment.name == "IPC"])
    closing = _closing(message.segments) if len(orders) > 1 else []
    return [
        Group(index, [*header, *own, *_inherited(own, closing)])
        for index, own in enumerate(orders, 1)
    ]


def _orders(segments: Sequence[Segment]) -> tuple[list[Segment], list[list[Segment]]]:
    starter = "ORC" if any(segment.name == "ORC" for segment in segments) else "OBR"
    header: list[Segment] = []
    orders: list[list[Segment]] = []
    for segment in segments:
        if segment.name == starter:
            orders.append([segment])
        elif not orders:
            header.append(segment)
        elif segment.name == "OBR" and any(own.name == "OBR" for own in orders[-1]):
            orders.append([*_shared(orders[-1], segment), segment])
        else:
            orders[-1].append(segment)
    return header, orders


def _shared(order: Sequence[Segment], request: Segment) -> list[Segment]:
    """What stands before the OBR of an order, as the ORC of one more OBR."""
    names = [segment.name for segment in order]
    shared = order[: names.index("OBR")]
    return [_numbered(each, request) if each.name == "ORC" else each for each in shared]


def _numbered(control: Segment, request: Segment) -> Segment:
    """The ORC of an OBR that has order numbers of its own (OBR-2, OBR-3) with those."""
    said = {n: request.field(n) for n in ORDER_NUMBERS if request.field(n) not in ("", NULL)}
    if all(control.field(n) == number for n, number in said.items()):
        return control
    fields = [*control.fields(), *[""] * len(ORDER_NUMBERS)]
    for n, number in said.items():
        fields[n] = number
    return control.with_fields(fields)


def _closing(segments: Sequence[Segment]) -> list[Segment]:
    closing: list[Segment] = []
    for segment in reversed(segments):
        if not segment.name.startswith("Z"):
            break
        closing.insert(0, segment)
    return closing


def _inherited(own: Sequence[Segment], closing: Sequence[Segment]) -> list[Segment]:
    names = {segment.name for segment in own}
    return [segment for segment in closing if segment.name not in names]


def _refuse_too_many(what: str, starter: str, shared: Sequence[Segment], count: int) -> None:
    if count > ORDER_LIMIT:
        raise too_many(what, ORDER_LIMIT, Location(starter, ORDER_LIMIT + 1))
    if count * len(shared) > SHARED_LIMIT:
        most = SHARED_LIMIT // count
        raise too_many(f"segments before {count} {what}", most, Location(starter))


def _refuse_second_patient(message: Message) -> None:
    # an order message has one patient group; the second one's orders would go to the first one
    patients = message.all("PID")
    if len(patients) < 2:
        return
    patients = [pid for pid in patients if pid.field(3)]
    for other in patients[1:]:
        if other.field(3) != patients[0].field(3):
            raise Refusal(
                "a second patient in one order message",
                code="100",
                location=Location("PID", other.sequence, 3),
                remedy="send one message for each patient",
            )


def _refuse_discord(steps: Sequence[Segment]) -> None:
    # the IPC of one order are steps of one requested procedure and study (IHE RAD-4)
    for step in steps[1:]:
        for number in (1, 2, 3):
            if _identifier(step, number) != _identifier(steps[0], number):
                raise Refusal(
                    "the IPC segments of one order name different procedures",
                    code="102",
                    location=Location("IPC", step.sequence, number),
                    remedy="send an ORC and OBR for each requested procedure",
                )
    given: set[str] = set()
    for step in steps:
        step_id = _identifier(step, 4)
        if step_id in given:
            raise Refusal(
                "two steps have one scheduled procedure step ID",
                code="205",
                acknowledgement="AE",
                location=Location("IPC", step.sequence, 4),
                remedy="send an ID of its own for each step",
            )
        if step_id:
            given.add(step_id)


def _identifier(segment: Segment, number: int) -> str:
    return next((each.text(1).strip() for each in segment.repetitions(number)), "")
