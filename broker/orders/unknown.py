"""What a sender is told with AA: that a message was taken, and still changed nothing."""

from __future__ import annotations

from broker.worklist.applied import FINISHED, STALE, Applied


def not_known(applied: Applied) -> str:
    """Say that what a message names is not known, '' when it is."""
    if "unknown order" in applied.notes:
        remembered = "; remembered for when it comes" if applied.buried else ""
        return f"no such order is known{remembered}"
    if "unknown step" in applied.notes:
        return "the order is known, but has no such procedure or step: nothing was changed"
    if STALE in applied.notes:
        return "older than what is known: what it says of that changes nothing"
    if FINISHED in applied.notes:
        return "every step of the order has ended: it is on no list"
    return ""
