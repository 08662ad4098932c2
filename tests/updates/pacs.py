"""Another SCP that takes MPPS: pynetdicom's, which keeps what came byte for byte."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from broker.settings import Address, Forward

MPPS = "1.2.840.10008.3.1.2.3.3"
BOTH = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
ANYWHERE = Address("127.0.0.1", 0)
LOSE = -1
"""In place of a status: the connection is cut instead of an answer."""


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    operation: str
    uid: str
    data: bytes
    syntax: str
    association: object
    calling: str


@dataclass
class Pacs:
    """Answers 0000, or what `next` says; remembers every request."""

    address: Address = ANYWHERE
    next: deque[int] = field(default_factory=deque)
    got: list[Got] = field(default_factory=list)
    server: Any = None

    def start(
        self,
        syntaxes: Sequence[str] = BOTH,
        *,
        called: str = "",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        ae = AE("PACS")
        ae.add_supported_context(MPPS, list(syntaxes))
        ae.require_called_aet = bool(called)
        handlers = [(evt.EVT_N_CREATE, self._create), (evt.EVT_N_SET, self._set)]
        self.server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls
        )
        self.address = Address(*self.server.server_address[:2])

    def stop(self) -> None:
        self.server.shutdown()

    def operations(self) -> list[str]:
        return [each.operation for each in self.got]

    def _create(self, event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        uid, data = request.AffectedSOPInstanceUID, request.AttributeList
        return self._answer("N-CREATE", str(uid), data, event)

    def _set(self, event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        uid, data = request.RequestedSOPInstanceUID, request.ModificationList
        return self._answer("N-SET", str(uid), data, event)

    def _answer(
        self, operation: str, uid: str, data: Any, event: Any
    ) -> tuple[int, Dataset | None]:
        raw = data.getvalue() if data else b""
        syntax = str(event.context.transfer_syntax)
        calling = event.assoc.requestor.ae_title
        self.got.append(Got(operation, uid, raw, syntax, event.assoc, calling))
        status = self.next.popleft() if self.next else 0x0000
        if status == LOSE:
            event.assoc.abort()
            status = 0x0000
        return status, None


@contextmanager
def pacs(**how: Any) -> Iterator[Pacs]:
    """One that runs for a while."""
    running = Pacs()
    running.start(**how)
    try:
        yield running
    finally:
        running.stop()


def forward(to: Pacs | Address, name: str = "pacs", **changes: Any) -> Forward:
    """Settings of one SCP that MPPS is sent on to."""
    address = to.address if isinstance(to, Pacs) else to
    facts = {"connect_timeout_s": 1, "ack_timeout_s": 2, "called": "PACS", **changes}
    return Forward.model_validate({"name": name, "to": str(address), **facts})
