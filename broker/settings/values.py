"""What stands behind the keys: addresses, sizes, spans, networks, and the frozen block."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, StringConstraints

SIZE_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
TIME_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
LONGEST_HOST = 253


IPNetwork = IPv4Network | IPv6Network


class Address(NamedTuple):
    """Where to listen or whom to call. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(value: object) -> Address:
    """HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    if isinstance(value, Address):
        return value
    host, colon, port = str(value).rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in bare and bare == host):
        raise ValueError("an address is HOST:PORT, for example 127.0.0.1:2575 or [::1]:2575")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("the port is a number from 0 to 65535")
    judge_host(bare)
    return Address(bare, int(port))


def read_called(value: object) -> Address:
    """The address of somebody whom we call, where port 0 is nobody's. Raises ValueError."""
    address = read_address(value)
    if not address.port:
        raise ValueError("the port is that of somebody who listens: a number from 1 to 65535")
    return address


def judge_host(host: str) -> None:
    """See that it is a name (RFC 1123 2.1), or an address of IPv4 or IPv6. Raises ValueError."""
    labels = host.removesuffix(".").split(".")
    named = len(host) <= LONGEST_HOST and all(map(LABEL.fullmatch, labels))
    if named and not labels[-1].isdigit():
        return
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(
            "the host is a name as ris.hospital.example, or an address as 10.1.2.3 or [fd00::1]"
        ) from None


def read_size(value: object) -> object:
    """A count of bytes, or a number with KiB, MiB or GiB."""
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(value))
    if found is None or found[2].upper() not in SIZE_UNITS:
        raise ValueError("a size is bytes, or a number with KiB, MiB or GiB")
    return int(found[1]) * SIZE_UNITS[found[2].upper()]


def read_duration(value: object) -> object:
    """Seconds, or a number with s, m, h or d."""
    if isinstance(value, timedelta):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value))
    if found is None:
        raise ValueError("a time span is a number with s, m, h or d, for example 30d")
    return timedelta(seconds=float(found[1]) * TIME_UNITS[found[2] or "s"])


def read_zone(value: object) -> ZoneInfo:
    """An IANA time zone. Raises ValueError."""
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("not a time zone; one is named like Europe/Berlin") from error


def read_network(value: object) -> IPNetwork:
    """A network or one address of it. Raises ValueError."""
    try:
        return ip_network(str(value), strict=False)
    except ValueError as error:
        raise ValueError("a network is written like 10.1.0.0/16 or 10.1.2.3") from error


Endpoint = Annotated[Address, PlainValidator(read_address)]
Called = Annotated[Address, PlainValidator(read_called)]
Network = Annotated[IPNetwork, PlainValidator(read_network)]
Size = Annotated[int, BeforeValidator(read_size)]
Duration = Annotated[timedelta, BeforeValidator(read_duration)]
Zone = Annotated[ZoneInfo, PlainValidator(read_zone)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


def read_ae_title(value: object) -> str:
    """An AE title (PS3.5 6.2). Raises ValueError for what cannot be one."""
    title = value.strip() if isinstance(value, str) else ""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise ValueError("an AE title is 1 to 16 characters of ASCII, and no backslash")
    return title


AeTitle = Annotated[str, PlainValidator(read_ae_title)]


def read_names(value: object) -> object:
    """A name, or a list of them."""
    return (value,) if isinstance(value, str) else value


Names = Annotated[
    tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ...],
    BeforeValidator(read_names),
]


class Section(BaseModel):
    """A block of the configuration: frozen, and nothing unknown in it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True
    )
