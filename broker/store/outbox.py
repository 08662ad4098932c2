"""What is on its way to RISs and other SCPs: a list for each destination and mailbox, in order."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

from pydantic_core import to_json

from broker.store import keys, sent
from broker.store.call import Call, Word, script, texts
from broker.worklist.records import SCHEMA_VERSION

WAKE_UPS = 1000
DEAD_LETTERS = 100_000
UNTOLD: Final[tuple[Word, ...]] = sent.telling(None, 0)
NOBODY: Final[tuple[Word, ...]] = ("", "", 0, 0)
Kind = Literal["hl7", "mpps"]
UNREADABLE: Final = (KeyError, TypeError, ValueError, zlib.error)
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


@dataclass(frozen=True)
class Taken:
    """The oldest message of a mailbox that is ours for the moment."""

    event: Event
    trouble: Trouble | None


@dataclass(frozen=True)
class Popped:
    """Whether the head was removed: not so when the lease is lost or the head is another.

    `taken` is the oldest message of the mailbox that was to be taken after the last one.
    """

    done: bool
    following: Event | None
    taken: Taken | None = None


def adding(event: Event) -> Iterator[tuple[Word, ...]]:
    """Give the commands that append an event, mark the pair dirty and push a wake-up."""
    yield ("RPUSH", keys.outbox(event.ris, event.order), dumped(event))
    yield ("ZADD", keys.dirty(event.ris), "NX", int(event.created * 1000), event.order)
    yield ("RPUSH", keys.WAKE, event.ris)
    yield ("LTRIM", keys.WAKE, -WAKE_UPS, -1)


def wakeups(timeout_s: float) -> Call[list[str]]:
    """Wait for a wake-up and give the names of the destinations that have something, else [].

    The wait must stay below the executor's socket time-out.
    """
    return Call(("BLPOP", keys.WAKE, timeout_s), lambda reply: texts(reply[1:]) if reply else [])


def dirty(ris: str, *, now_ms: int, limit: int) -> Call[list[str]]:
    """Give the mailboxes that are due and free: a few of the newest, then those waiting longest."""
    return Call((ris, now_ms, limit), texts, script("dirty"))


def sooner(ris: str, *, now_ms: int, longest_ms: int, lease_ms: int) -> Call[int]:
    """Let mailboxes be due, and free, that a clock has put off which was ahead; counts them.

    Their next try is further away than the longest pause, or their lease lasts longer than any.
    """
    return Call((ris, now_ms, longest_ms, lease_ms), int, script("sooner"))


def take(
    ris: str, order: str, token: str, *, ttl_ms: int, now_ms: int | None = None
) -> Call[Taken | None]:
    """Take a mailbox for one worker, for so long, and give its oldest message.

    What it was made from does not come with it. None when another worker has it, it is not due, or
    nothing is left to send; then there is nothing to release. Raises UNREADABLE: `bury` it.
    """
    words = ("take", ris, order, token, ttl_ms, "" if now_ms is None else now_ms)
    return Call(words, _taken, script("deliver"))


def renew(ris: str, order: str, token: str, *, ttl_ms: int) -> Call[bool]:
    """Keep the mailbox for so long from now; False when the lease is lost."""
    return Call(("renew", ris, order, token, ttl_ms), bool, script("deliver"))


def note(ris: str, order: str, token: str, trouble: Trouble) -> Call[bool]:
    """Keep what a worker that dies now must not forget; False when the lease is lost."""
    return Call(("note", ris, order, token, json.dumps(asdict(trouble))), bool, script("deliver"))


def pop(
    ris: str,
    order: str,
    token: str,
    control_id: str,
    told: tuple[Word, ...] = UNTOLD,
    then: tuple[Word, ...] = NOBODY,
) -> Call[Popped]:
    """Remove the head that was delivered, and give the next; after the last the order is free.

    What is `told` of it (store.sent) stays for a while. After the last one the mailbox `then` is
    taken, as `take` does: order, token, ttl_ms, now_ms.
    """
    words = ("pop", ris, order, token, control_id, *told, *then)
    return Call(words, _popped, script("deliver"))


def park(
    ris: str,
    order: str,
    token: str,
    event: Event,
    *,
    cause: str,
    at: float,
    words: str = "",
    told: tuple[Word, ...] = UNTOLD,
) -> Call[Popped]:
    """Move the refused head to the dead letters, where people see it; else as `pop`.

    `words` are those of the destination.
    """
    said = json.dumps(refusal(event, cause=cause, words=words, at=at))
    letter = (event.control_id, *told, said, event.created, int(at * 1000), DEAD_LETTERS)
    return Call(("park", ris, order, token, *letter), _popped, script("deliver"))


def hold(
    ris: str,
    order: str,
    token: str,
    event: Event,
    *,
    cause: str,
    at: float,
    words: str = "",
    told: tuple[Word, ...] = UNTOLD,
) -> Call[bool]:
    """Move the refused head to the dead letters, and let nothing after it go: a person decides."""
    said = json.dumps(refusal(event, cause=cause, words=words, at=at, holds=True))
    letter = (event.control_id, *told, said, event.created)
    return Call(("hold", ris, order, token, *letter), bool, script("deliver"))


def bury(ris: str, order: str, token: str) -> Call[bool]:
    """Put the head, which cannot be read, among the dead letters, and give the mailbox back."""
    return Call(("bury", ris, order, token), bool, script("deliver"))


def release(ris: str, order: str, token: str) -> Call[bool]:
    """Give the order back; it stays dirty while it has events."""
    return Call(("release", ris, order, token), bool, script("deliver"))


def postpone(ris: str, order: str, token: str, *, until_ms: int, trouble: Trouble) -> Call[bool]:
    """Give the order back, not to be tried before `until_ms` (epoch)."""
    words = ("postpone", ris, order, token, until_ms, json.dumps(asdict(trouble)))
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


def _taken(reply: Any) -> Taken | None:
    if not reply:
        return None
    head, trouble = reply
    event = loaded(head)
    told = trouble_of(trouble)
    return Taken(event, told if told and told.control_id == event.control_id else None)


def trouble_of(raw: bytes) -> Trouble | None:
    """Read what went wrong with a mailbox, None where nothing did."""
    return Trouble(**json.loads(raw)) if raw else None


def _popped(reply: Any) -> Popped:
    head, taken = (*(reply or ()), None, None)[:2]
    try:
        return Popped(bool(reply), loaded(head) if head else None, _taken(taken))
    except UNREADABLE:
        return Popped(True, None)  # whoever takes the mailbox next buries it


def _loads(reply: list[bytes]) -> list[Event]:
    found = []
    for raw in reply:
        try:
            found.append(loaded(raw))
        except UNREADABLE:
            continue  # whoever sends next puts it among the dead letters
    return found
