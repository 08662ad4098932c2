"""Text of data sets ↔ str by (0008,0005) Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 §6.1)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache

from pydicom.charset import (
    STAND_ALONE_ENCODINGS,
    custom_encoders,
    decode_bytes,
    encode_string,
    python_encoding,
)

UTF_8 = "ISO_IR 192"
DEFAULT_REPERTOIRE = ("", "ISO_IR 6", "ISO 2022 IR 6")
ESCAPE = 0x1B
BACKSLASH = 0x5C
# Each of these sets the code back to the first character set (PS3.5 §6.1.2.5.3).
DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, BACKSLASH}
NAME_DELIMITERS = DELIMITERS | {0x5E, 0x3D}

GB_2312 = "iso_ir_58"
"""pydicom takes it for a codec that writes and reads its own escape sequence, which it does not."""
TO_GB_2312 = b"\x1b$)A"

_LINES = re.compile(r"([\t\n\f\r]+)")
_TERM = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)")
_ALIASES = {"UTF-8": UTF_8, "UTF8": UTF_8, "ISO_8859-1": "ISO_IR 100", "ISO 8859-1": "ISO_IR 100"}


def known_terms(values: Iterable[str]) -> tuple[str, ...]:
    """Return the defined terms that we know, spelling mended, in their order; '' only as the first.

    What cannot go together does not (stand-alone sets); () means the default repertoire.
    """
    terms = tuple(_spelled(value) for value in values)
    known = tuple(t for n, t in enumerate(terms) if t in python_encoding and (t or n == 0))
    if len(known) > 1:
        if known[0] in STAND_ALONE_ENCODINGS:
            known = known[:1]
        known = tuple(t for n, t in enumerate(known) if n == 0 or t not in STAND_ALONE_ENCODINGS)
    return () if len(known) == 1 and known[0] in DEFAULT_REPERTOIRE else known


def _spelled(value: str) -> str:
    term = value.strip(" \0").upper()
    match = _TERM.fullmatch(term)
    if match:
        return f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"
    return _ALIASES.get(term, term)


def decode_text(
    raw: bytes, terms: tuple[str, ...], *, name: bool = False, assumed: tuple[str, ...] = ()
) -> str:
    """Return the text; never fails: a wrong or missing label is guessed past.

    `terms` as of `known_terms`; `name` for PN, whose components reset the code; `assumed` are the
    terms of a peer that does not label, taken for what is not UTF-8.
    """
    if ESCAPE in raw and (terms or assumed):
        delimiters = NAME_DELIMITERS if name else DELIMITERS
        text = _decode_escaped(raw, terms or assumed, delimiters)
        if text is not None:
            return text
    elif raw.isascii():
        return raw.decode("ascii")
    # Without a usable label: UTF-8 is hardly ever right by chance, Latin-1 never fails.
    labelled = (python_encoding[terms[0]],) if terms and terms[0] not in DEFAULT_REPERTOIRE else ()
    usual = (python_encoding[assumed[0]],) if assumed else ()
    for codec in (*labelled, "utf-8", *usual, "latin-1"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _decode_escaped(raw: bytes, terms: tuple[str, ...], delimiters: set[int]) -> str | None:
    """Return the text of ISO 2022 code extensions, or None where pydicom would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return decode_bytes(raw, _codecs(terms), delimiters).replace(TO_GB_2312.decode(), "")
        except (UserWarning, ValueError, LookupError):
            return None


def encode_text(value: str, terms: tuple[str, ...], *, name: bool = False) -> bytes:
    """Return the bytes of `value`. Raises UnicodeError if a character has no place in `terms`."""
    if not terms:
        return value.encode("ascii")
    if len(terms) == 1:
        return _encode_alone(value, python_encoding[terms[0]])
    if name:
        return b"=".join(
            b"^".join(_encode_extended(part, terms) for part in group.split("^"))
            for group in value.split("=")
        )
    return _encode_extended(value, terms)


def _encode_alone(value: str, codec: str) -> bytes:
    if codec in custom_encoders:
        return bytes(custom_encoders[codec](value, errors="strict"))
    return value.encode(codec)


def _encode_extended(value: str, terms: tuple[str, ...]) -> bytes:
    """Encode with code extensions, anew in each line (PS3.5 §6.1.2.5.3)."""
    return b"".join(_encode_line(part, terms) for part in _LINES.split(value))


def _encode_line(value: str, terms: tuple[str, ...]) -> bytes:
    """Encode what no delimiter parts, after making sure that nothing becomes a question mark."""
    if value.isascii():
        return value.encode("ascii")
    codecs = _codecs(terms)
    if GB_2312 in codecs:
        others = tuple(codec for codec in codecs if codec != GB_2312)
        if not all(_has_place(character, others) for character in value):
            return TO_GB_2312 + value.encode(GB_2312)
    for character in value:
        # pydicom takes the default repertoire for Latin-1 and would write such bytes unescaped.
        in_default = terms[0] in DEFAULT_REPERTOIRE and 0x80 <= ord(character) <= 0xFF
        if in_default or not _has_place(character, codecs):
            raise UnicodeError("a character has no place in the character sets")
    return encode_string(value, codecs)


def _has_place(character: str, codecs: tuple[str, ...]) -> bool:
    for codec in codecs:
        try:
            _encode_alone(character, codec)
        except UnicodeError:
            continue
        return True
    return False


@lru_cache(maxsize=256)
def _codecs(terms: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(python_encoding[term] for term in terms)
