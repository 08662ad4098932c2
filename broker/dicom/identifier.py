"""Data sets → plain nested values by DICOM keyword: whatever scanners send is read."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.dicom.charsets import decode_text, known_terms
from broker.dicom.dictionary import (
    BINARY,
    KNOWN_VRS,
    LONG_FORM,
    NUMBERS,
    SINGLE_VALUED,
    TEXT,
    known,
)
from broker.dicom.negotiation import EXPLICIT_LITTLE

Attributes = dict[str, Any]

SPECIFIC_CHARACTER_SET = 0x00080005
TRAILING_PADDING = 0xFFFCFFFC
NOT_ATTRIBUTES = (SPECIFIC_CHARACTER_SET, TRAILING_PADDING)
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
# The worklist nests three deep, MPPS four; nobody gets to exhaust our stack.
DEEPEST = 16
# An MPPS of 30,000 images has 90,000 of them; each costs us 5 µs and 100 bytes.
MOST_PARTS = 200_000
# A list of 1,000 UIDs has 65 KB; a number becomes a text of fifty bytes.
LONGEST_VALUE = 256 * 1024
MOST_VALUES = 10_000
MOST_TERMS = 16


class UnreadableIdentifier(Exception):
    """A data set that cannot be read: `fact` (≤ 64 characters, no values) and the tag, if known."""

    def __init__(self, fact: str, tag: int | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Identifier:
    """A decoded data set.

    `keys`: keyword → str ('' = zero length), list[str] (several values) or list[Attributes]
    (sequence; [] = zero items). `unknown`: private or unknown tags were present, at any depth.
    `charset`: the known terms of (0008,0005), '' where the first is empty; () = absent.
    `unusable`: keywords whose value could not be understood and is '' or [] in `keys`.
    """

    keys: Attributes
    unknown: bool = False
    charset: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()


def decode(
    data: bytes,
    transfer_syntax: str,
    only: Collection[str] | None = None,
    *,
    assumed: tuple[str, ...] = (),
) -> Identifier:
    """Read a little endian data set, or its top level keywords `only`. Raises UnreadableIdentifier.

    8-bit text without a label is UTF-8 where it can be, else in `assumed`, else Latin-1.
    Explicit VR is recognised by its bytes, because some devices send what they have not negotiated;
    `transfer_syntax` decides only where the bytes do not.
    """
    explicit = data[4:6] in _VR_BYTES if len(data) >= 8 else transfer_syntax == EXPLICIT_LITTLE
    elements = _Reader(data, explicit, only).data_set(len(data), 0)
    naming = _Naming(known_terms(assumed))
    keys = naming.attributes(elements, ())
    return Identifier(keys, naming.unknown, _charset(elements, ()), tuple(naming.unusable))


# Bytes → elements


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    vr: str  # '' where the bytes do not say
    raw: bytes
    items: list[list[_Element]] | None = None


_VR_BYTES = frozenset(vr.encode() for vr in KNOWN_VRS)
_HEADER = struct.Struct("<HHI")
_ITEM_BYTES = struct.pack("<HH", ITEM >> 16, ITEM & 0xFFFF)


class _Reader:
    """A cursor over an encoded data set (PS3.5 §7). Lengths are believed only as far as bytes go.

    Written here because pydicom takes a truncated data set for a short one, recurses as deep as a
    peer likes, and fails on access rather than on reading (reference cases Q16 to Q18).
    """

    def __init__(self, data: bytes, explicit: bool, only: Collection[str] | None) -> None:
        self._data = data
        self._explicit = explicit
        self._only = only
        self._offset = 0
        self._parts = 0

    def data_set(self, end: int | None, depth: int) -> list[_Element]:
        """Read up to `end`, or to an item delimiter where that is None."""
        if depth > DEEPEST:
            raise UnreadableIdentifier(f"sequences are nested deeper than {DEEPEST}")
        elements: list[_Element] = []
        limit = len(self._data) if end is None else end
        padding = len(self._data) + 1 if end is None else self._padding(end)
        while self._offset < padding:
            self._count()
            tag, vr, length = self._header(limit)
            if tag == ITEM_END and end is None:
                break
            if tag in (ITEM_END, SEQUENCE_END):
                continue
            wanted = depth > 0 or self._wants(tag)
            element = self._element(tag, vr, length, limit, depth, wanted)
            if wanted:
                elements.append(element)
        if end is not None:
            self._offset = max(self._offset, end)  # an item may be padded too
        return elements

    def _padding(self, end: int) -> int:
        """Return where only zeros follow, with which some devices pad; no tag begins there.

        Looked for once a data set: a peer that sends nothing but zeros must not cost their square.
        """
        return self._offset + len(self._data[self._offset : end].rstrip(b"\0"))

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise UnreadableIdentifier(f"more than {MOST_PARTS} elements and items")

    def _wants(self, tag: int) -> bool:
        return self._only is None or tag == SPECIFIC_CHARACTER_SET or known(tag)[0] in self._only

    def _header(self, limit: int) -> tuple[int, str, int]:
        """Read tag, VR and length, and stand behind them."""
        self._need(8, limit, None)
        group, element, length = _HEADER.unpack_from(self._data, self._offset)
        tag = group << 16 | element
        self._offset += 8
        if not self._explicit or group == 0xFFFE:
            return tag, "", length
        vr = self._data[self._offset - 4 : self._offset - 2].decode("latin-1")
        if vr in KNOWN_VRS and vr not in LONG_FORM:
            return tag, vr, length >> 16
        if not (vr.isascii() and vr.isalpha() and vr.isupper()):
            raise UnreadableIdentifier("a data element has no valid value representation", tag)
        self._need(4, limit, tag)
        self._offset += 4
        return tag, vr, int.from_bytes(self._data[self._offset - 4 : self._offset], "little")

    def _element(
        self, tag: int, vr: str, length: int, limit: int, depth: int, wanted: bool
    ) -> _Element:
        is_sequence = vr == "SQ" or (vr in ("", "UN") and known(tag)[1] == "SQ")
        if length == UNDEFINED:
            return _Element(tag, "SQ", b"", self._items(None, limit, vr, depth))
        self._need(length, limit, tag)
        end = self._offset + length
        if is_sequence and wanted and self._data.startswith(_ITEM_BYTES, self._offset, end):
            return _Element(tag, "SQ", b"", self._items(end, end, vr, depth))
        raw = self._data[self._offset : end] if wanted else b""
        self._offset = end
        return _Element(tag, vr, raw)

    def _items(self, end: int | None, limit: int, vr: str, depth: int) -> list[list[_Element]]:
        """Read the items of a sequence; those of a UN are implicit (PS3.5 §6.2.2, note 2)."""
        explicit, self._explicit = self._explicit, self._explicit and vr != "UN"
        items: list[list[_Element]] = []
        while end is None or self._offset < end:
            self._count()
            self._need(8, limit, None)
            group, element, length = _HEADER.unpack_from(self._data, self._offset)
            self._offset += 8
            tag = group << 16 | element
            if tag == SEQUENCE_END:
                break
            if tag != ITEM:
                raise UnreadableIdentifier("a sequence holds something that is not an item", tag)
            if length == UNDEFINED:
                items.append(self.data_set(None, depth + 1))
            else:
                self._need(length, limit, tag)
                items.append(self.data_set(self._offset + length, depth + 1))
        self._explicit = explicit
        return items

    def _need(self, length: int, limit: int, tag: int | None) -> None:
        if self._offset + length > limit:
            raise UnreadableIdentifier("the data set ends inside an element", tag)


# Elements → values


@dataclass(slots=True)
class _Naming:
    """Gives elements their keywords and values, and notes what had to be left out."""

    assumed: tuple[str, ...] = ()
    unknown: bool = False
    unusable: list[str] = field(default_factory=list)

    def attributes(self, elements: Sequence[_Element], terms: tuple[str, ...]) -> Attributes:
        terms = _charset(elements, terms)  # an item may have its own (PS3.5 §7.5.3)
        named: Attributes = {}
        for element in elements:
            if element.tag & 0xFFFF == 0 or element.tag in (
                SPECIFIC_CHARACTER_SET,
                TRAILING_PADDING,
            ):
                continue
            keyword, vr = known(element.tag)
            if keyword:
                named[keyword] = self._value(element, keyword, vr, terms)
            else:
                self.unknown = True
        return named

    def _value(self, element: _Element, keyword: str, vr: str, terms: tuple[str, ...]) -> Any:
        if vr == "SQ":
            if element.items is None and element.raw.strip(b"\0 "):
                self.unusable.append(keyword)
            return [self.attributes(item, terms) for item in element.items or ()]
        said = element.vr if element.vr not in ("", "UN") else vr
        value = None if element.items is not None else self._leaf(element.raw, said, terms)
        if value is None:
            self.unusable.append(keyword)
            return ""
        return value

    def _leaf(self, raw: bytes, vr: str, terms: tuple[str, ...]) -> str | list[str] | None:
        """Return the value or values as text without padding, or None where they make no sense."""
        if len(raw) > LONGEST_VALUE:
            return None
        if vr in NUMBERS or vr == "AT":
            return _numbers(raw, vr)
        if vr in BINARY or vr == "SQ":
            return None if raw else ""
        name = vr == "PN"
        text = decode_text(raw, terms if vr in TEXT else (), name=name, assumed=self.assumed)
        if vr in SINGLE_VALUED:
            return text.rstrip("\0 ")
        if text.count("\\") >= MOST_VALUES:
            return None
        values = [value.strip("\0 ") for value in text.split("\\")]
        return values[0] if len(values) == 1 else values


def _charset(elements: Sequence[_Element], inherited: tuple[str, ...]) -> tuple[str, ...]:
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET:
            terms = element.raw.decode("latin-1").split("\\", MOST_TERMS)
            return known_terms(terms[:MOST_TERMS])
    return inherited


def _numbers(raw: bytes, vr: str) -> str | list[str] | None:
    form = "<HH" if vr == "AT" else NUMBERS[vr]
    count, rest = divmod(len(raw), struct.calcsize(form))
    if rest or count > MOST_VALUES:
        return None
    values = [
        f"{numbers[0]:04X}{numbers[1]:04X}" if vr == "AT" else str(numbers[0])
        for numbers in struct.iter_unpack(form, raw)
    ]
    return values[0] if len(values) == 1 else values or ""
