"""PEM files as a TLS context that follows them: what is renewed counts for the next connection."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from broker.settings.tls import ClientTls, ServerTls, Tls
from broker.tls import validity

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Those of TLS 1.2 (RFC 9325 4.2); those of 1.3 are all good."""
LOOK_S: Final = 1.0
"""How often files are looked at, at most."""
SOON_DAYS: Final = 30
"""From which on a certificate ends soon; the alert rules that ship say the same."""
REMIND_S: Final = 86400.0

log = structlog.get_logger("tls")

Clock = Callable[[], datetime]


class Unusable(Exception):
    """Files from which no context can be made; says which, why, and what to do."""


def context_of(tls: ServerTls | ClientTls) -> ssl.SSLContext:
    """The context of either side. Raises Unusable."""
    return server_context(tls) if isinstance(tls, ServerTls) else client_context(tls)


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """A context for who listens (PS3.15 B.12). Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # Resuming would carry a peer past the end of its certificate, and past a renewal of ours.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, tls)
    demands = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}
    context.verify_mode = demands.get(tls.client, ssl.CERT_NONE)
    return context


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """A context for who connects; the server has to prove its name. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if tls.ca is None:
        context.load_default_certs()
    _load(context, tls)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    for path in _files(tls):
        try:
            path.read_bytes()
        except OSError as error:
            raise Unusable(f"{path}: {error.strerror}") from error
    try:
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key, password=_never_asked)
    except ssl.SSLError as error:
        raise Unusable(f"{tls.key or tls.certificate}: {_fact(error)}") from error
    except _Encrypted:
        raise Unusable(f"{tls.key or tls.certificate}: the key is encrypted; {_DECRYPT}") from None
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
    except ssl.SSLError as error:
        raise Unusable(f"{tls.ca}: no certificate in it; it is a file of PEM") from error


class _Encrypted(Exception):
    """OpenSSL wants a passphrase, which it would ask the terminal for."""


_DECRYPT = "give it without passphrase in a file that only the broker's user can read"


def _never_asked() -> str:
    raise _Encrypted


def _fact(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate; name those of one pair"
    return "no certificate and key can be read from it; both are PEM"


def _files(tls: Tls) -> Iterator[Path]:
    yield from dict.fromkeys(path for path in (tls.certificate, tls.key, tls.ca) if path)


class Credentials:
    """The context of one listener or destination; `use` is the setting that names its files.

    New files are taken when they make a context; else the old one stays, and the log says why.
    """

    def __init__(
        self,
        use: str,
        tls: ServerTls | ClientTls,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        look_s: float = LOOK_S,
    ) -> None:
        """Load the files. Raises Unusable."""
        self.use, self.tls = use, tls
        self._clock, self._look_s = clock, look_s
        self._looked = time.monotonic()
        self._seen = self._signature()
        self._ends: dict[str, datetime] = {}
        self._reminded = -REMIND_S
        try:
            self._context = self._made()
        except Unusable as problem:
            raise Unusable(f"{use}.tls: {problem}") from problem
        self._remind()

    def context(self) -> ssl.SSLContext:
        """The context for a connection that begins now."""
        self._look()
        return self._context

    def days_left(self) -> dict[str, float]:
        """For each file of certificates, by its name, how many days the first to end has left."""
        self._look()
        return {name: self._left(end) for name, end in self._ends.items()}

    def _left(self, end: datetime) -> float:
        return round((end - self._clock()).total_seconds() / 86400, 2)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._look_s:
            return
        self._looked = now
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            self._renew()
        self._remind()

    def _renew(self) -> None:
        try:
            self._context = self._made()
        except Unusable as problem:
            remedy = "the former one stays in use; mend the files"
            log.error("certificate not renewed", use=self.use, why=str(problem), remedy=remedy)
            return
        self._reminded = -REMIND_S
        log.info("certificate renewed", use=self.use, days_left=min(self._ends_in(), default=None))

    def _made(self) -> ssl.SSLContext:
        context = context_of(self.tls)
        found: dict[str, datetime] = {}
        for path in filter(None, (self.tls.certificate, self.tls.ca)):
            if end := validity.ends(path.read_text(encoding="ascii", errors="replace")):
                found[path.name] = end
        self._ends = found
        return context

    def _ends_in(self) -> list[float]:
        return [self._left(end) for end in self._ends.values()]

    def _remind(self) -> None:
        """Say once a day what ends soon, or has ended."""
        if time.monotonic() - self._reminded < REMIND_S:
            return
        self._reminded = time.monotonic()
        for name, end in self._ends.items():
            if (left := self._left(end)) < SOON_DAYS:
                say = log.error if left < 0 else log.warning
                event = "certificate has ended" if left < 0 else "certificate ends soon"
                remedy = "renew it: the new file is taken without a restart"
                say(event, use=self.use, file=name, days_left=left, remedy=remedy)

    def _signature(self) -> tuple[object, ...]:
        """What changes when a file does, also one that is reached through links."""
        found: list[object] = []
        for path in _files(self.tls):
            try:
                at = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((at.st_ino, at.st_mtime_ns, at.st_size))
        return tuple(found)
