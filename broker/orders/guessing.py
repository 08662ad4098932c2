"""A sender's next new order is likely one of which nothing is known, as its last ones were.

Then the commit alone asks: it finds out that nothing is there, and writes, in one round trip. Where
the guess is wrong the commit says so, nothing is written, and the message is read for as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.worklist.changes import Action, Change

SURE_AFTER: Final = 3
"""New orders in a row of which nothing was known, before the next one is guessed to be such."""
MOST_SENDERS: Final = 200


class Guesses:
    """How many orders in a row nothing was known of, by sender."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}

    def is_new(self, sender: str, groups: Iterable[Change]) -> bool:
        """Tell whether nothing is likely to be known of a message."""
        return self._in_a_row.get(sender, 0) >= SURE_AFTER and _are_of_new_orders(groups)

    def learn(self, sender: str, groups: Iterable[Change], *, nothing_known: bool) -> None:
        """Remember whether anything was known of a message."""
        if not _are_of_new_orders(groups):
            return
        if not nothing_known:
            self._in_a_row.pop(sender, None)
        elif sender in self._in_a_row or len(self._in_a_row) < MOST_SENDERS:
            self._in_a_row[sender] = self._in_a_row.get(sender, 0) + 1


def _are_of_new_orders(groups: Iterable[Change]) -> bool:
    return all(group.action is Action.SCHEDULE and not group.numbering for group in groups)
