"""What a sender said of an order before it came: it ends, or waits, when it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from broker.worklist.applied import Applied, Sender
from broker.worklist.attributes import STEPS, steps_of
from broker.worklist.changes import (
    FILLS_GAPS,
    Action,
    Attributes,
    Change,
    Ranked,
    plain,
    text_of,
)
from broker.worklist.finding import APPOINTMENTS, Known, identifiers, named_in, tombstones
from broker.worklist.identity import patient_key
from broker.worklist.records import Order
from broker.worklist.scheduling import SLOT
from broker.worklist.staleness import is_stale

SLOT_OF = "\n\n"
"""Behind the name of a sender: the slot that it has booked for an order that nobody knew."""
ENDS = ""
"""What was said of an order: its end, else the action hold or release."""


def remember(change: Change, known: Known, sender: Sender) -> Applied:
    """Remember what was said of an order that nobody knows yet, by the narrowest of its names."""
    waits = change.action in (Action.HOLD, Action.RELEASE, Action.MOVE, Action.UPDATE)
    said = change.action.value if waits else ENDS
    names = tombstones(change.attributes, sender.issuer)[:1]
    told = {name: _with(known.tombstones.get(name, {}), sender, said) for name in names}
    if change.action in (Action.MOVE, Action.UPDATE):
        told = {name: _booked(change, known, sender, name, told[name]) for name in names}
    return Applied(
        known, ("unknown order",), buried={n: words for n, words in told.items() if words}
    )


def _booked(
    change: Change, known: Known, sender: Sender, name: str, words: dict[str, str]
) -> dict[str, str]:
    """Give the words about an order with its slot, unless this sender has said something newer."""
    if is_stale(sender.sent, known.tombstones.get(name, {}).get(sender.name, "")):
        return {**known.tombstones[name]}
    slot = {"sender": sender.name, "attributes": _slot(change.attributes)}
    return {**words, _slot_of(sender): json.dumps(slot)}


def can_wait(change: Change, sender: Sender) -> bool:
    """Tell whether a message is about an appointment of an order that is known by its number."""
    booked = any(text_of(change.attributes, keyword).strip() for keyword in APPOINTMENTS)
    numbers = {each.kind for each in named_in(change.attributes, sender.issuer)}
    return booked and not {"filler", "placer"}.isdisjoint(numbers)


def early_slots(change: Change, known: Known, sender: Sender) -> Iterator[Attributes]:
    """Give the slots that were booked for a new order before it came, unless it was sent later.

    Whoever books may be another system: its clock is believed as the sender's own.
    """
    patient = patient_key(change.attributes, sender.issuer)
    for name in tombstones(change.attributes, sender.issuer):
        words = known.tombstones.get(name, {})
        for slot in (text for who, text in words.items() if who.endswith(SLOT_OF)):
            said = json.loads(slot)
            booked = words.get(said["sender"], "")
            same = patient_key(said["attributes"], sender.issuer) in (None, patient)
            if same and not is_stale(booked, sender.sent):
                yield {**change.attributes, **said["attributes"]}


def foretold(change: Change, known: Known, sender: Sender, order: Order | None) -> str | None:
    """Give what this sender said of an order before it came: an end before a hold; None: neither.

    What was said before wins a tie. Over an `order` that has this name already only what is newer
    counts: what is said of it since finds it.
    """
    if sender.force or not known.tombstones:
        return None
    words = set(_words(change, known, sender, order))
    return next((said for said in (ENDS, Action.HOLD.value) if said in words), None)


def _words(change: Change, known: Known, sender: Sender, order: Order | None) -> Iterator[str]:
    had = _names(order) if order and order.sent else frozenset()
    for name in tombstones(change.attributes, sender.issuer):
        words = known.tombstones.get(name, {})
        last = words.get(sender.name, "")
        newer = is_stale(sender.sent, last)
        tie = name not in had and not is_stale(last, sender.sent)
        if sender.is_outlived(words) or (last and (newer or tie)):
            yield words.get(_what(sender), ENDS)


def _names(order: Order) -> frozenset[str]:
    numbers = (f"{kind}:{value}" for kind, value in identifiers(order))
    return frozenset((f"order:{order.key}", *numbers))


def _with(words: Mapping[str, str], sender: Sender, said: str) -> dict[str, str]:
    """Give the words about an order with one more: an end stays one, else the newest counts."""
    last, before = words.get(sender.name, ""), words.get(_what(sender), ENDS)
    if last and said != ENDS and (before == ENDS or is_stale(sender.sent, last)):
        return dict(words)
    gone = {_what(sender), _slot_of(sender)}
    times = {who: time for who, time in words.items() if who not in gone}
    return {**sender.stamped(times), **({_what(sender): said} if said != ENDS else {})}


def _slot_of(sender: Sender) -> str:
    return f"{sender.name}{SLOT_OF}"


def _slot(attributes: Attributes) -> Attributes:
    """Give what an appointment says of it: when, where, whose, by which numbers of its own."""
    steps = [
        {k: plain(v) for k, v in item.items() if k in SLOT and _is_said(v)}
        for item in steps_of(attributes)
    ]
    whose = ("PatientID", "IssuerOfPatientID", *APPOINTMENTS)
    return {**{k: plain(attributes[k]) for k in whose if k in attributes}, STEPS: steps[:1]}


def _is_said(leaf: object) -> bool:
    return not (isinstance(leaf, Ranked) and leaf.rank >= FILLS_GAPS)


def _what(sender: Sender) -> str:
    """Name what a sender said, beside its name, which says when; no name has two lines."""
    return f"{sender.name}\n"
