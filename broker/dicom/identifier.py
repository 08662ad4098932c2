"""Data sets ↔ plain nested values by DICOM keyword: tolerant inwards, strict outwards."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from broker.dicom.charsets import UTF_8, decode_text, encode_text, known_terms
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

TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
STRINGS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})
INTEGERS = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "UV": "<Q", "SV": "<q"}
FLOATS = {"FL": "<f", "FD": "<d"}
NUMBERS = INTEGERS | FLOATS
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
LONG_FORM = BINARY | {"SQ", "SV", "UC", "UR", "UT", "UV"}
KNOWN_VRS = TEXT | STRINGS | frozenset(NUMBERS) | LONG_FORM | {"AT"}


class UnreadableIdentifier(Exception):
    """A data set that cannot be read: `fact` (≤ 64 characters, no values) and the tag, if known."""

    def __init__(self, fact: str, tag: int | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.tag = tag


class UnencodableValue(Exception):
    """A value that no data set can carry; names the keyword, never the value."""

    def __init__(self, keyword: str, fact: str) -> None:
        super().__init__(f"{keyword}: {fact}")
        self.keyword = keyword
        self.fact = fact


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


def decode(data: bytes, transfer_syntax: str, only: Collection[str] | None = None) -> Identifier:
    """Read a little endian data set, or its top level keywords `only`. Raises UnreadableIdentifier.

    Explicit VR is recognised by its bytes, because some devices send what they have not negotiated;
    `transfer_syntax` decides only where the bytes do not.
    """
    explicit = data[4:6] in _VR_BYTES if len(data) >= 8 else transfer_syntax == EXPLICIT_LITTLE
    elements = _Reader(data, explicit, only).data_set(len(data), 0)
    naming = _Naming()
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

    def data_set(self, end: int | None, depth: int) -> list[_Element]:
        """Read up to `end`, or to an item delimiter where that is None."""
        if depth > DEEPEST:
            raise UnreadableIdentifier(f"sequences are nested deeper than {DEEPEST}")
        elements: list[_Element] = []
        limit = len(self._data) if end is None else end
        while end is None or not self._at_end(end):
            tag, vr, length = self._header(limit)
            if tag == ITEM_END and end is None:
                break
            if tag in (ITEM_END, SEQUENCE_END):
                continue
            wanted = depth > 0 or self._wants(tag)
            element = self._element(tag, vr, length, limit, depth, wanted)
            if wanted:
                elements.append(element)
        return elements

    def _at_end(self, end: int) -> bool:
        """Whether nothing follows, or only zeros, with which some devices pad."""
        rest = end - self._offset
        return rest <= 0 or (
            self._data.startswith(b"\0\0\0\0"[:rest], self._offset)
            and not self._data[self._offset : end].strip(b"\0")
        )

    def _wants(self, tag: int) -> bool:
        return self._only is None or tag == SPECIFIC_CHARACTER_SET or _known(tag)[0] in self._only

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
        is_sequence = vr == "SQ" or (vr in ("", "UN") and _known(tag)[1] == "SQ")
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
            keyword, vr = _known(element.tag)
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
        value = None if element.items is not None else _leaf(element.raw, said, terms)
        if value is None:
            self.unusable.append(keyword)
            return ""
        return value


def _charset(elements: Sequence[_Element], inherited: tuple[str, ...]) -> tuple[str, ...]:
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET:
            return known_terms(element.raw.decode("latin-1").split("\\"))
    return inherited


def _leaf(raw: bytes, vr: str, terms: tuple[str, ...]) -> str | list[str] | None:
    """Return the value or values as text without padding, or None where they make no sense."""
    if vr in NUMBERS or vr == "AT":
        return _numbers(raw, vr)
    if vr in BINARY or vr == "SQ":
        return None if raw else ""
    text = decode_text(raw, terms if vr in TEXT else (), name=vr == "PN")
    if vr in SINGLE_VALUED:
        return text.rstrip("\0 ")
    values = [value.strip("\0 ") for value in text.split("\\")]
    return values[0] if len(values) == 1 else values


def _numbers(raw: bytes, vr: str) -> str | list[str] | None:
    form = "<HH" if vr == "AT" else NUMBERS[vr]
    if len(raw) % struct.calcsize(form):
        return None
    values = [
        f"{numbers[0]:04X}{numbers[1]:04X}" if vr == "AT" else str(numbers[0])
        for numbers in struct.iter_unpack(form, raw)
    ]
    return values[0] if len(values) == 1 else values or ""


# The keywords of the dictionary are some 5,000; peers may send any of 2**32 tags.
@lru_cache(maxsize=4096)
def _known(tag: int) -> tuple[str, str]:
    """Return keyword and VR of a tag; ('', '') for private and unknown ones."""
    keyword = "" if tag >> 16 & 1 else keyword_for_tag(tag)
    # "US or SS" and the like: the first is the usual one.
    return (keyword, dictionary_VR(tag)[:2]) if keyword else ("", "")


# Values → bytes


def encode(attributes: Mapping[str, Any], transfer_syntax: str, charset: str = "") -> bytes:
    """Return the data set; (0008,0005) is added where `charset` says one. Raises UnencodableValue.

    `charset` is the value of (0008,0005) as `charset_for` gives it, terms joined by a backslash.
    Sequences have explicit lengths, which every peer can read.
    """
    label = {"SpecificCharacterSet": charset.split("\\")} if charset else {}
    # A label in `attributes` would be somebody else's: ours is what the bytes really are in.
    named = {k: v for k, v in attributes.items() if k != "SpecificCharacterSet"}
    return _data_set({**named, **label}.items(), transfer_syntax, charset)


def _data_set(attributes: Iterable[tuple[str, Any]], transfer_syntax: str, charset: str) -> bytes:
    """Return the encoded attributes in the order of their tags (PS3.5 §7.1)."""
    return b"".join(
        encode_element(keyword, value, transfer_syntax, charset)
        for keyword, value in sorted(attributes, key=lambda attribute: tag_of(attribute[0]))
    )


def encode_element(keyword: str, value: Any, transfer_syntax: str, charset: str = "") -> bytes:
    """Return one encoded attribute, sequences included. Raises UnencodableValue.

    `value` as in `Identifier.keys`; None and '' are zero length, numbers may be text.
    """
    tag, vr = tag_of(keyword), _vr_of(keyword)
    try:
        if vr == "SQ":
            raw = b"".join(_item(item, transfer_syntax, charset) for item in value or ())
        else:
            raw = _encode_leaf(value, vr, tuple(charset.split("\\")) if charset else ())
    except UnicodeError:
        raise UnencodableValue(keyword, f"a character is not in {charset or 'ASCII'}") from None
    except (ValueError, TypeError, AttributeError, struct.error):
        raise UnencodableValue(keyword, f"not a value for VR {vr}") from None
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if transfer_syntax != EXPLICIT_LITTLE:
        return head + struct.pack("<I", len(raw)) + raw
    if vr in LONG_FORM:
        return head + vr.encode() + struct.pack("<xxI", len(raw)) + raw
    if len(raw) > 0xFFFE:
        raise UnencodableValue(keyword, "longer than 65534 bytes")
    return head + vr.encode() + struct.pack("<H", len(raw)) + raw


def _item(attributes: Mapping[str, Any], transfer_syntax: str, charset: str) -> bytes:
    """Return one item; it inherits the character set, so that it names none (PS3.5 §7.5.3)."""
    body = _data_set(attributes.items(), transfer_syntax, charset)
    return _ITEM_BYTES + struct.pack("<I", len(body)) + body


def _encode_leaf(value: Any, vr: str, terms: tuple[str, ...]) -> bytes:
    values = value if isinstance(value, list | tuple) else [] if value in (None, "") else [value]
    if vr in INTEGERS:
        return b"".join(struct.pack(INTEGERS[vr], int(one)) for one in values)
    if vr in FLOATS:
        return b"".join(struct.pack(FLOATS[vr], float(one)) for one in values)
    if vr == "AT":
        return b"".join(struct.pack("<HH", *divmod(int(str(one), 16), 0x10000)) for one in values)
    if vr in BINARY:
        if values:
            raise ValueError("binary values are not for worklists")
        return b""
    charset = terms if vr in TEXT else ()
    raw = b"\\".join(encode_text(_as_text(one), charset, name=vr == "PN") for one in values)
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise TypeError("neither text nor a number")
    return str(value)


def charset_for(attributes: Mapping[str, Any], requested: tuple[str, ...]) -> str:
    """Return the narrowest of ASCII (''), the requested set, 'ISO_IR 192' that carries all text.

    Found out by encoding: nothing ever becomes a question mark. `requested` is an
    `Identifier.charset`.
    """
    texts = [text for text in _texts(attributes) if not text[0].isascii()]
    if not texts:
        return ""
    terms = known_terms(requested)
    try:
        for text, name in texts:
            encode_text(text, terms, name=name)
    except UnicodeError:
        return UTF_8
    return "\\".join(terms)


def _texts(attributes: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield every text that a character set applies to, and whether it is a person's name."""
    for keyword, value in attributes.items():
        vr = _vr_of(keyword)
        if vr == "SQ":
            for item in value or ():
                yield from _texts(item)
        elif vr in TEXT:
            values = value if isinstance(value, list | tuple) else [value]
            yield from ((one, vr == "PN") for one in values if isinstance(one, str))


# The callers' keywords come from mapping files and Table K.6-1, so that this stays small.
@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int:
    """Return the tag of a keyword. Raises UnencodableValue for one that DICOM does not have."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise UnencodableValue(keyword, "no such keyword in the DICOM dictionary")
    return tag


@lru_cache(maxsize=4096)
def _vr_of(keyword: str) -> str:
    return dictionary_VR(tag_of(keyword))[:2]
