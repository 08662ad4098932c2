"""ISO 2022 code extension: escape sequences that switch character sets inside a message.

MSH-20 `ISO 2022-1994` sends them as bytes, `2.3` as printable \\Cxxyy\\ and \\Mxxyyzz\\
(HL7 2.3 §2.9.2).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

ESC: Final = b"\x1b"
# what follows ESC → the codec of the set that bytes 0x21-0x7E (G0) then mean; ASCII and the Roman
# half of JIS X 0201 are the same here, since HL7's separators are written in either
G0: Final[dict[bytes, str]] = {
    b"(B": "",
    b"(J": "",
    b"(I": "katakana",
    b"$@": "iso2022_jp_2",
    b"$B": "iso2022_jp_2",
    b"$(D": "iso2022_jp_2",
    b"$A": "iso2022_jp_2",
    b"$(C": "iso2022_jp_2",
}
# what follows ESC → the codec of bytes 0xA1-0xFE (G1)
G1: Final[dict[bytes, str]] = {
    b")I": "shift_jis",
    b"-A": "iso8859_1",
    b"-B": "iso8859_2",
    b"-C": "iso8859_3",
    b"-D": "iso8859_4",
    b"-F": "iso8859_7",
    b"-G": "iso8859_6",
    b"-H": "iso8859_8",
    b"-L": "iso8859_5",
    b"-M": "iso8859_9",
    b"-T": "cp874",
    b"-b": "iso8859_15",
    b"$)C": "euc_kr",
    b"$)A": "gb2312",
}
_KNOWN: Final = b"|".join(map(re.escape, sorted({*G0, *G1}, key=len, reverse=True)))
SWITCH: Final = re.compile(rb"\x1b(" + _KNOWN + rb")")
_MULTI_BYTE: Final = frozenset(low for low, codec in G0.items() if codec == "iso2022_jp_2")
_NEXT: Final = re.compile(rb"\x1b(" + b"|".join(map(re.escape, G0)) + rb")|[\r\n]|\Z")
_PIECES: Final = re.compile(rb"\x1b(" + _KNOWN + rb")|([\r\n]+)|([\x80-\xff]+)|([\x21-\x7e]+)")


def shifted(raw: bytes, escape: str) -> bytes:
    """Turn HL7's printable shifts into the escape sequences that they stand for.

    `escape` is the message's own. One that designates nothing we know stays: it is dropped as text.
    """
    mark = escape.encode("latin-1")
    if mark + b"C" not in raw and mark + b"M" not in raw:
        return raw
    return _shifts(mark).sub(_sequence, raw)


@lru_cache(maxsize=32)
def _shifts(mark: bytes) -> re.Pattern[bytes]:
    mark = re.escape(mark)
    # the escapes of separators are passed over, so that \E\C2842\E\ stays the text it is
    return re.compile(mark + rb"(?:[FSTREHN]|([CM](?:[0-9A-F]{2}){2,3}))" + mark)


def _sequence(match: re.Match[bytes]) -> bytes:
    if not match[1]:
        return match[0]
    meant = bytes.fromhex(match[1][1:].decode("ascii"))
    return ESC + meant if meant in G0 or meant in G1 else match[0]


def decode(raw: bytes, codec: str, delimiters: bytes = b"|^~") -> tuple[str, bool]:
    """Decode bytes with switches; `codec` is of the bytes over 0x80 before the first of them.

    The end of a segment leads back to the first sets, as ISO 2022-JP demands of the end of a line.
    Where a sender forgot to switch back, so does the first of the `delimiters` (field, component,
    repetition) where a character could begin: else it would swallow the fields behind it. Tells
    whether one forgot. Raises UnicodeDecodeError.
    """
    text: list[str] = []
    high, low, at = codec, b"(B", 0
    left_on = forgot = False  # what is in hand is never switched back, and was read so
    for piece in _PIECES.finditer(raw):
        text.append(raw[at : piece.start()].decode("latin-1"))  # blanks and control characters
        at = piece.end()
        switch, end, eight_bit, seven_bit = piece.groups()
        if switch in G0:
            low, left_on = switch, _is_left_on(raw, at, switch, delimiters)
        elif switch:
            high = G1[switch]
        elif end:
            high, low = codec, b"(B"
            text.append(end.decode("ascii"))
        elif eight_bit:
            text.append(eight_bit.decode(high))
        else:
            kept = _before_delimiter(seven_bit, low, delimiters) if left_on else len(seven_bit)
            text.append(_seven_bit(seven_bit[:kept], low))
            if kept < len(seven_bit):
                low, left_on, forgot = b"(B", False, True
                text.append(seven_bit[kept:].decode("ascii"))
    text.append(raw[at:].decode("latin-1"))
    return "".join(text), forgot


def _is_left_on(raw: bytes, start: int, low: bytes, delimiters: bytes) -> bool:
    """Whether a set is never switched back: its segment ends, or it is switched on once more.

    From one set of kanji to another the way may be direct; then only what cannot be kanji tells.
    """
    end = _NEXT.search(raw, start)
    if not G0[low] or end is None:
        return False
    if end[1] is None:
        return True
    if end[1] not in _MULTI_BYTE:
        return False
    run = raw[start : end.start()]
    kept = _before_delimiter(run, low, delimiters)
    return kept < len(run) and (len(run) % 2 == 1 or run[kept] == delimiters[0])


def _before_delimiter(part: bytes, low: bytes, delimiters: bytes) -> int:
    """Where the first delimiter stands at which a character could begin, else the length."""
    if low not in _MULTI_BYTE:  # katakana ends at 0x5F; what is ^ elsewhere is one of its letters
        found = (at for at, byte in enumerate(part) if byte in delimiters and byte > 0x5F)
    else:
        found = (at for at in range(0, len(part), 2) if part[at] in delimiters)
    return next(found, len(part))


def _seven_bit(part: bytes, low: bytes) -> str:
    codec = G0[low]
    if not codec:
        return part.decode("ascii")
    if codec == "katakana":
        return bytes(byte | 0x80 for byte in part).decode("shift_jis")
    try:
        return (ESC + low + part).decode(codec)
    except UnicodeDecodeError:
        if low not in (b"$@", b"$B"):
            raise
    return _microsoft(part)


def _microsoft(part: bytes) -> str:
    """JIS X 0208 with the rows that only Microsoft's fills (① ㈱ 髙), by way of Shift JIS."""
    moved = bytearray()
    for row, cell in zip(part[::2], part[1::2], strict=False):
        lead = ((row - 0x21) >> 1) + 0x81
        moved.append(lead if lead < 0xA0 else lead + 0x40)
        if row & 1:
            moved.append(cell + (0x1F if cell < 0x60 else 0x20))
        else:
            moved.append(cell + 0x7E)
    if len(part) % 2:
        moved.append(0x81)  # half a character is none: the codec says so
    return moved.decode("cp932")
