"""What the system is told of a sender's socket, and whether its bytes begin a message."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from broker.hl7.header import read_header
from broker.hl7.refusal import NotHL7
from broker.orders.limits import Limits


def prepare(transport: asyncio.Transport, limits: Limits) -> None:
    """Answers go out at once, and a peer that is gone is noticed."""
    transport.set_write_buffer_limits(high=0)  # drained means: with the kernel
    own: Any = transport.get_extra_info("socket")
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle, interval, probes = limits.keepalive_s
    for option, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        if hasattr(socket, option):  # not everywhere under these names
            own.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def says_to_whom(head: bytes) -> bool:
    """Whether there is a header; else nobody is there who would understand an answer."""
    try:
        read_header(head)
    except NotHL7:
        return False
    return True
