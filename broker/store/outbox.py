"""What is on its way to RISs and other SCPs: a list for each destination and mailbox, in order."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from pydantic_core import to_json

from broker.store import keys, sent
from broker.store.call import Call, Word, script, texts
from broker.worklist.records import SCHEMA_VERSION

WAKE_UPS = 1000
DEAD_LETTERS = 100_000
Kind = Literal["hl7", "mpps"]
UNREADABLE: Final = (AttributeError, KeyError, TypeError, ValueError, zlib.error)
"""What reading a damaged event raises."""


@dataclass(frozen=True)
class Event:
    """One message to a destination, rendered once with its final MSH-10.

    `ris` is the destination, `order` the mailbox: what goes in order. Of a forwarded MPPS that is
    its SOP Instance UID, `payload` its data set. `created` is in epoch seconds, `mapping` as
    name@version. `facts` are what it was made from, so that it can be made anew.
    """

    ris: str
    order: str
    control_id: str
    created: float
    mapping: str
    note: str
    payload: bytes = field(repr=False)
    kind: Kind = "hl7"
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Trouble:
    """What went wrong with the head of a mailbox so far.

    `doubt` says that it was sent at least once and that nobody knows what became of it; `since` is
    in epoch seconds.
    """

    control_id: str
    attempts: int = 0
    cause: str = ""
    since: float = 0.0
    doubt: bool = False


class Delivered(NamedTuple):
    """A message that a destination has taken for good, and what is told of that."""

    box: str
    control_id: str
    told: sent.Sent | None = None


class Taken(NamedTuple):
    """The oldest message of a mailbox that is ours for the moment; None where nobody can read it.

    What it was made from does not come with it. An unreadable one must be buried.
    """

    box: str
    event: Event | None
    trouble: Trouble | None = None


class Settled(NamedTuple):
    """The mailboxes that are ours now with the message that goes next, and those that are lost.

    Of a `lost` one nothing was removed: another worker has it, or its head is another.
    """

    ours: Sequence[Taken]
    lost: Sequence[str] = ()


def adding(event: Event) -> Iterator[tuple[Word, ...]]:
    """Give the commands that append an event and mark the pair dirty."""
    yield ("RPUSH", keys.outbox(event.ris, event.order), dumped(event))
    yield ("ZADD", keys.dirty(event.ris), "NX", int(event.created * 1000), event.order)


def waking(events: Sequence[Event]) -> Iterator[tuple[Word, ...]]:
    """Give the commands that push a wake-up for each destination of these events."""
    if events:
        yield ("RPUSH", keys.WAKE, *dict.fromkeys(event.ris for event in events))
        yield ("LTRIM", keys.WAKE, -WAKE_UPS, -1)


def wakeup(timeout_s: float) -> Call[list[str]]:
    """Wait for a wake-up and give the name of the destination that has something, else [].

    The wait must stay below the executor's socket time-out.
    """
    return Call(("BLPOP", keys.WAKE, timeout_s), lambda reply: texts(reply[1:]) if reply else [])


def wakeups() -> Call[list[str]]:
    """Give all further wake-ups that are there."""
    return Call(("LPOP", keys.WAKE, WAKE_UPS), texts)


def dirty(ris: str, *, now_ms: int, limit: int) -> Call[list[str]]:
    """Give the mailboxes that are due and free: a few of the newest, then those waiting longest."""
    return Call((ris, now_ms, limit), texts, script("dirty"))


def sooner(ris: str, *, now_ms: int, longest_ms: int, lease_ms: int) -> Call[int]:
    """Let mailboxes be due, and free, that a clock has put off which was ahead; counts them.

    Their next try is further away than the longest pause, or their lease lasts longer than any.
    """
    return Call((ris, now_ms, longest_ms, lease_ms), int, script("sooner"))


def settle(
    ris: str,
    token: str,
    delivered: Sequence[Delivered],
    boxes: Sequence[str] = (),
    *,
    ttl_ms: int,
    now_ms: int | None = None,
    keep_s: float = 0,
) -> Call[Settled]:
    """Remove the heads that were delivered, and take further mailboxes for so long.

    Gives the next message of each, the oldest; after the last one a mailbox is free. One that
    another worker has, that is not due, or that has nothing to send is not taken. What is told of
    a delivery (store.sent) stays for `keep_s`.
    """
    words: list[Word] = ["settle", ris, token, int(keep_s), ttl_ms]
    words += ["" if now_ms is None else now_ms, len(delivered)]
    for each in delivered:
        words += [each.box, each.control_id, sent.written(each.told)]
    return Call((*words, *boxes), partial(_settled, delivered, boxes), script("deliver"))


def renew(ris: str, box: str, token: str, *, ttl_ms: int) -> Call[bool]:
    """Keep the mailbox for so long from now; False when the lease is lost."""
    return Call(("renew", ris, token, box, ttl_ms), bool, script("deliver"))


def note(ris: str, box: str, token: str, trouble: Trouble) -> Call[bool]:
    """Keep what a worker that dies now must not forget; False when the lease is lost."""
    return Call(("note", ris, token, box, json.dumps(asdict(trouble))), bool, script("deliver"))


def refuse(
    event: Event,
    token: str,
    *,
    cause: str,
    at: float,
    words: str = "",
    told: sent.Sent | None = None,
    keep_s: float = 0,
    holds: bool = False,
) -> Call[Settled]:
    """Move the refused head to the dead letters, where people see it; else as `settle`.

    Where it `holds` its mailbox nothing after it goes: a person decides. `words` are those of the
    destination.
    """
    said = json.dumps(refusal(event, cause=cause, words=words, at=at, holds=holds))
    by_time = ("", 0) if holds else (int(at * 1000), DEAD_LETTERS)
    letter = (event.control_id, sent.written(told), int(keep_s), said, event.created, *by_time)
    return _following("refuse", event.ris, token, event.order, *letter)


def bury(ris: str, box: str, token: str) -> Call[Settled]:
    """Put the head, which cannot be read, among the dead letters; else as `settle`."""
    return _following("bury", ris, token, box)


def release(ris: str, box: str, token: str) -> Call[bool]:
    """Give the mailbox back; it stays dirty while it has events."""
    return Call(("release", ris, token, box), bool, script("deliver"))


def postpone(ris: str, box: str, token: str, *, until_ms: int, trouble: Trouble) -> Call[bool]:
    """Give the mailbox back, not to be tried before `until_ms` (epoch)."""
    words = ("postpone", ris, token, box, until_ms, json.dumps(asdict(trouble)))
    return Call(words, bool, script("deliver"))


def pending(ris: str) -> Call[int]:
    """Count the mailboxes with something to send to a destination."""
    return Call(("ZCARD", keys.dirty(ris)), int)


def events(ris: str, order: str) -> Call[list[Event]]:
    """Give everything that waits for one destination in one mailbox, as far as it can be read."""
    return Call(("LRANGE", keys.outbox(ris, order), 0, -1), _loads)


def plain(event: Event) -> dict[str, Any]:
    """Give an event as plain values; `of_plain` reads them."""
    return {**{name: getattr(event, name) for name in _FIELDS}, "payload": _written(event)}


def of_plain(facts: Mapping[str, Any]) -> Event:
    """Read plain values; what a later version has added is left out.

    Raises UNREADABLE.
    """
    known = {each: facts[each] for each in _FIELDS if each in facts}
    packed = facts.get("kind") == "mpps"
    text = facts["payload"]
    payload = zlib.decompress(base64.b64decode(text)) if packed else text.encode("latin-1")
    if not (isinstance(known["control_id"], str) and isinstance(known["created"], int | float)):
        raise TypeError("no event")
    return Event(**{**known, "payload": payload})


def dumped(event: Event) -> bytes:
    """Write an event as it lies in its list.

    What an HL7 message was made from is a line of its own: whoever sends it need not read that.
    """
    facts = plain(event)
    if event.kind == "mpps":
        return to_json(facts)
    made_from = facts.pop("facts")
    return to_json(facts) + b"\n" + to_json(made_from)


def loaded(raw: bytes) -> Event:
    """Read an event of a list, or its first line. Raises UNREADABLE."""
    first, _, made_from = raw.partition(b"\n")
    facts = json.loads(first)
    return of_plain({**facts, "facts": json.loads(made_from)} if made_from else facts)


_FIELDS: Final = tuple(each.name for each in fields(Event))


def _written(event: Event) -> str:
    if event.kind == "mpps":
        return base64.b64encode(zlib.compress(event.payload)).decode()
    return event.payload.decode("latin-1")


def refusal(
    event: Event, *, cause: str, words: str, at: float, holds: bool = False
) -> dict[str, Any]:
    """Give what is kept of a refusal before the message itself."""
    named = {"control_id": event.control_id, "ris": event.ris, "order": event.order}
    said = {"cause": cause, "words": words, "parked": at, "holds": holds}
    return {**named, "created": event.created, **said}


def _settled(delivered: Sequence[Delivered], boxes: Sequence[str], reply: Any) -> Settled:
    ours, lost = [], []
    for each, following in zip(delivered, reply[0], strict=True):
        if not following:
            lost.append(each.box)
        elif following[0]:
            ours.append(_taken(each.box, following[0]))
    taken = zip(boxes, reply[1], strict=True)
    return Settled([*ours, *(_taken(box, *words) for box, words in taken if words)], lost)


def _following(verb: str, ris: str, token: str, box: str, *words: Word) -> Call[Settled]:
    """Ask for what may leave a next message of its mailbox."""

    def read(reply: Any) -> Settled:
        if not reply:
            return Settled([], [box])
        return Settled([_taken(box, reply[0])] if reply[0] else [])

    return Call((verb, ris, token, box, *words), read, script("deliver"))


def _taken(box: str, head: bytes, trouble: bytes = b"") -> Taken:
    try:
        event, told = loaded(head), trouble_of(trouble)
    except UNREADABLE:
        return Taken(box, None)
    return Taken(box, event, told if told and told.control_id == event.control_id else None)


def trouble_of(raw: bytes) -> Trouble | None:
    """Read what went wrong with a mailbox, None where nothing did."""
    return Trouble(**json.loads(raw)) if raw else None


def _loads(reply: list[bytes]) -> list[Event]:
    found = []
    for raw in reply:
        try:
            found.append(loaded(raw))
        except UNREADABLE:
            continue  # whoever sends next puts it among the dead letters
    return found
