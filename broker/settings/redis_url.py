"""Whether the URL of a Redis can be one, told in words that hold nothing of it: a password may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator

from broker.settings.values import judge_host

EXAMPLE: Final = "for example redis://127.0.0.1:6379/0"
ESCAPED: Final = (
    "a password with @ : / ? # [ or % in it is written with percent escapes (%40 for @), "
    "or stands beside, in password_file"
)
DATABASE: Final = re.compile(r"[0-9]{1,9}")
_ODD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ZONE: Final = re.compile(r"(?<=[/@])\[[0-9A-Fa-f:.]+%[^]/@]+\]")
"""An address of IPv6 with its zone, whose % is no escape (RFC 4007 11.2)."""
_ANY: Final = re.compile(r".+")
OPTIONS: Final[Mapping[str, re.Pattern[str]]] = {
    "db": DATABASE,
    "username": _ANY,
    "password": _ANY,
    "ssl_ca_certs": _ANY,
    "ssl_ca_path": _ANY,
    "ssl_certfile": _ANY,
    "ssl_keyfile": _ANY,
    "ssl_password": _ANY,
    "ssl_cert_reqs": re.compile("none|optional|required"),
    "ssl_check_hostname": re.compile("true|false|yes|no|1|0", re.IGNORECASE),
}
"""What may stand behind the `?`, and how. All else is the broker's to say, as deadlines are."""


def read_redis_url(url: str) -> str:
    """The URL, if it names a server (redis, rediss) or a socket (unix). Raises ValueError."""
    if not url:
        return url
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(f"the url begins with redis://, rediss:// or unix:// — {EXAMPLE}")
    parts, port = _parted(url)
    if parts.scheme == "unix":
        _judge_socket(parts)
    else:
        _judge_server(parts, port)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        form = OPTIONS.get(name)
        if form is None or (name.startswith("ssl_") and parts.scheme != "rediss"):
            raise ValueError(f"behind the ? of the url stands what is no option — {_known(parts)}")
        if not form.fullmatch(value):
            raise ValueError(f"{name} in the url has a value that cannot be")
    return url


def _parted(url: str) -> tuple[SplitResult, int | None]:
    """The parts of a URL, and its port; what the library says of a bad one would quote it."""
    of_a_path = url.startswith("unix://") and url == url.strip()
    if not url.isprintable() or (" " in url and not of_a_path):
        raise ValueError(f"the url has a blank or a control character in it — {ESCAPED}")
    try:
        unquote(url, errors="strict")
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"the url cannot be read — {ESCAPED}") from None
    if _ODD_ESCAPE.search(_ZONE.sub("", url)) or parts.fragment or url.endswith("#"):
        raise ValueError(f"the url has a % or # that means nothing there — {ESCAPED}")
    try:
        return parts, parts.port
    except ValueError:
        raise ValueError(
            f"the port of the url is a number from 1 to 65535, {EXAMPLE} — {ESCAPED}"
        ) from None


def _judge_server(parts: SplitResult, port: int | None) -> None:
    if not parts.hostname:
        raise ValueError(f"the url names no host — {EXAMPLE}")
    if port == 0:
        raise ValueError(f"the port of the url is a number from 1 to 65535 — {EXAMPLE}")
    judge_host(parts.hostname)
    database = parts.path.strip("/")
    if database and not DATABASE.fullmatch(database):
        raise ValueError(f"the url ends in the number of a database — {EXAMPLE}")


def _judge_socket(parts: SplitResult) -> None:
    """Of `unix://run/redis.sock` the first folder would be taken for a host, and be left out."""
    if parts.netloc.rpartition("@")[2] or parts.path in ("", "/"):
        raise ValueError("a socket is a whole path — for example unix:///run/redis/redis.sock")


def _known(parts: SplitResult) -> str:
    known = (name for name in OPTIONS if parts.scheme == "rediss" or not name.startswith("ssl_"))
    return f"known: {', '.join(known)}"


RedisUrl = Annotated[str, AfterValidator(read_redis_url)]
