"""CNS 11643 (Taiwan) in its EUC form, which Python has no codec for, read by way of Big5.

Planes 1 and 2 hold the characters of Big5 in nearly the same order (RFC 1922); the other planes
hold none that Big5 has.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from typing import Any, Final

CODEC: Final = "euc_tw"
CNS_ROW: Final = 94
BIG5_ROW: Final = 157
NO_CHARACTER: Final = b"\xff"

# plane → runs of (first place in CNS, first place in Big5, how many), places counted from 0
RUNS: Final[dict[int, tuple[tuple[int, int, int], ...]]] = {
    1: (
        *((0, 0, 73), (73, 74, 1), (74, 73, 1), (75, 75, 52), (127, 128, 1), (128, 127, 1)),
        *((129, 129, 19), (148, 149, 1), (149, 148, 1), (150, 150, 84), (282, 234, 174)),
        *((3290, 471, 1412), (4702, 1884, 424), (5126, 1883, 1), (5127, 2308, 1876)),
        *((7003, 4571, 1), (7004, 4184, 387), (7391, 4572, 525), (7916, 5286, 1)),
        *((7917, 5097, 189), (8106, 5287, 84), (8190, 5517, 1), (8191, 5371, 54)),
        *((8245, 5426, 1), (8246, 5425, 1), (8247, 5427, 90), (8337, 5518, 354)),
    ),
    2: (
        *((0, 6280, 10), (10, 6291, 33), (43, 6372, 1), (44, 6324, 48), (92, 6373, 46)),
        *((138, 6586, 1), (139, 6419, 167), (306, 6587, 1840), (2146, 9074, 1)),
        *((2147, 8428, 108), (2255, 8537, 537), (2792, 8427, 1), (2793, 9075, 100)),
        *((2893, 8536, 1), (2894, 9175, 399), (3293, 9575, 1637), (4930, 11761, 1)),
        *((4931, 11212, 146), (5077, 11899, 1), (5078, 11358, 287), (5365, 12508, 1)),
        *((5366, 11645, 116), (5482, 11762, 137), (5619, 11900, 104), (5723, 12425, 1)),
        *((5724, 12004, 222), (5946, 12227, 198), (6144, 12426, 82), (6226, 12509, 86)),
        *((6312, 12226, 1), (6313, 12595, 8), (6321, 12604, 153), (6474, 12758, 56)),
        *((6530, 13114, 1), (6531, 12814, 113), (6644, 12603, 1), (6645, 12927, 142)),
        *((6787, 12757, 1), (6788, 13069, 45), (6833, 13115, 71), (6904, 13380, 1)),
        *((6905, 13186, 194), (7099, 13381, 490), (7589, 13914, 1), (7590, 13871, 43)),
        *((7633, 13915, 1), (7634, 13917, 11), (7645, 13916, 1), (7646, 13928, 4)),
    ),
}
_STARTS: Final = {plane: [run[0] for run in runs] for plane, runs in RUNS.items()}
_CHARACTER: Final = re.compile(rb"(?:\x8e([\xa1-\xaf]))?([\xa1-\xfe])([\xa1-\xfe])")


def register() -> None:
    """Make Python know the codec `euc_tw`, for reading only; twice is once."""
    codecs.unregister(_found)
    codecs.register(_found)


def _found(name: str) -> codecs.CodecInfo | None:
    if name != CODEC:
        return None
    return codecs.CodecInfo(name=CODEC, encode=_encode, decode=_decode)


def _decode(raw: Any, errors: str = "strict") -> tuple[str, int]:
    raw = bytes(raw)
    return _CHARACTER.sub(_big5, raw).decode("cp950", errors), len(raw)


def _encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    # our own words to a sender are ASCII; nobody has to be answered in Chinese
    return text.encode("ascii", errors), len(text)


def _big5(character: re.Match[bytes]) -> bytes:
    plane = character[1][0] - 0xA0 if character[1] else 1
    place = (character[2][0] - 0xA1) * CNS_ROW + character[3][0] - 0xA1
    number = bisect_right(_STARTS.get(plane, []), place) - 1
    if number < 0:
        return NO_CHARACTER
    first, big5, count = RUNS[plane][number]
    if place >= first + count:
        return NO_CHARACTER
    row, cell = divmod(big5 + place - first, BIG5_ROW)
    return bytes([0xA1 + row, cell + 0x40 if cell < 63 else cell - 63 + 0xA1])
