"""What is wrong or risky about a configuration, before a broker is started with it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from broker.mapping.text.nodes import Node
from broker.settings import Address, Settings
from broker.settings.origins import said
from broker.settings.secrets import HIDDEN
from broker.settings.store import Redis
from broker.settings.tls import ClientTls, ServerTls
from broker.store import external
from broker.store.stamping import ServerProblem
from broker.tls.credentials import Unusable, context_of


class Wrong(Exception):
    """A broker would not start with this configuration; carries the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def risks(settings: Settings, tree: Node | None = None) -> list[str]:
    """One sentence for each risk, with what to do; `tree` is what was read. Raises Wrong."""
    return [
        *_of_files(settings),
        *_of_written_secrets(settings, tree),
        *_of_ports(settings),
        *_of_peers(settings),
        *_of_redis(settings),
        *_of_selftest(settings),
    ]


def secured(settings: Settings) -> Iterator[tuple[str, ServerTls | ClientTls]]:
    """Every block of TLS with the name of what it is of."""
    audit = settings.audit
    named: list[tuple[str, ServerTls | ClientTls | None]] = [
        *((f"hl7.listeners.{n}", each.tls) for n, each in enumerate(settings.hl7.listeners)),
        ("dicom", settings.dicom.tls),
        *((f"ris.{ris.name}", ris.tls) for ris in settings.ris),
        *((f"updates.forward.{to.name}", to.tls) for to in settings.updates.forward),
        ("console", settings.console.tls),
        ("redis", settings.redis.tls),
        ("selftest", settings.selftest.tls),
        ("redis.sentinel", settings.redis.sentinel.tls if settings.redis.sentinel else None),
        ("audit", audit.tls if (audit.to, audit.transport) == ("syslog", "tls") else None),
    ]
    yield from ((use, tls) for use, tls in named if tls is not None)


def _of_files(settings: Settings) -> Iterator[str]:
    held: dict[Path, str] = {}
    for use, tls in secured(settings):
        try:
            context_of(tls)
        except Unusable as problem:
            raise Wrong(os.EX_CONFIG, f"{use}.tls: {problem}") from problem
        if key := tls.key or tls.certificate:
            held[key] = f"{use}.tls"
    for place, section in (
        ("redis", settings.redis),
        ("redis.sentinel", settings.redis.sentinel),
        ("console", settings.console),
    ):
        if section is not None and section.password_file:
            held[section.password_file] = f"{place}.password_file"
    for path, use in held.items():
        yield from _if_open_to_others(use, path)


def _of_written_secrets(settings: Settings, tree: Node | None) -> Iterator[str]:
    """The file of the settings, where a password stands in it."""
    if tree is None:
        return
    for one in said(settings, tree):
        path = Path(one.origin.rpartition(":")[0])
        if HIDDEN in one.value and path.is_file():
            yield from _if_open_to_others(one.key, path)


def _if_open_to_others(use: str, path: Path) -> Iterator[str]:
    found = path.stat()
    others = stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH
    if found.st_uid == os.geteuid():
        if found.st_mode & (others | stat.S_IRGRP):
            yield f"{use}: {path} is open to others than its owner; chmod 600"
    elif found.st_mode & others:  # install.sh: root owns it, and our group is how we read it
        yield f"{use}: {path} is open to others than its group; chmod 640"


def _of_ports(settings: Settings) -> Iterator[str]:
    for number, listener in enumerate(settings.hl7.listeners):
        if _is_open(listener.listen) and not listener.tls and not listener.peers:
            fact = "takes orders from anybody who reaches it, in clear"
            yield f"hl7.listeners.{number}: {listener.listen} {fact}; say tls, or peers"
    dicom = settings.dicom
    if dicom.plain and _is_open(dicom.listen):
        yield f"dicom: {dicom.listen} shows patients in clear; say tls and plain: false"
    console = settings.console
    if _is_open(console.listen) and not console.password.get_secret_value():
        yield f"console: {console.listen} is open to anybody who reaches it; say a password"
    if _is_open(console.listen) and not console.tls:
        yield f"console: {console.listen} is read in clear; say tls, or keep it on 127.0.0.1"
    audit = settings.audit
    if audit.to == "syslog" and audit.transport == "udp" and audit.host and _is_open(audit.host):
        yield f"audit: {audit.host} is told of patients in clear; say transport: tls"


def _of_peers(settings: Settings) -> Iterator[str]:
    dicom = settings.dicom
    at = [*([dicom.listen] if dicom.plain else []), *([dicom.tls.listen] if dicom.tls else [])]
    if dicom.unknown_ae == "accept" and any(map(_is_open, at)):
        yield "dicom: any AE title gets the worklist; say unknown_ae: refuse, and the AEs"
    for ris in settings.ris:
        if not ris.tls and _is_open(ris.to):
            yield f"ris.{ris.name}: {ris.to} is sent status messages in clear; say tls"
    for scp in settings.updates.forward:
        if not scp.tls and _is_open(scp.to):
            yield f"updates.forward.{scp.name}: {scp.to} is sent MPPS in clear; say tls"


def _of_redis(settings: Settings) -> Iterator[str]:
    redis = settings.redis
    if redis.is_ours:
        return
    if _in_clear(redis):
        remedy = "say redis.tls" if redis.sentinel else "say a rediss:// url and tls"
        yield f"redis: records of patients cross the network in clear; {remedy}"
    if redis.sentinel and not redis.sentinel.replicas:
        yield "redis.sentinel: replicas: 0 loses acknowledged orders when the master dies; say 1"
    try:
        yield from (f"redis: {each}" for each in external.objections(redis.full_url))
        yield from (f"redis: {each}" for each in external.remarks(redis.full_url))
    except ServerProblem as problem:
        raise Wrong(os.EX_UNAVAILABLE, f"{redis.place}: {problem}") from problem


def _in_clear(redis: Redis) -> bool:
    if redis.sentinel:
        return not redis.tls
    url = urlsplit(redis.url)
    return url.scheme == "redis" and _is_open(Address(url.hostname or "localhost", 0))


def _of_selftest(settings: Settings) -> Iterator[str]:
    """A self-test that no listener lets in, since none speaks without TLS."""
    tested = settings.selftest
    if tested.every and not tested.tls:
        for use, plain in (
            ("hl7", any(not each.tls for each in settings.hl7.listeners)),
            ("dicom", settings.dicom.plain),
        ):
            if not plain:
                yield f"selftest: {use} has no listener without TLS; say selftest.tls"


def _is_open(address: Address) -> bool:
    """Whether others than this machine are at the other end."""
    try:
        return not ip_address(address.host).is_loopback
    except ValueError:
        return address.host != "localhost"
