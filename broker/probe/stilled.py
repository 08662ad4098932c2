"""pynetdicom's own thread kept from answers that its `send_*` methods wait for."""

from __future__ import annotations

import threading
import time
from typing import Final

from pynetdicom.association import Association

BEGUN_S: Final = 10.0
LOOK_S: Final = 0.005


def stilled(association: Association) -> Association:
    """Give an association of a requestor whose thread takes no more messages, till it is over.

    `send_c_find` and the like pause that thread, but it says that it is paused a moment before it
    is. What is answered faster than that it takes for a request, and the asker waits in vain.
    """
    if association.is_established:
        still = _Still(association)
        association._reactor_checkpoint = still
        still.begun.wait(BEGUN_S)
    return association


class _Still(threading.Event):
    """Never set for the thread that waits for it."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self.begun = threading.Event()
        self._association = association

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - Event
        """Wait till the association is over, whatever anyone sets."""
        self.begun.set()
        while not self._association._kill:
            time.sleep(LOOK_S)
        return True
