"""Text for scanners that show only few letters: what their character set lacks, in its letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from broker.dicom.charsets import encode_text

_SPELT = "ßss ẞSS æae ÆAE œoe ŒOE øo ØO đd ĐD ðd ÐD þth ÞTH łl ŁL ıi ŋn ŊN ħh ĦH ŧt ŦT ĸk"
_QUOTES = dict.fromkeys("‘’‚‛", "'") | dict.fromkeys("“”„«»", '"')
_DASHES = dict.fromkeys("–—‐‑−", "-")
LETTERS: Mapping[str, str] = {
    **{word[0]: word[1:] for word in _SPELT.split()},
    **_QUOTES,
    **_DASHES,
    "…": "...",
    "\u00a0": " ",
}
"""Letters that no decomposition takes apart, and signs of word processors."""


def transliterated(value: Any, terms: tuple[str, ...], *, name: bool = False) -> Any:
    """Give a text in the letters of `terms` (as of `known_terms`), or unchanged where that fails.

    Accents are dropped, some letters are written as two. Of a person's name the groups that cannot
    be written (ideographic, phonetic) are left out if the alphabetic one can. Nothing is guessed:
    no other script is spelt in Latin letters.
    """
    if not isinstance(value, str) or value.isascii():
        return value
    if not name:
        return _written(value, terms) or value
    groups = [_written(group, terms, name=True) for group in value.split("=")]
    if not groups[0]:
        return value
    return "=".join(group or "" for group in groups).rstrip("=")


def _written(text: str, terms: tuple[str, ...], *, name: bool = False) -> str | None:
    written = "".join(_letter(letter, terms) for letter in unicodedata.normalize("NFC", text))
    return written if _holds(written, terms, name=name) else None


def _letter(letter: str, terms: tuple[str, ...]) -> str:
    if letter.isascii() or _holds(letter, terms):
        return letter
    if letter in LETTERS:
        return LETTERS[letter]
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(part for part in parts if not unicodedata.combining(part)) or letter


def _holds(text: str, terms: tuple[str, ...], *, name: bool = False) -> bool:
    try:
        encode_text(text, terms, name=name)
    except UnicodeError:
        return False
    return True
