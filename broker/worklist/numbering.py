"""Accession numbers of our own, for orders that come without one: counted, never cut."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 16  # VR SH
DIGITS: Final = re.compile("#+")


def number_by(pattern: str, count: int) -> str:
    """Write a count in the place of the # of a pattern; it may need more digits than there are."""
    return DIGITS.sub(lambda run: f"{count:0{len(run[0])}}", pattern, count=1)
