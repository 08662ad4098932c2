"""Plain nested values by DICOM keyword → data sets, strictly; nothing becomes a question mark."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from broker.dicom.charsets import UTF_8, encode_text, known_terms
from broker.dicom.dictionary import (
    BINARY,
    FLOATS,
    INTEGERS,
    LONG_FORM,
    TEXT,
    UnencodableValue,
    tag_of,
    vr_of,
)
from broker.dicom.negotiation import EXPLICIT_LITTLE
from broker.dicom.transliteration import transliterated

Attributes = dict[str, Any]

ITEM_BYTES = struct.pack("<HH", 0xFFFE, 0xE000)


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
    tag, vr = tag_of(keyword), vr_of(keyword)
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
    return ITEM_BYTES + struct.pack("<I", len(body)) + body


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


def charset_for(attributes: Mapping[str, Any], *wanted: tuple[str, ...]) -> str:
    """Return the first of ASCII (''), the sets `wanted`, 'ISO_IR 192' that carries all text.

    Found out by encoding: nothing ever becomes a question mark. Each of `wanted` is like an
    `Identifier.charset`.
    """
    texts = [text for text in _texts(attributes) if not text[0].isascii()]
    if not texts:
        return ""
    for terms in map(known_terms, wanted):
        try:
            for text, name in texts:
                encode_text(text, terms, name=name)
        except UnicodeError:
            continue
        return "\\".join(terms)
    return UTF_8


def in_letters_of(attributes: Mapping[str, Any], charset: tuple[str, ...]) -> Attributes:
    """Return the attributes transliterated into what a character set holds, where that can be."""
    terms = known_terms(charset)
    named: Attributes = {}
    for keyword, value in attributes.items():
        vr = vr_of(keyword)
        if vr == "SQ" and isinstance(value, list | tuple):
            named[keyword] = [
                in_letters_of(i, charset) if isinstance(i, Mapping) else i for i in value
            ]
        elif vr in TEXT and isinstance(value, list | tuple):
            named[keyword] = [transliterated(one, terms, name=vr == "PN") for one in value]
        else:
            named[keyword] = transliterated(value, terms, name=vr == "PN") if vr in TEXT else value
    return named


def _texts(attributes: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield every text that a character set applies to, and whether it is a person's name."""
    for keyword, value in attributes.items():
        vr = vr_of(keyword)
        if vr == "SQ":
            for item in value if isinstance(value, list | tuple) else ():
                yield from _texts(item) if isinstance(item, Mapping) else ()
        elif vr in TEXT:
            values = value if isinstance(value, list | tuple) else [value]
            yield from ((one, vr == "PN") for one in values if isinstance(one, str))
