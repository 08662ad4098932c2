"""A port for a server that has to be told its port before it listens."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_ANY = random.SystemRandom()  # the tests' own seed is the same in all processes
_BELOW_THOSE_FOR_PORT_0 = range(10_000, 32_000)


def free_port() -> int:
    """A port that nobody has now, and that the system gives to nobody who asks for any."""
    for _ in range(100):
        port = _ANY.choice(_BELOW_THOSE_FOR_PORT_0)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")
