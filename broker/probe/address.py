"""Where a peer listens, and what is said when nobody answers there."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """A TCP peer; prints as HOST:PORT (an IPv6 host in brackets)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Unreachable(Exception):
    """The peer could not be reached, hung up, or kept silent past the deadline."""

    def __init__(self, peer: Address, fact: str, remedy: str) -> None:
        super().__init__(f"{peer}: {fact}; {remedy}")
        self.peer = peer
        self.fact = fact


def parse_address(text: str) -> Address:
    """Read HOST:PORT; raises ValueError with the expected form."""
    from broker.settings.values import judge_host  # pydantic takes its time, and help is quick

    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"'{text}' is not an address; write HOST:PORT, e.g. 127.0.0.1:2575")
    judge_host(host.strip("[]"))
    return Address(host.strip("[]"), int(port))
