"""The delimiters of a message, and what its escapes mean (HL7 v2 ch. 2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from broker.hl7.header import Separators

ESCAPE_LIMIT: Final = 10_000  # read in one field; whatever follows is longer than any attribute


class Syntax:
    """The delimiters of one message and the way back from its escapes."""

    __slots__ = (
        "codec",
        "component",
        "escape",
        "field",
        "repetition",
        "separators",
        "subcomponent",
    )

    def __init__(self, separators: Separators, codec: str) -> None:
        """`codec` is the Python name of the character set that \\Xdd..\\ bytes are in."""
        self.separators = separators
        self.codec = codec
        self.field = separators.field
        self.component = separators.component
        self.repetition = separators.repetition
        self.escape = separators.escape
        self.subcomponent = separators.subcomponent

    def unescape(self, text: str) -> str:
        """Return the text that was meant; what is no escape (`C:\\x`) stays as it is."""
        if self.escape not in text:
            return text
        return _escapes(self.escape).sub(self._meant, text, count=ESCAPE_LIMIT)

    def _meant(self, match: re.Match[str]) -> str:
        body = match.group(0)[1:-1]
        kind = body[0]
        if kind == "X":
            return self._hexadecimal(body)
        if kind == ".":
            return _formatting(body)
        return {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
        }.get(body, "")  # H, N, C.., M..: highlighting and shifts mean nothing in an attribute

    def _hexadecimal(self, body: str) -> str:
        # neighbours are one run of bytes: \XC3\\XBC\ is one UTF-8 character
        sent = bytes.fromhex(body.replace("X", "").replace(self.escape, ""))
        for codec in (self.codec, "windows-1252"):
            try:
                return sent.decode(codec)
            except UnicodeDecodeError:
                continue
        return sent.decode("latin-1")


@lru_cache(maxsize=32)
def _escapes(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    hexadecimal = f"(?:{e}X(?:[0-9A-Fa-f]{{2}})+{e})+"
    formatting = rf"{e}\.[a-z]{{2}}\s?[+-]?\d{{0,3}}{e}"
    shift = f"{e}(?:C[0-9A-F]{{4}}|M[0-9A-F]{{4}}(?:[0-9A-F]{{2}})?){e}"
    return re.compile(f"{hexadecimal}|{e}[FSTREHN]{e}|{formatting}|{shift}")


def _formatting(body: str) -> str:
    # FT commands, HL7 v2 ch. 2: only those that separate text leave a trace
    return {".br": "\n", ".sp": "\n", ".ce": "\n", ".sk": " "}.get(body[:3], "")
