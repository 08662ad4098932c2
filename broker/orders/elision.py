"""What the archive keeps of a large message: everything but the payloads nobody maps."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

LONGEST_FIELD: Final = 4096
UNRECOGNISED: Final = 4096
LONGEST_MESSAGE: Final = 256 * 1024
MARK: Final = re.compile(r"\[\d+ bytes left out\]")
"""What stands in the place of a payload."""


class Kept(NamedTuple):
    """The bytes to keep; `cut` when more is missing than payloads, so that they are no message."""

    raw: bytes
    cut: bool


def elided(raw: bytes, *, recognised: bool) -> Kept:
    """Shorten OBX fields of over 4 KiB (embedded documents) to a note of their length.

    Of bytes that are not HL7 the first 4 KiB are kept.
    """
    if not recognised:
        return Kept(raw[:UNRECOGNISED], len(raw) > UNRECOGNISED)
    if len(raw) <= LONGEST_FIELD:
        return Kept(raw, False)
    shortened = b"\r".join(_segment(line) for line in raw.split(b"\r"))
    return Kept(shortened[:LONGEST_MESSAGE], len(shortened) > LONGEST_MESSAGE)


def _segment(line: bytes) -> bytes:
    if len(line) <= LONGEST_FIELD or not line.startswith((b"OBX", b"\nOBX")):
        return line
    return b"|".join(
        field if len(field) <= LONGEST_FIELD else b"[%d bytes left out]" % len(field)
        for field in line.split(b"|")
    )
