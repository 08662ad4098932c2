"""The DICOM listener: one process, many associations, each an own `Connection`."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping

import structlog

from broker.dicom.dimse import DimseRequest, Response
from broker.dicom.negotiation import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Services
from broker.modality.admission import Admission
from broker.modality.connection import Connection
from broker.modality.reception import (
    Association,
    Handler,
    Limits,
    Observe,
    Reception,
    observe_nothing,
)
from broker.tls.handshakes import Bounds, Contexts, SecureListener

__all__ = [
    "Admission",
    "Association",
    "DimseRequest",
    "Handler",
    "Limits",
    "Observe",
    "Response",
    "Server",
]


log = structlog.get_logger("modality")

SPARE_DESCRIPTORS = 128  # for what is no scanner, and for those that are refused


def make_room(descriptors: int) -> None:
    """Raise this process's soft limit of open files to so many, as far as the hard one lets us.

    A shell's usual 1,024 ends before our own limits do, and whoever connects then is not even told.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in (resource.RLIM_INFINITY, hard) and soft < descriptors:
        most = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server:
    """One listening DICOM application entity.

    `handlers` maps (SOP class UID, DIMSE kind) to an async generator function; the SOP classes
    named there are what is negotiated, in Implicit and Explicit VR Little Endian. `observe` is
    told ('association' | 'request' | 'connection' | 'handshake', labels, seconds) for metrics.
    """

    def __init__(
        self,
        handlers: Mapping[tuple[str, str], Handler],
        admission: Admission | None = None,
        limits: Limits | None = None,
        observe: Observe = observe_nothing,
    ) -> None:
        syntaxes = (IMPLICIT_LITTLE, EXPLICIT_LITTLE)
        services = Services({sop_class: syntaxes for sop_class, _kind in handlers})
        self._reception = Reception(
            handlers, services, admission or Admission(), limits or Limits(), observe
        )
        self._listeners: list[asyncio.Server] = []
        self._secure: list[SecureListener] = []

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: Contexts | None = None,
        reuse_port: bool = False,
    ) -> tuple[str, int]:
        """Listen; return the address that is bound (port 0 picks one). Raises OSError.

        May be called again for a further port.
        """
        loop = asyncio.get_running_loop()
        limits = self._reception.limits
        make_room(limits.connections + SPARE_DESCRIPTORS)
        if tls is not None:
            secure = SecureListener(
                lambda: Connection(self._reception), tls, _bounds(limits), failed=self._not_secure
            )
            self._secure.append(secure)
            return secure.start(host, port, backlog=limits.backlog, reuse_port=reuse_port)
        listener = await loop.create_server(
            lambda: Connection(self._reception),
            host,
            port,
            backlog=limits.backlog,
            reuse_port=reuse_port or None,
        )
        self._listeners.append(listener)
        bound = listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self, grace_s: float = 10.0) -> None:
        """Stop listening, let running requests end within `grace_s`, then abort what is left."""
        reception = self._reception
        reception.stopping = True
        for listener in self._listeners:
            listener.close()
        for secure in self._secure:
            await secure.close()
        for connection in tuple(reception.connections):
            if not connection.busy:
                connection.abort("stopping")
        await self._finish(grace_s)
        for connection in tuple(reception.connections):
            connection.abort("stopping")
        await self._see_off()

    def _not_secure(self, address: str, fact: str) -> None:
        say = log.warning if self._reception.warns(address, fact) else log.info
        say("handshake failed", address=address, reason=fact)
        self._reception.observe("handshake", {"address": address, "reason": fact}, 0.0)

    async def _finish(self, grace_s: float) -> None:
        """Wait for the requests that are being served, then cancel those that are left."""
        loop = asyncio.get_running_loop()
        end, tasks = loop.time() + grace_s, self._reception.tasks
        while tasks and loop.time() < end:
            await asyncio.wait(tuple(tasks), timeout=end - loop.time())
        while tasks:  # one that ended all the same lets the next of its peer begin
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tuple(tasks), return_exceptions=True)

    async def _see_off(self) -> None:
        """Give the last bytes a moment to go out, then close whatever is still open."""
        waiting = [asyncio.ensure_future(c.closed.wait()) for c in self._reception.connections]
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=1.0)
        for connection in tuple(self._reception.connections):
            connection.drop("stopping")
        await asyncio.gather(*late)


def _bounds(limits: Limits) -> Bounds:
    """A handshake may take as long as a peer has for its A-ASSOCIATE-RQ."""
    return Bounds(limits.association_s, limits.connections, limits.connections_per_address)
