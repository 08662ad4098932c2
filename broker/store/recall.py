"""Looking back into the archive: one message by its ID, or those that are meant, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from broker.store import archive, keys
from broker.store.archive import Archived
from broker.store.call import Call, entries, script, text
from broker.store.executors import Store

PAGE = 200
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: read out over a telephone
_STORED = re.compile(r"(\d+)-(\d+)")
_TYPED = re.compile(rf"([{_DIGITS}]{{1,12}})(?:\.(\d{{1,9}}))?")
_MSA = re.compile(rb"[\r\n]MSA.([A-Z]{2})")


@dataclass(frozen=True)
class Entry:
    """A message with its place in the archive; `message` is None where it cannot be read.

    `stream_id` is Redis's, `stored_ms` (epoch) when it was committed, by Redis's clock.
    """

    stream_id: str
    message: Archived | None

    @property
    def id(self) -> str:
        """The ID as people type it: the milliseconds in base 32, then a number if they share it."""
        milliseconds, number = self.stream_id.split("-")
        return _base32(int(milliseconds)) + (f".{number}" if number != "0" else "")

    @property
    def stored_ms(self) -> int:
        return int(self.stream_id.split("-")[0])

    @property
    def acks(self) -> tuple[str, ...]:
        """MSA-1 of each answer, in order; () when nothing was answered."""
        answers = self.message.answers if self.message else ()
        return tuple(found[1].decode() for answer in answers if (found := _MSA.search(answer)))

    @property
    def accessions(self) -> tuple[str, ...]:
        """The accession numbers of the orders that it changed."""
        orders = self.message.orders if self.message else ()
        return tuple(dict.fromkeys(key.rpartition("|")[2] for key in orders))

    @property
    def took_ms(self) -> int:
        """From the last byte of the message to its commit."""
        received = self.message.received if self.message else 0.0
        return max(0, self.stored_ms - int(received * 1000)) if received else 0


@dataclass(frozen=True)
class Selection:
    """Which messages are meant: '' and 0 mean any; times are epoch milliseconds.

    `grep` is looked for in the message as received, without regard to case. `accession` is that of
    an order that was changed, or a whole component of the message: refused ones change no order.
    `sender` is MSH-3, MSH-4 or both (APP|FAC), `message_type` ORM or ORM^O01.
    """

    grep: str = ""
    ack: str = ""
    accession: str = ""
    sender: str = ""
    message_type: str = ""
    outcome: str = ""
    control_id: str = ""
    since_ms: int = 0
    until_ms: int = 0

    def means(self, entry: Entry) -> bool:
        """Tell whether a message is meant; one that cannot be read is meant by times alone."""
        message = entry.message
        if message is None:
            return self == Selection(since_ms=self.since_ms, until_ms=self.until_ms)
        return (
            self.outcome.lower() in ("", message.outcome)
            and self.control_id in ("", message.control_id)
            and _is_part(self.sender, message.source, "|")
            and _is_part(self.message_type, message.message_type, "^")
            and (not self.ack or self.ack.upper() in entry.acks)
            and (not self.grep or _holds(message.raw, self.grep))
            and (not self.accession or _names(entry, self.accession))
        )


def stream_id(typed: str) -> str | None:
    """Read an ID as people type it, or as Redis writes it; None when it is none."""
    if _STORED.fullmatch(typed):
        return typed
    found = _TYPED.fullmatch(typed.strip().lower())
    if not found:
        return None
    milliseconds = 0
    for digit in found[1]:
        milliseconds = milliseconds * 32 + _DIGITS.index(digit)
    return f"{milliseconds}-{found[2] or 0}"


def place(stream_id: str) -> tuple[int, int]:
    """Give what a stream ID is sorted by."""
    milliseconds, number = stream_id.split("-")
    return int(milliseconds), int(number)


def before(stream_id: str, *, since_ms: int = 0, limit: int = PAGE) -> Call[list[Entry]]:
    """Give a page of what came before an ID ('+': the newest), newest first."""
    high = stream_id if stream_id == "+" else f"({stream_id}"
    return Call(("XREVRANGE", keys.ARCHIVE, high, since_ms, "COUNT", limit), _entries)


def after(stream_id: str, *, limit: int = PAGE) -> Call[list[Entry]]:
    """Give a page of what came after an ID, oldest first."""
    return Call(("XRANGE", keys.ARCHIVE, f"({stream_id}", "+", "COUNT", limit), _entries)


def named(stream_ids: Iterable[str]) -> Call[list[Entry]]:
    """Give those of these messages that are still kept, in the order asked for."""
    return Call(tuple(stream_ids), _entries, script("recall"))


def newest_id() -> Call[str]:
    """Give the ID of the newest message, '0-0' when there is none."""
    newest = ("XREVRANGE", keys.ARCHIVE, "+", "-", "COUNT", 1)
    return Call(newest, lambda reply: text(reply[0][0]) if reply else "0-0")


def oldest_ms() -> Call[int | None]:
    """Give the time of the oldest message that is kept, None when there is none."""
    oldest = ("XRANGE", keys.ARCHIVE, "-", "+", "COUNT", 1)
    return Call(oldest, lambda reply: int(text(reply[0][0]).split("-")[0]) if reply else None)


def newest_first(store: Store, meant: Selection) -> Iterator[Entry]:
    """Give the messages that are meant, page by page, so that a long search blocks nobody.

    Raises StoreUnavailable.
    """
    at = f"{meant.until_ms + 1}-0" if meant.until_ms else "+"
    while page := store.run(before(at, since_ms=meant.since_ms)):
        yield from filter(meant.means, page)
        at = page[-1].stream_id


def _entries(reply: list[Any]) -> list[Entry]:
    return [Entry(name, _readable(fields)) for name, fields in entries(reply)]


def _readable(fields: dict[bytes, bytes]) -> Archived | None:
    """One that a newer version wrote, or that was damaged, must not hide the others."""
    try:
        return archive.entry(fields)
    except archive.UNREADABLE:
        return None


def _base32(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def _is_part(asked: str, whole: str, separator: str) -> bool:
    asked, whole = asked.lower(), whole.lower()
    return asked in ("", whole) or asked in whole.split(separator)


def _holds(raw: bytes, needle: str) -> bool:
    """Look for a text in bytes of which nobody said how they are encoded."""
    sought = needle.casefold()
    return any(sought in raw.decode(codec, "replace").casefold() for codec in ("utf-8", "latin-1"))


def _names(entry: Entry, accession: str) -> bool:
    if accession in entry.accessions:
        return True
    raw = entry.message.raw if entry.message else b""
    whole = rb"(?<![^|^~&\r\n])" + re.escape(accession.encode()) + rb"(?![^|^~&\r\n])"
    return re.search(whole, raw) is not None
