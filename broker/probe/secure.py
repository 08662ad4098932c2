"""TLS of the pretend RIS and the pretend scanner, as an engineer says it in one option."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from broker.probe.address import Address, Unreachable
from broker.settings.tls import ClientTls
from broker.tls.credentials import client_context
from broker.tls.handshakes import fact_of

SYSTEM: Final = "system"
_REMEDY: Final = "check --tls, and the log of the peer"


@dataclass(frozen=True)
class Secure:
    """A context, and the name that the peer's certificate has to have when it is not its host."""

    context: ssl.SSLContext
    server_name: str = ""

    def of(self, to: Address) -> tuple[ssl.SSLContext, str]:
        """The context and the name for one peer."""
        return self.context, self.server_name or to.host

    def wrapped(self, connection: socket.socket, to: Address) -> socket.socket:
        """Shake hands over a connection. Raises Unreachable."""
        context, name = self.of(to)
        try:
            return context.wrap_socket(connection, server_hostname=name)
        except OSError as problem:  # ssl.SSLError and TimeoutError are OSErrors
            connection.close()
            raise Unreachable(to, f"TLS: {fact_of(problem)}", _REMEDY) from problem

    def trial(self, to: Address, deadline_s: float) -> Unreachable | None:
        """Why a peer does not speak TLS with us; None when it does, or is not there."""
        try:
            connection = socket.create_connection(to, deadline_s)
        except OSError:
            return None
        try:
            with suppress(TimeoutError), self.wrapped(connection, to) as secured:
                secured.settimeout(0.5)  # with TLS 1.3 our certificate is judged after we are done
                if not secured.recv(1):
                    raise EOFError
        except Unreachable as problem:
            return problem
        except (OSError, EOFError):
            return hung_up(to)
        return None


def hung_up(to: Address) -> Unreachable:
    """What may be wrong where a peer ends a connection before it has said anything over it."""
    fact = "TLS: it hung up after the handshake; does it want a certificate, or another?"
    return Unreachable(to, fact, _REMEDY)


def read_secure(text: str) -> Secure:
    """Read `ca=FILE,certificate=FILE,key=FILE,server_name=NAME`, or `system`.

    Raises ValueError for what is not so written, Unusable for files that cannot be used.
    """
    said = {} if text == SYSTEM else dict(_pair(each) for each in text.split(","))
    try:
        tls = ClientTls.model_validate(said)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}".removeprefix(": ")) from wrong
    return Secure(client_context(tls), tls.server_name)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise ValueError(f"'{text}' is not NAME=VALUE, for example ca=ca.pem")
    return name.strip(), value
