"""The word that was meant: the closest of those that are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import takewhile

LONGEST_COMPARED = 100


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint that names the closest of `choices`, or ''."""
    close = meant(word, choices)
    return f"did you mean '{close}'?" if close else ""


def meant(word: str, choices: Iterable[str]) -> str:
    """The closest of `choices`, of equally close ones that with the same beginning, or ''."""
    known = {choice.lower(): choice for choice in choices}
    folded = word.lower()[:LONGEST_COMPARED]
    close = difflib.get_close_matches(folded, known, n=3, cutoff=0.6)

    def likeness(other: str) -> tuple[float, int]:
        ratio = difflib.SequenceMatcher(None, other, folded).ratio()
        alike = sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(other, folded, strict=False))
        )
        return round(ratio, 6), alike

    return known[max(close, key=likeness)] if close else ""
