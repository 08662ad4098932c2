"""Which attributes an answer has, worked out once: what is left is to put the values in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from broker.dicom.dictionary import STRINGS, TEXT, tag_of, vr_of
from broker.dicom.encoding import ITEM_BYTES, encode_element
from broker.dicom.negotiation import EXPLICIT_LITTLE

_LATIN_1: Final = "latin-1"
"""What is encoded is put together as text, a character a byte: half the time of bytes."""
_LONGEST: Final = 126
_LENGTHS_16: Final = tuple(struct.pack("<H", n + n % 2) for n in range(_LONGEST + 1))
_LENGTHS_32: Final = tuple(struct.pack("<I", n + n % 2) for n in range(_LONGEST + 1))
_LONG: Final = frozenset({"UC", "UR", "UT"})

PIECES: Final = 32
"""Values of which an attribute is kept encoded."""

Encoder = Callable[[Mapping[str, Any]], bytes]
Narrow = Callable[[Any], Any]


class NotPlain(Exception):
    """A value to be encoded with thought: text beyond ASCII, a long one, several, a needed none."""


class Key(NamedTuple):
    """An attribute that may come back: `always` also without a value, `needed` never without one.

    `item` are the keys of the one item of a sequence; of other sequences `narrowed` gives what is
    asked of a held value.
    """

    keyword: str
    always: bool
    item: tuple[Key, ...] | None = None
    narrowed: Narrow | None = None
    needed: bool = False


def encoder(keys: Iterable[Key], transfer_syntax: str) -> Encoder:
    """Give the function that encodes just these of an item's attributes, all text being ASCII.

    What it returns is what `encoding.encode` would, for a tenth of the time. The
    function raises NotPlain where it cannot, UnencodableValue as `encode` does.
    """
    encoded = _texts(keys, transfer_syntax)
    return lambda attributes: encoded(attributes).encode(_LATIN_1)


def _texts(keys: Iterable[Key], transfer_syntax: str) -> Callable[[Mapping[str, Any]], str]:
    ordered = sorted(keys, key=lambda key: tag_of(key.keyword))
    parts = [(key.keyword, key.always, _part(key, transfer_syntax)) for key in ordered]
    always = [(keyword, part) for keyword, comes, part in parts if comes]
    complete = len(always) == len(parts)

    def encoded(attributes: Mapping[str, Any]) -> str:
        held = attributes.get
        try:
            if complete:
                return "".join([part[held(keyword, "")] for keyword, part in always])
            return "".join(
                [
                    part[held(keyword, "")]
                    for keyword, comes, part in parts
                    if comes or keyword in attributes
                ]
            )
        except TypeError:  # several values, say
            raise NotPlain from None

    return encoded


def _part(key: Key, transfer_syntax: str) -> _Part:
    if key.item is not None:
        return _Thorough(_sequence(key.keyword, key.item, transfer_syntax))
    vr, narrowed = vr_of(key.keyword), key.narrowed
    empty = encode_element(key.keyword, None, transfer_syntax)
    if vr in TEXT or vr in STRINGS:
        return _Pieces(key, vr, transfer_syntax)

    def thorough(value: Any) -> bytes:
        if value is None or value == "":
            return empty
        if not _ascii(value):
            raise NotPlain
        return encode_element(key.keyword, narrowed(value) if narrowed else value, transfer_syntax)

    return _Thorough(thorough)


class _Part(Protocol):
    """An encoded attribute by its value."""

    def __getitem__(self, value: Any, /) -> str: ...


class _Thorough:
    """One that is encoded with thought."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode

    def __getitem__(self, value: Any, /) -> str:
        return self._encode(value).decode(_LATIN_1)


class _Pieces(dict[Any, str]):
    """One of text: most attributes have few values, which come again."""

    def __init__(self, key: Key, vr: str, transfer_syntax: str) -> None:
        tag = tag_of(key.keyword)
        head, lengths = struct.pack("<HH", tag >> 16, tag & 0xFFFF), _LENGTHS_32
        if transfer_syntax == EXPLICIT_LITTLE:
            head += vr.encode() + (b"\0\0" if vr in _LONG else b"")
            lengths = _LENGTHS_32 if vr in _LONG else _LENGTHS_16
        self._heads = tuple((head + length).decode(_LATIN_1) for length in lengths)
        self._padding = "\0" if vr == "UI" else " "
        self._needed = key.needed
        super().__init__({} if key.needed else {"": self._heads[0], None: self._heads[0]})

    def __missing__(self, value: Any) -> str:
        if value.__class__ is not str or not value.isascii():
            raise NotPlain
        size = len(value)
        if size > _LONGEST or (self._needed and not value.strip("\0 ")):
            raise NotPlain
        piece = f"{self._heads[size]}{value}{self._padding if size & 1 else ''}"
        if len(self) < PIECES:
            self[value] = piece
        return piece


def _ascii(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii()
    if isinstance(value, list | tuple):
        return all(map(_ascii, value))
    return all(map(_ascii, value.values())) if isinstance(value, Mapping) else True


def _sequence(keyword: str, keys: Iterable[Key], transfer_syntax: str) -> Callable[[Any], bytes]:
    """Encode a sequence of items that are all asked for the same."""
    tag, item = tag_of(keyword), encoder(keys, transfer_syntax)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if transfer_syntax == EXPLICIT_LITTLE:
        head += b"SQ\0\0"

    def encoded(value: Any) -> bytes:
        bodies = [item(each) for each in value]
        whole = b"".join([ITEM_BYTES + struct.pack("<I", len(body)) + body for body in bodies])
        return head + struct.pack("<I", len(whole)) + whole

    return encoded
