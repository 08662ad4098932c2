"""`selftest`: an order of our own that goes all the way, again and again."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from broker.settings.tls import ClientTls
from broker.settings.values import Address, Called, Duration, Network, Section


class Selftest(Section):
    """How often it is run; not at all by itself without `every`.

    `sink` is where its status messages arrive, on this machine, `sender` MSH-3|MSH-4 of its order:
    the mapping of that sender is tested. A hop may take `deadline`. With `tls` it speaks to
    listeners that have no plain port, as any sender and scanner would.

    Where the doors are on several machines, `orders` and `modality` are where those of another one
    listen, and `peers` from where it may ask them. After `restart_after` failures in a row of what
    had held, the watchdog is not fed any more; 0 is never.
    """

    every: Annotated[Duration, Field(ge=timedelta(seconds=1))] | None = None
    sink: Called = Address("127.0.0.1", 2577)
    sender: Annotated[str, StringConstraints(pattern=r"^[^|\\^&~\r]{1,80}\|[^|\\^&~\r]{1,80}$")] = (
        "BROKER|SELFTEST"
    )
    deadline: Duration = timedelta(seconds=10)
    tls: ClientTls | None = None
    orders: Called | None = None
    modality: Called | None = None
    peers: tuple[Network, ...] = ()
    restart_after: int = Field(3, ge=0)
