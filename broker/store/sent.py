"""What was sent of an order and what was answered: a short memory, so that it can be traced."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from broker.store import keys
from broker.store.call import Call

AT_MOST: Final = 64
"""Of one mailbox, the newest; deliver.lua holds it to that."""


class Sent(NamedTuple):
    """One message that a destination answered for good; times in epoch seconds.

    `note` is the state that was told, `verdict` done or park, `cause` the code that was answered
    (MSA-1, or a DIMSE status) and never the words, which may quote the message. `attempts` counts
    the tries, of which the last took `took_s`.
    """

    to: str
    control_id: str
    note: str
    created: float
    at: float
    verdict: str
    cause: str
    attempts: int
    took_s: float


def written(sent: Sent | None) -> str:
    """Write it as deliver.lua keeps it; none is kept for ''."""
    return json.dumps(sent) if sent else ""


def of(box: str) -> Call[list[Sent]]:
    """Give what was sent of a mailbox, the oldest first."""
    return Call(("LRANGE", keys.sent(box), 0, -1), _read)


def _read(reply: list[Any]) -> list[Sent]:
    return [Sent(*json.loads(line)) for line in reply]
