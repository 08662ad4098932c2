"""The DICOM listener: one process, many associations, each an own `Connection`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

from broker.dicom.dimse import DimseRequest, Response
from broker.dicom.negotiation import EXPLICIT_LITTLE, IMPLICIT_LITTLE, Policy, Services
from broker.modality.connection import Connection
from broker.modality.reception import (
    Association,
    Handler,
    Limits,
    Observe,
    Reception,
    observe_nothing,
)

__all__ = ["Association", "DimseRequest", "Handler", "Limits", "Observe", "Response", "Server"]


class Server:
    """One listening DICOM application entity.

    `handlers` maps (SOP class UID, DIMSE kind) to an async generator function; the SOP classes
    named there are what is negotiated, in Implicit and Explicit VR Little Endian. `observe` is
    told ('association' | 'request' | 'connection', labels, seconds) for metrics.
    """

    def __init__(
        self,
        handlers: Mapping[tuple[str, str], Handler],
        policy: Policy | None = None,
        limits: Limits | None = None,
        observe: Observe = observe_nothing,
    ) -> None:
        syntaxes = (IMPLICIT_LITTLE, EXPLICIT_LITTLE)
        services = Services({sop_class: syntaxes for sop_class, _kind in handlers})
        self._reception = Reception(
            handlers, services, policy or Policy(), limits or Limits(), observe
        )
        self._listener: asyncio.Server | None = None

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        reuse_port: bool = False,
    ) -> tuple[str, int]:
        """Listen; return the address that is bound (port 0 picks one). Raises OSError."""
        loop = asyncio.get_running_loop()
        limits = self._reception.limits
        self._listener = await loop.create_server(
            lambda: Connection(self._reception),
            host,
            port,
            backlog=limits.backlog,
            reuse_port=reuse_port or None,
            ssl=tls,
            ssl_handshake_timeout=limits.association_s if tls else None,
        )
        bound = self._listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self, grace_s: float = 10.0) -> None:
        """Stop listening, let running requests end within `grace_s`, then abort what is left."""
        reception = self._reception
        reception.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(reception.connections):
            if not connection.busy:
                connection.abort("stopping")
        await self._finish(grace_s)
        for connection in tuple(reception.connections):
            connection.abort("stopping")
        await self._see_off()

    async def _finish(self, grace_s: float) -> None:
        """Wait for the requests that are being served, then cancel those that are left."""
        loop = asyncio.get_running_loop()
        end, tasks = loop.time() + grace_s, self._reception.tasks
        while tasks and loop.time() < end:
            await asyncio.wait(tuple(tasks), timeout=end - loop.time())
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
            connection.close_now()
        await asyncio.gather(*late)
